"""A board for tests: a real sshd on a port of the loopback interface, and projects as if built for it."""

import getpass
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.small import run
from toolchain.compiler import compile_model
from toolchain.hardware.board import load_board
from toolchain.project import load
from toolchain.simulation.simulator import Simulator

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
needs_sshd = pytest.mark.skipif(
    (SSHD is None or shutil.which("ssh") is None) and not os.environ.get("CI"),
    reason="sshd is not installed: apt-get install openssh-server openssh-client",
)

MEDDLER = '''
"""Stands between sshd and what it runs: does something to the bytes that come in, at a chosen place."""
import os, signal, subprocess, sys, time
mode, place = sys.argv[1], int(sys.argv[2])
command = ["sh", "-c", os.environ["SSH_ORIGINAL_COMMAND"]]
child = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
seen = 0
while data := os.read(0, 65536):
    if seen <= place < seen + len(data):
        if mode == "flip":
            data = data[: place - seen] + bytes([data[place - seen] ^ 1]) + data[place - seen + 1 :]
        elif mode == "stall":
            parent = os.getppid()
            while os.getppid() == parent:
                time.sleep(0.1)
            sys.exit()
        else:
            if mode == "power":
                os.killpg(child.pid, signal.SIGKILL)
            os.kill(os.getppid(), signal.SIGKILL)
            sys.exit()
    child.stdin.write(data)
    child.stdin.flush()
    seen += len(data)
child.stdin.close()
sys.exit(child.wait())
'''

RUN = '''
"""Stands in for the host program: checks its inputs, writes the outputs that lie beside it."""
import argparse, hashlib, json, os, pathlib, subprocess, sys, time
import numpy as np
parser = argparse.ArgumentParser()
for name in ("--image", "--inputs", "--outputs", "--weights"):
    parser.add_argument(name)
parser.add_argument("--raw", action="store_true")
parser.add_argument("--repeat", type=int, default=1)
options = parser.parse_args()
here = pathlib.Path(__file__).parent
plan = json.loads((here / "plan.json").read_text())
assert options.raw and pathlib.Path(options.image).read_bytes()
if plan["weights"] is not None:
    assert hashlib.sha256(pathlib.Path(options.weights).read_bytes()).hexdigest() == plan["weights"]
def read(path):
    found = np.load(path)
    return [found] if isinstance(found, np.ndarray) else [found[name] for name in sorted(found.files)]
given = read(options.inputs)
rows = len(given[0])
for array, wanted in zip(given, read(here / plan["inputs"]), strict=True):
    assert array.dtype == np.float64 and np.array_equal(array, wanted[:rows])
if plan["sleep"]:
    child = subprocess.Popen(["sleep", str(plan["sleep"])])
    pathlib.Path(plan["mark"]).write_text(str(child.pid))
    child.wait()
if plan["fail"]:
    sys.exit("some line\\nerror: " + plan["fail"])
answers = np.load(here / plan["outputs"])
answers = answers[:rows] if isinstance(answers, np.ndarray) else {name: answers[name][:rows] for name in answers.files}
np.savez(options.outputs, **answers) if isinstance(answers, dict) else np.save(options.outputs, answers)
print("noise of a driver")
frames = rows * options.repeat
print(json.dumps({"build_id": plan["build"], "frames": frames, "seconds": 0.5, "frames_per_second": frames / 0.5}))
'''


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def make_key(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text()


@dataclass
class Board:
    """`root` is a folder for everything; deployments go into `place`."""

    root: Path
    port: int = 0

    @property
    def place(self) -> Path:
        return self.root / "board"

    @property
    def config(self) -> Path:
        return self.root / "ssh_config"

    @property
    def arguments(self) -> list:
        """Of `toolchain deploy`."""
        return [
            "--host", "board", "--ssh-config", self.config, "--directory", self.place, "--python", sys.executable,
        ]  # fmt: skip

    def prepare(self) -> None:
        host, user = make_key(self.root / "host_key"), make_key(self.root / "user_key")
        (self.root / "authorized_keys").write_text(user)
        self.port = free_port()
        self.know(host)
        self.config.write_text(
            f"Host *\n HostName 127.0.0.1\n User {getpass.getuser()}\n Port {self.port}\n IdentitiesOnly yes\n"
            f" IdentityFile {self.root}/user_key\n UserKnownHostsFile {self.root}/known_hosts\n"
            f" GlobalKnownHostsFile /dev/null\n IdentityAgent none\n"
        )

    def know(self, key: str) -> None:
        (self.root / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {key}")

    @contextmanager
    def serve(self, *lines: str, largest_file: int | None = None):
        """An sshd with more lines of configuration; it is stopped by its number, its sessions too."""
        settings = [
            f"Port {self.port}", "ListenAddress 127.0.0.1", f"HostKey {self.root}/host_key", "PidFile none",
            f"AuthorizedKeysFile {self.root}/authorized_keys", "StrictModes no", "PermitRootLogin yes", "UsePAM no",
            "PasswordAuthentication no", "KbdInteractiveAuthentication no", "PrintMotd no", *lines,
        ]  # fmt: skip
        (self.root / "sshd_config").write_text("\n".join(settings) + "\n")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where sshd of root wants to be confined

        server = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(self.root / "sshd_config")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            if largest_file is not None:
                resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (largest_file, largest_file))
            self.wait_for(server)
            yield server
        finally:
            server.terminate()
            server.wait()

    def wait_for(self, server: subprocess.Popen) -> None:
        end = time.monotonic() + 10
        while True:
            assert server.poll() is None, "sshd does not start"
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as one:
                    assert one.recv(4) == b"SSH-"
                    return
            except OSError:
                assert time.monotonic() < end, "sshd does not listen"
                time.sleep(0.05)

    def meddle(self, mode: str, place: int) -> str:
        script = self.root / "meddler.py"
        script.write_text(MEDDLER)
        return f"ForceCommand exec {sys.executable} {script} {mode} {place}"

    @property
    def current(self) -> str | None:
        link = self.place / "current"
        return str(link.readlink()) if link.is_symlink() else None

    @property
    def folders(self) -> list[str]:
        """Deployments that are there, staged ones too."""
        return sorted(p.name for p in self.place.iterdir() if p.name not in {".lock", "current"})

    def wait_until(self, condition) -> None:
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end, self.folders
            time.sleep(0.05)


class Built:
    """A project as `compile` and `build` leave it, with a stand-in for the program on the board."""

    def __init__(self, path: Path, board: str = "pynq-z2", image: int = 1000) -> None:
        self.path = path
        self.project = load(path)
        self.name = next(p.stem for p in (path / "hls/src").glob("*.cpp"))
        flow = load_board(board).flow
        found = re.search(r"BUILD_ID = (0x\w+);", (path / "hls/src/build_id.h").read_text())
        self.build = int(found[1], 16)
        host = path / "host"
        shutil.rmtree(host, ignore_errors=True)
        (host / "c").mkdir(parents=True)
        (host / "c/driver.h").write_text("/* a driver */\n")
        (host / "run.py").write_text(RUN)
        self.describe(board=board, flow=flow)
        out = path / "hls/out"
        out.mkdir(exist_ok=True)
        names = {
            "vivado": ["{}.bit", "{}.hwh"],
            "kria": ["{}.bit", "{}.hwh", "firmware/{}.bit.bin", "firmware/{}.dtbo", "firmware/shell.json"],
            "vitis": ["{}.xclbin"],
            "ip": [],
        }
        (out / "firmware").mkdir(exist_ok=True)
        for k, name in enumerate(names[flow]):
            (out / name.format(self.name)).write_bytes(np.random.default_rng(k).bytes(image if k == 0 else 100))
        self.plan()

    def describe(self, **changes) -> None:
        path = self.path / "host/accelerator.json"
        content = {
            "format": "dct-toolchain accelerator", "version": 1, "name": self.name, "build_id": self.build,
            "clock_mhz": 100.0, "loaded": False,
        }  # fmt: skip
        if path.is_file():
            content = json.loads(path.read_text())
        path.write_text(json.dumps(content | changes))

    def plan(self, inputs=None, change=None, weights=None, **more) -> None:
        """What run.py will meet and give: all outputs of the reference engine, after `change`."""
        from toolchain.deployment.deploy import project_rows

        host = self.path / "host"
        rows = inputs if inputs is not None else project_rows(self.project)
        outputs = Simulator(self.project.graph, "reference").raw_outputs(rows)
        if change:
            change(outputs)
        names = {}
        for kind, arrays in (("inputs", rows), ("outputs", outputs)):
            for old in host.glob(f"expected_{kind}.*"):
                old.unlink()
            file = host / f"expected_{kind}.{'npy' if len(arrays) == 1 else 'npz'}"
            if len(arrays) == 1:
                np.save(file, next(iter(arrays.values())))
            else:
                np.savez(file, **arrays)
            names[kind] = file.name
        plan = {"build": self.build, "sleep": 0, "mark": "", "fail": "", "weights": weights, **names} | more
        (host / "plan.json").write_text(json.dumps(plan))


def compiled(model: Path, folder: Path, board: str = "pynq-z2") -> Path:
    compile_model(model, folder, calibrate=calibration(model), board=board)
    return folder


def calibration(model: Path):
    import onnx

    rng, found = np.random.default_rng(1), {}
    for one in onnx.load(model).graph.input:
        shape = [d.dim_value for d in one.type.tensor_type.shape.dim][1:]
        found[one.name] = rng.normal(size=(12, *shape)).astype(np.float32)
    return found


def alive(number: int) -> bool:
    """Is there a process of this number that is no zombie?"""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def errors(capfd):
    text = capfd.readouterr().err
    assert "Traceback" not in text
    assert text.startswith("error: ")
    assert len(text.splitlines()) == 1
    return text


def deployed(board, built, capfd):
    """One that passes, so that there is something to lose."""
    with board.serve():
        assert run("deploy", built.path, *board.arguments) == 0
    capfd.readouterr()
    return board.current
