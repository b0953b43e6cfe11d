"""What `toolchain deploy` runs on the board for as long as the connection stands. Python 3.8, standard library only.

`remote.py` sends this file and `board_firmware.py` over ssh to the board's own Python. Requests are JSON lines on
standard input, answers JSON lines on standard output; file contents follow as plain bytes. When standard input ends
before `commit`, whatever the reason, the board is put back as it was: no process left, nothing staged, `current` as
before, and the firmware too.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from toolchain.deployment.board_firmware import TOOL_SECONDS, Fault, Firmware

CHUNK = 1 << 16
OUTPUT_BYTES = 1 << 16
"""How much of what a program prints is sent back: its end."""
LOCK_SECONDS = 5.0
"""A deployment that has just been interrupted may still be cleaning up."""
CONTENTS = "contents"
"""The key of bytes that follow an answer."""
LEFT = re.compile(r"[A-Za-z]\w*-[0-9a-f]{8}\.partial-\w+|\.current-\w+")
"""Names of what a deployment without an end leaves."""


class Gone(Exception):
    """The other end went away."""


class Agent:
    """One deployment. Methods named `do_x` answer the request x."""

    def __init__(self, source: int, target: int) -> None:
        self.source, self.target = source, target
        self.buffer = b""
        self.staging: Path | None = None
        self.lock: int | None = None
        self.firmware: Firmware | None = None

    # The protocol

    def serve(self) -> None:
        """Answers requests until the input ends, then cleans up."""
        try:
            self.send({"hello": 1, "python": platform.python_version(), "machine": platform.machine()})
            while True:
                self.answer(json.loads(self.line()))
        except (Gone, BrokenPipeError):
            pass
        finally:
            self.clean_up()

    def answer(self, request: dict[str, Any]) -> None:
        """One request, one answer: an error of the system's is an answer too."""
        try:
            method: Callable[[dict[str, Any]], dict[str, Any]] = getattr(self, "do_" + request["do"])
            found = method(request)
            data = found.pop(CONTENTS, b"")
            self.send({"ok": found}, data)
        except Fault as fault:
            self.send({"error": str(fault), "kind": fault.kind})
        except BrokenPipeError:
            raise
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            self.send({"error": place + (error.strerror or str(error)), "kind": "board"})

    def send(self, message: dict[str, Any], *contents: bytes) -> None:
        for part in (json.dumps(message).encode() + b"\n", *contents):
            view = memoryview(part)
            while view:
                view = view[os.write(self.target, view) :]

    def more(self) -> bytes:
        """The next bytes that come. Raises Gone at the end."""
        data = os.read(self.source, CHUNK)
        if not data:
            raise Gone
        return data

    def line(self) -> bytes:
        while b"\n" not in self.buffer:
            self.buffer += self.more()
        found, _, self.buffer = self.buffer.partition(b"\n")
        return found

    def take(self, size: int, write: Callable[[bytes], Any]) -> None:
        """Hands the next `size` bytes on, in pieces."""
        while size:
            data = self.buffer or self.more()
            self.buffer = data[size:]
            write(data[:size])
            size -= len(data[:size])

    # Files

    def do_open(self, request: dict[str, Any]) -> dict[str, Any]:
        """Makes the staging folder, after removing what earlier deployments left."""
        base = Path.home()
        if os.environ.get("SUDO_USER"):  # sudo may have changed HOME
            base = Path("~" + os.environ["SUDO_USER"]).expanduser()
        base = base / request["directory"]
        base.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.take_lock(base / ".lock")
        swept = 0
        for path in base.iterdir():
            if LEFT.fullmatch(path.name):
                remove(path)
                swept += 1
        prefix = f"{request['name']}-{request['build']}.partial-"
        self.staging = Path(tempfile.mkdtemp(prefix=prefix, dir=str(base)))
        self.staging.chmod(0o755)
        (self.staging / "run").mkdir()
        return {"staging": str(self.staging), "swept": swept, "free": shutil.disk_usage(str(base)).free}

    def take_lock(self, path: Path) -> None:
        """One deployment at a time: a lock that the system drops when this process ends, however it does."""
        self.lock = os.open(str(path), os.O_RDWR | os.O_CREAT, 0o644)
        end = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > end:
                    holder = os.read(self.lock, 32).decode(errors="replace").strip()
                    raise Fault("another deployment is under way on the board, process " + holder) from None
                self.nap()
        os.ftruncate(self.lock, 0)
        os.write(self.lock, str(os.getpid()).encode())

    def do_numpy(self, request: dict[str, Any]) -> dict[str, Any]:
        """The version of the NumPy that run.py will find."""
        script = "import numpy; print(numpy.__version__)"
        code, out, err = self.call([sys.executable, "-c", script], TOOL_SECONDS)
        if code:
            last = (err.strip().splitlines() or ["no message"])[-1]
            raise Fault(f"{sys.executable} has no NumPy: {last}", "tool")
        return {"numpy": out.strip()}

    def do_put(self, request: dict[str, Any]) -> dict[str, Any]:
        """Stores a file. Its contents are taken off the line even when they cannot be stored."""
        size = int(request["size"])
        trouble: list[OSError] = []
        path = self.inside(request["name"])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(str(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        except OSError as error:
            self.take(size, len)  # off the line
            raise Fault(cannot_store(request["name"], error)) from None

        def write(data: bytes) -> None:
            view = memoryview(data)
            while view and not trouble:
                try:
                    view = view[os.write(file, view) :]
                except OSError as error:
                    trouble.append(error)

        try:
            self.take(size, write)
            if not trouble:
                os.fsync(file)  # a full disk may show only now
        except OSError as error:
            trouble.append(error)
        finally:
            os.close(file)
        if trouble:
            raise Fault(cannot_store(request["name"], trouble[0]))
        return {}

    def do_verify(self, request: dict[str, Any]) -> dict[str, Any]:
        """The SHA-256 of every file, read back from the disk."""
        return {"sha256": {name: digest(self.inside(name)) for name in request["names"]}}

    def do_get(self, request: dict[str, Any]) -> dict[str, Any]:
        """A file, its contents behind the answer."""
        path = self.inside(request["name"])
        if not path.is_file():
            raise Fault(f"run.py has written no {path.name}", "tool")
        data = path.read_bytes()
        if len(data) > request["most"]:
            raise Fault(f"{path.name} has {len(data)} bytes, at most {request['most']} are expected")
        return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), CONTENTS: data}

    def inside(self, name: str) -> Path:
        if self.staging is None or name.startswith("/") or ".." in name.split("/"):
            raise Fault("no place for " + name)
        return self.staging / name

    # Programs

    def do_run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Runs a program of this Python in the staging folder, no longer than `seconds`."""
        began = time.monotonic()
        code, out, err = self.call([sys.executable, *request["argv"]], request["seconds"])
        return {"code": code, "stdout": out, "stderr": err, "seconds": time.monotonic() - began}

    def call(self, argv: list[str], seconds: float) -> Any:
        """Exit code, output and errors. Raises Fault after `seconds`, Gone when the other end goes away meanwhile."""
        folder = str(self.staging / "run") if self.staging else None
        environment = dict(os.environ, PYTHONDONTWRITEBYTECODE="1", PYTHONUNBUFFERED="1")
        with tempfile.TemporaryFile(dir=folder) as out, tempfile.TemporaryFile(dir=folder) as err:
            try:
                child = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    cwd=str(self.staging) if self.staging else None,
                    env=environment,
                    start_new_session=True,
                )
            except OSError as error:
                raise Fault(f"{argv[0]} cannot be started: {error.strerror}", "tool") from None
            try:
                end = time.monotonic() + seconds
                while child.poll() is None:
                    if time.monotonic() > end:
                        text = f"{Path(argv[0]).name} has not ended after {seconds:g} s"
                        raise Fault(text, "timeout")
                    self.nap()
            finally:
                stop(child)
            return child.returncode, tail(out), tail(err)

    def nap(self) -> None:
        """Waits a little. Raises Gone when the other end went away."""
        if select.select([self.source], [], [], 0.05)[0]:
            self.buffer += self.more()

    # Kria

    def do_load_firmware(self, request: dict[str, Any]) -> dict[str, Any]:
        """Installs an application for `xmutil` and loads it."""
        if self.staging is None:
            raise Fault("nothing is staged")
        self.firmware = Firmware(Path(request["folder"]), request["app"])
        return self.firmware.install([self.inside(name) for name in request["names"]])

    # The end

    def do_commit(self, request: dict[str, Any]) -> dict[str, Any]:
        """Gives the deployment its name, makes `current` point to it, removes older ones of the same network."""
        if self.staging is None:
            raise Fault("nothing is staged")
        shutil.rmtree(str(self.staging / "run"))
        base, (stem, _, suffix) = self.staging.parent, self.staging.name.partition(".partial-")
        final = base / f"{stem}-{suffix}"
        link = base / (".current-" + suffix)
        link.symlink_to(final.name)
        try:
            self.staging.rename(final)
            try:
                link.replace(base / "current")
            except OSError:
                final.rename(self.staging)
                raise
        except OSError:
            link.unlink()
            raise
        self.staging = None
        flush_folder(base)
        if self.firmware:
            self.firmware.accept()
            self.firmware = None
        removed = 0
        older = re.compile(re.escape(stem.rpartition("-")[0]) + r"-[0-9a-f]{8}-\w+")
        for path in base.iterdir() if not request["keep"] else ():
            if older.fullmatch(path.name) and path != final and not path.is_symlink():
                shutil.rmtree(str(path), ignore_errors=True)
                removed += 1
        return {"path": str(final), "removed": removed}

    def clean_up(self) -> None:
        """Puts the board back as it was before a deployment that did not end well."""
        try:
            if self.firmware:
                self.firmware.undo()
        finally:
            if self.staging:
                shutil.rmtree(str(self.staging), ignore_errors=True)
            if self.lock is not None:
                os.close(self.lock)


def remove(path: Path) -> None:
    """A folder or a link, as far as that goes."""
    if path.is_symlink():
        with contextlib.suppress(OSError):
            path.unlink()
    else:
        shutil.rmtree(str(path), ignore_errors=True)


def cannot_store(name: str, error: OSError) -> str:
    """What to say about a full disk and the like."""
    return f"the board cannot store {name}: {error.strerror}"


def digest(path: Path) -> str:
    """SHA-256 of a file as the disk has it: what the system remembers of it is dropped first."""
    if not path.is_file():
        return ""
    found = hashlib.sha256()
    with path.open("rb") as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while True:
            data = file.read(CHUNK)
            if not data:
                return found.hexdigest()
            found.update(data)


def stop(child: Any) -> None:
    """Ends a program and all it started: first politely, for it may have hardware to put to rest."""
    for number, seconds in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(seconds)
            return


def tail(file: Any) -> str:
    """The last OUTPUT_BYTES of an open file."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - OUTPUT_BYTES))
    data: bytes = file.read()
    return data.decode(errors="replace")


def flush_folder(path: Path) -> None:
    """Names on the disk, so that a power failure finds the old state or the new one."""
    file = os.open(str(path), os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def end(*_: Any) -> NoReturn:
    """A signal's handler: leaves through `finally`."""
    raise Gone


def main() -> None:
    """Serves one deployment on standard input and output."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the end of the input says it, and cleaning up takes a moment
    signal.signal(signal.SIGTERM, end)
    Agent(0, 1).serve()
