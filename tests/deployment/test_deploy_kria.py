"""Deployment to a Kria board: firmware is installed and loaded, and put back when anything goes wrong afterwards."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.deployment.board import Board, Built, compiled, needs_sshd
from tests.small import dense
from toolchain.deployment.board_firmware import Fault, Firmware
from toolchain.deployment.deploy import Options, deploy_project
from toolchain.deployment.remote import Access, Target
from toolchain.errors import BoardError, MismatchError, ToolError

pytestmark = needs_sshd

XMUTIL = '''#!{python}
"""Stands in for xmutil and dfx-mgr: prints what they print, and ends with 0 when loading fails, as they do."""
import json, pathlib, sys
root = pathlib.Path("{root}")
state = root / "state.json"
found = json.loads(state.read_text())
found["calls"].append(sys.argv[1:])
apps = sorted(p.name for p in (root / "firmware/xilinx").iterdir() if (p / "shell.json").is_file())
if sys.argv[1] == "listapps":
    print("%32s%32s%15s%10s%20s\\n" % ("Accelerator", "Base", "Type", "#slots", "Active_slot"))
    for app in apps:
        print("%32s%32s%15s%10d%20s" % (app, app, "XRT_FLAT", 1, "0," if app == found["loaded"] else -1))
elif sys.argv[1] == "unloadapp":
    found["loaded"] = None
    print("remove from slot 0 returns: 0 (Ok)")
elif sys.argv[1] == "loadapp":
    folder = root / "firmware/xilinx" / sys.argv[2]
    broken = found["broken"] and (folder / (sys.argv[2] + ".dtbo")).read_bytes() == bytes(found["broken"])
    if found["loaded"] or sys.argv[2] not in apps or broken:
        print("load Error: -1")
    else:
        found["loaded"] = sys.argv[2]
        print(sys.argv[2] + ": loaded to slot 0")
state.write_text(json.dumps(found))
'''


class Kria:
    """A board with the application of the starter kit loaded, and a version of our own installed before."""

    def __init__(self, board: Board, built: Built) -> None:
        self.board, self.built = board, built
        self.firmware = board.root / "firmware/xilinx"
        for app in ("k26-starter-kits", built.name):
            (self.firmware / app).mkdir(parents=True)
            (self.firmware / app / "shell.json").write_text(app)
            (self.firmware / app / f"{app}.dtbo").write_bytes(b"old")
        self.state = board.root / "state.json"
        self.set(loaded="k26-starter-kits", broken=None, calls=[])
        tools = board.root / "bin"
        tools.mkdir()
        (tools / "xmutil").write_text(XMUTIL.replace("{python}", sys.executable).replace("{root}", str(board.root)))
        # The login shell sets PATH anew, so that it is the program called Python which adds to it.
        self.python = tools / "python"
        self.python.write_text(f'#!/bin/sh\nPATH={tools}:$PATH exec {sys.executable} "$@"\n')
        for tool in tools.iterdir():
            tool.chmod(0o755)

    def set(self, **changes) -> None:
        found = json.loads(self.state.read_text()) if self.state.is_file() else {}
        self.state.write_text(json.dumps(found | changes))

    def get(self, key: str):
        return json.loads(self.state.read_text())[key]

    @property
    def installed(self) -> bytes:
        return (self.firmware / self.built.name / f"{self.built.name}.dtbo").read_bytes()

    @property
    def new(self) -> bytes:
        return (self.built.path / f"hls/out/firmware/{self.built.name}.dtbo").read_bytes()

    def deploy(self, **options):
        access = Access(Target("board"), self.board.config, str(self.python))
        chosen = Options(str(self.board.place), firmware=str(self.firmware), **options)
        lines: list[str] = []
        with self.board.serve():
            deploy_project(self.built.path, access, options=chosen, say=lines.append)
        return lines

    def check_is_as_before(self, loaded: str) -> None:
        self.board.wait_until(lambda: self.get("loaded") == loaded and self.board.folders == [])
        assert self.installed == b"old"
        assert sorted(p.name for p in self.firmware.iterdir()) == sorted(["k26-starter-kits", self.built.name])
        assert [p.name for p in self.firmware.parent.iterdir()] == ["xilinx"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    root = tmp_path_factory.mktemp("kria")
    return compiled(dense(root / "dense.onnx"), root / "dense", "kv260")


@pytest.fixture
def kria(model, tmp_path):
    board = Board(tmp_path)
    board.prepare()
    return Kria(board, Built(shutil.copytree(model, tmp_path / "project"), "kv260"))


def test_firmware_is_installed_and_loaded(kria):
    lines = kria.deploy()
    assert any("is loaded; before it k26-starter-kits" in line for line in lines)
    assert kria.get("loaded") == kria.built.name
    assert kria.installed == kria.new
    names = {p.name for p in (kria.firmware / kria.built.name).iterdir()}
    assert names == {f"{kria.built.name}.bit.bin", f"{kria.built.name}.dtbo", "shell.json"}
    assert [p.name for p in kria.firmware.parent.iterdir()] == ["xilinx"]
    # PYNQ would apply a device tree that lies beside the bitstream, a second time.
    assert not (kria.board.place / "current" / f"{kria.built.name}.dtbo").exists()
    assert (kria.board.place / f"current/firmware/{kria.built.name}.dtbo").read_bytes() == kria.new
    calls = [call for call in kria.get("calls") if call[0] != "listapps"]
    assert calls == [["unloadapp"], ["loadapp", kria.built.name]]


@pytest.mark.parametrize("own", [False, True])
def test_a_mismatch_puts_the_firmware_back(kria, own):
    loaded = kria.built.name if own else "k26-starter-kits"
    kria.set(loaded=loaded)

    def change(outputs):
        outputs["second"][0, 0] += 1

    kria.built.plan(change=change)
    with pytest.raises(MismatchError):
        kria.deploy()
    kria.check_is_as_before(loaded)


def test_an_application_that_does_not_load(kria):
    kria.set(broken=list(kria.new))
    with pytest.raises(ToolError, match=r"xmutil loadapp \w+ failed: load Error: -1"):
        kria.deploy()
    kria.check_is_as_before("k26-starter-kits")


def test_a_run_without_an_end_puts_the_firmware_back(kria, tmp_path):
    kria.built.plan(sleep=50, mark=str(tmp_path / "mark"))
    with pytest.raises(ToolError, match="has not ended after 1 s"):
        kria.deploy(seconds=1)
    kria.check_is_as_before("k26-starter-kits")


def test_no_xmutil(kria):
    (kria.board.root / "bin/xmutil").unlink()
    with pytest.raises(ToolError, match="xmutil cannot be started"):
        kria.deploy()
    assert kria.installed == b"old"


def test_firmware_needs_root(kria):
    shutil.rmtree(kria.firmware.parent)
    with pytest.raises(BoardError, match=r"installing firmware needs root. Deploy with --sudo"):
        kria.deploy()


def test_what_a_power_failure_left_is_put_back(kria):
    """The folder of before waited beside the new one; the next installation begins from it."""
    kria.firmware.joinpath(kria.built.name).rename(kria.firmware.parent / f".dct-toolchain-old-{kria.built.name}")
    half = kria.firmware.parent / f".dct-toolchain-new-{kria.built.name}"
    half.mkdir()
    (half / "shell.json").write_text("")
    firmware = Firmware(kria.firmware, kria.built.name)
    with pytest.raises(Fault, match="xmutil cannot be started"):
        firmware.install([Path("x")])
    assert kria.installed == b"old"
    assert [p.name for p in kria.firmware.parent.iterdir()] == ["xilinx"]
