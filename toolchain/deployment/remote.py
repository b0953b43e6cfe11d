"""A connection to a board: the system's ssh client, and `board_agent.py` at the other end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from toolchain.errors import BoardError, ConfigurationError, ToolchainError, ToolError

CHUNK = 1 << 16
CONNECT_SECONDS = 15
ALIVE_SECONDS, ALIVE_COUNT = 10, 3
"""ssh asks the board every so many seconds whether it is there, and gives up after so many questions."""
ANSWER_SECONDS = 300.0
"""The longest that the board may take over a request; programs and the time they may take come on top."""
CLEAN_UP_SECONDS = 20.0
"""How long a connection that is closed early stays open, so that the board can say that it has cleaned up."""
LINE_BYTES = 1 << 20
OPTIONS = {
    "BatchMode": "yes",  # nothing is asked: a password or an unknown host key is an error
    "ConnectTimeout": str(CONNECT_SECONDS),
    "ServerAliveInterval": str(ALIVE_SECONDS),
    "ServerAliveCountMax": str(ALIVE_COUNT),
    "LogLevel": "INFO",
    "ControlMaster": "no",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
}
"""What the user's configuration must not change. Checking host keys is left to it, and never switched off."""
DOING = {
    "open": "looking for room",
    "numpy": "looking for NumPy",
    "verify": "checking what was copied",
    "load_firmware": "loading the firmware",
    "run": "running",
    "get": "fetching outputs",
    "commit": "switching over",
}
"""The requests, in words."""
AGENT = ("board_firmware", "board_agent")
STARTER = (
    "import sys, json, types\n"
    "for name, text in json.loads(sys.stdin.buffer.readline()):\n"
    "    module = sys.modules[name] = types.ModuleType(name)\n"
    "    exec(compile(text, name, 'exec'), module.__dict__)\n"
    "module.main()"
)
"""Takes the modules of the agent, the one with `main` last, and runs them under their names here."""
USER = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
HOST = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
TARGET = re.compile(
    rf"(?:(?P<user>{USER})@)?(?:(?P<host>{HOST})|\[(?P<address>[0-9A-Fa-f:.]+(?:%\w+)?)\])(?::(?P<port>[0-9]{{1,5}}))?"
)


@dataclass(frozen=True)
class Target:
    """Where a board is: what `--host` says."""

    destination: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `[USER@]HOST[:PORT]`; an IPv6 address stands in brackets. Raises ConfigurationError."""
        found = TARGET.fullmatch(text)
        port = int(found["port"]) if found and found["port"] else None
        if found is None or (port is not None and not 0 < port < 1 << 16):
            raise ConfigurationError(f"--host {text!r} is not understood", fix="Write USER@BOARD or USER@BOARD:PORT.")
        user = f"{found['user']}@" if found["user"] else ""
        return cls(user + (found["host"] or found["address"]), port)

    def __str__(self) -> str:
        return self.destination if self.port is None else f"{self.destination}:{self.port}"


@dataclass(frozen=True)
class Access:
    """How a board is reached.

    `config` is a file in the place of the user's ssh configuration; `python` runs there, as root with `sudo`.
    """

    target: Target
    config: Path | None = None
    python: str = "python3"
    sudo: bool = False


def command(access: Access) -> list[str]:
    """The argv of ssh.

    ssh hands one string to the user's shell, whichever that is. It starts a login shell: boards set up Python and XRT
    in /etc/profile.d, some in bash's language.
    """
    tool = shutil.which("ssh")
    if tool is None:
        raise ToolError("ssh is not installed", fix="On Debian: apt-get install openssh-client")
    argv = [tool, "-T"]
    if access.config is not None:
        argv += ["-F", str(access.config)]
    for name, value in OPTIONS.items():
        argv += ["-o", f"{name}={value}"]
    if access.target.port is not None:
        argv += ["-p", str(access.target.port)]
    inner = f"exec {shlex.quote(access.python)} -u -c {shlex.quote(f'exec({STARTER!r})')}"
    login = (
        f"if command -v bash >/dev/null; then exec bash -lc {shlex.quote(inner)}; fi; exec sh -lc {shlex.quote(inner)}"
    )
    remote = f"{'sudo -n ' if access.sudo else ''}sh -c {shlex.quote(login)}"
    return [*argv, "--", access.target.destination, remote]


class Connection:
    """A connection that stands, with the agent at its other end.

    Closing it, or losing it, makes the board clean up. Every method raises BoardError when the connection is lost.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close
        self._buffer = bytearray()
        try:
            # A session of its own: Ctrl-C is for us, we end the connection in order.
            self._ssh = subprocess.Popen(
                command(access), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, bufsize=0,
                start_new_session=True,
            )  # fmt: skip
        except BaseException:
            self._log.close()
            raise
        assert self._ssh.stdin is not None
        assert self._ssh.stdout is not None
        self._input, self._output = self._ssh.stdin, self._ssh.stdout
        self.hello: Mapping[str, Any] = {}

    def __enter__(self) -> Self:
        try:
            self.hello = self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def request(self, do: str, *, patience: float = ANSWER_SECONDS, **arguments: Any) -> dict[str, Any]:
        """Sends a request and gives its answer, for which the board may take `patience` seconds."""
        self._write(json.dumps({"do": do, **arguments}).encode() + b"\n", DOING[do])
        return self._answer(DOING[do], patience)

    def put(self, name: str, data: bytes, progress: Callable[[int], None]) -> None:
        """Stores a file in the staging folder; `progress` gets the bytes sent so far."""
        self._write(json.dumps({"do": "put", "name": name, "size": len(data)}).encode() + b"\n", f"copying {name}")
        view = memoryview(data)
        for start in range(0, len(data), CHUNK):
            self._write(view[start : start + CHUNK], f"copying {name}")
            progress(min(start + CHUNK, len(data)))
        self._answer(f"copying {name}", ANSWER_SECONDS)

    def get(self, name: str, most: int) -> tuple[bytes, str]:
        """A file of the staging folder of at most `most` bytes, and its SHA-256 as the board found it."""
        answer = self.request("get", name=name, most=most)
        size = answer["size"]
        if not isinstance(size, int) or not 0 <= size <= most:
            raise BoardError("answered something that is not understood", where=str(self.access.target))
        end = time.monotonic() + ANSWER_SECONDS
        while len(self._buffer) < size:
            self._buffer += self._read(DOING["get"], end)
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data, str(answer["sha256"])

    def close(self) -> None:
        """Ends the connection, giving the board time to clean up."""
        try:
            with contextlib.suppress(OSError):
                self._input.close()
            if self.hello:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._ssh.wait(CLEAN_UP_SECONDS)
        finally:
            if self._ssh.poll() is None:
                self._ssh.kill()
                self._ssh.wait()
            self._output.close()
            self._log.close()

    def _start(self) -> dict[str, Any]:
        """Sends the agent and waits until it says hello; what login scripts print before is left out."""
        folder = Path(__file__).parent
        modules = [(f"toolchain.deployment.{name}", (folder / f"{name}.py").read_text()) for name in AGENT]
        self._write(json.dumps(modules).encode() + b"\n", "connecting")
        end = time.monotonic() + CONNECT_SECONDS + ALIVE_SECONDS * ALIVE_COUNT
        while True:
            try:
                message = json.loads(self._line("connecting", end))
            except ValueError:
                continue
            if isinstance(message, dict) and message.get("hello") == 1:
                return message

    def _answer(self, doing: str, seconds: float) -> dict[str, Any]:
        line = self._line(doing, time.monotonic() + seconds)
        try:
            message = json.loads(line)
            if "error" in message:
                raise self._fault(str(message["error"]), message.get("kind"))
            ok = message["ok"]
            if isinstance(ok, dict):
                return ok
        except (ValueError, TypeError, KeyError):
            pass
        raise BoardError("answered something that is not understood", where=str(self.access.target))

    def _fault(self, text: str, kind: object) -> ToolchainError:
        where = str(self.access.target)
        match kind:
            case "tool":
                return ToolError(text, where=where)
            case "timeout":
                return ToolError(text, where=where, fix="Give it longer with --timeout, or look at the board.")
            case "root":
                return BoardError(text, where=where, fix="Deploy with --sudo, or as root@BOARD.")
        return BoardError(text, where=where)

    def _line(self, doing: str, end: float) -> bytes:
        while b"\n" not in self._buffer:
            if len(self._buffer) > LINE_BYTES:
                raise BoardError("answered something that is not understood", where=str(self.access.target))
            self._buffer += self._read(doing, end)
        line, _, self._buffer = self._buffer.partition(b"\n")
        return bytes(line)

    def _read(self, doing: str, end: float) -> bytes:
        """The next bytes from the board, before the moment `end`."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            if not selector.select(max(0.0, end - time.monotonic())):
                raise ToolError(f"the board does not answer ({doing})", where=str(self.access.target))
        data = os.read(self._output.fileno(), CHUNK)
        if not data:
            raise self._lost(doing)
        return data

    def _write(self, data: bytes | memoryview, doing: str) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[self._input.write(view) or 0 :]
        except BrokenPipeError:
            raise self._lost(doing) from None

    def _lost(self, doing: str) -> ToolchainError:
        """Why the connection is gone: what ssh says, in our words where they help."""
        try:
            code = self._ssh.wait(5)
        except subprocess.TimeoutExpired:
            code = None
        self._log.seek(0)
        text = self._log.read().decode(errors="replace")
        return diagnosis(self.access, text, code, doing if self.hello else None)


def diagnosis(access: Access, text: str, code: int | None, doing: str | None) -> ToolchainError:
    """The error for a connection that ended; `text` is what ssh and the board printed.

    `doing` is what was going on, None while connecting.
    """
    where, name = str(access.target), access.target.destination.rpartition("@")[2]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else f"ssh ended with exit code {code}"
    if doing is not None:
        before = "`current` on the board is as it was" if doing != DOING["commit"] else "The switch may be made already"
        fix = f"{before}: deploy again."
        what = "the connection was lost" if code in (255, None) else "our program on the board ended"
        return BoardError(f"{what} ({doing}): {last}", where=where, fix=fix)
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in text:
        advised = re.search(r'-R "([^"]+)"', text)  # ssh knows under which name and port the key is stored
        return BoardError(
            "its host key is not the one that is known: it is another machine, or was installed anew",
            where=where,
            fix=f"Only if you know why: ssh-keygen -R {shlex.quote(advised[1] if advised else name)}, "
            "then connect once with ssh and check the key.",
        )
    if "Host key verification failed" in text:
        return BoardError(
            "its host key is not known", where=where, fix="Connect once with ssh and check the key that it shows."
        )
    if "Permission denied" in text and code == 255:
        return BoardError(
            "does not let us in: deploying asks for no password", where=where, fix="Install your key with ssh-copy-id."
        )
    if access.sudo and any(line.startswith("sudo:") for line in lines):
        return BoardError(last, where=where, fix="Let the user sudo without a password there, or deploy as root@BOARD.")
    if code == 127:
        return ToolError(f"{last}", where=where, fix="The board needs Python 3.8 or newer; name it with --python.")
    if code == 255:
        return BoardError(f"cannot be reached: {last}", where=where)
    return ToolError(f"Python does not start on the board: {last}", where=where, fix="Name another with --python.")
