"""`toolchain build` against stand-ins for the vendor's tools: order, logs, resuming, errors, results in the report."""

import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from tests.deployment import fakes
from tests.deployment.fakes import calls, install
from tests.deployment.test_flow import needs_dtc
from tests.verification.networks import generate
from toolchain.deployment.build import build_project
from toolchain.deployment.vendor_run import ADVICE, advice_for, errors_of
from toolchain.errors import ConfigurationError, MismatchError, ModelError, ToolError
from toolchain.project import load, sealed

BOARDS = ("pynq-z2", "kv260", "u250", "vck190", "arty-a7-100t")
OLD, NEW = "2022.1", "2024.2"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("build")
    return {board: generate("vector", root / board, board).parent for board in BOARDS}


@pytest.fixture
def project(made, tmp_path):
    return lambda board="pynq-z2": Path(shutil.copytree(made[board], tmp_path / board))


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A folder of stand-ins that is all there is on PATH, but for dtc, make and the compiler."""
    folder, system = tmp_path / "tools", tmp_path / "system"
    folder.mkdir()
    system.mkdir()
    for name in ("dtc", "make", "g++", "python3", "sh", "mkdir", "as", "ld"):
        if found := shutil.which(name):
            (system / name).symlink_to(found)
    monkeypatch.setenv("PATH", f"{folder}:{system}")
    return folder


def build(path: Path, stage: str) -> str:
    """Runs the command and returns what it prints."""
    said = io.StringIO()
    build_project(path, stage, Console(file=said, width=200, markup=False, highlight=False))
    return said.getvalue()


def stages(folder: Path) -> list[str]:
    return [call["STAGE"] or call["MOVER"] or call["name"] for call in calls(folder)]


def equip(folder: Path, *names: str, version: str = OLD) -> None:
    for name in names:
        install(folder, name, version)


def patch(tool: Path, report: str, old: str, new: str) -> None:
    """Lets a stand-in leave another report."""
    assert old in getattr(fakes, report)
    change = f"import tests.deployment.fakes as f\nf.{report} = f.{report}.replace({old!r}, {new!r})\nmain("
    tool.write_text(tool.read_text().replace("main(", change, 1))


# ------------------------------------------------------------------------------------------------------ order, report


def test_synthesis_goes_into_the_report(project, bench):
    equip(bench, "vitis_hls")
    path = project()
    before = load(path).report
    said = build(path, "csynth")
    assert "[1/1] csynth: vitis_hls 2022.1, log hls/out/logs/csynth.log" in said
    assert f"cycles a frame: 131, modelled {before['hardware']['interval_cycles']}" in said
    (call,) = calls(bench)
    assert call["argv"] == ["-f", "run_hls.tcl"]
    assert (call["STAGE"], call["RESUME"], call["cwd"]) == ("csynth", "0", str(path / "hls"))
    report = load(path).report
    assert {**report, "vendor": None} == {**before, "vendor": None}
    assert report["vendor"] == {
        "csynth": {
            "tool": "vitis_hls 2022.1", "clock_ns": 10.0, "estimated_clock_ns": 7.123, "latency_cycles": 420,
            "interval_cycles": 131, "dsp": 12, "bram36": 2.5, "uram": 0, "lut": 3456, "ff": 2345,
            "registers_checked": True,
        }
    }  # fmt: skip
    assert json.loads((path / "hls/out/vendor.json").read_text()) == report["vendor"]
    assert not list(path.rglob("*.new"))


def test_a_finished_stage_is_not_repeated(project, bench):
    equip(bench, "vitis_hls")
    path = project()
    build(path, "csynth")
    assert "[1/1] csynth: was done before" in build(path, "csynth")
    assert len(calls(bench)) == 1
    said = build(path, "cosim")
    assert "[1/2] csynth: was done before" in said
    assert "[2/2] cosim: done" in said
    assert (calls(bench)[1]["STAGE"], calls(bench)[1]["RESUME"]) == ("cosim", "1")
    assert load(path).report["vendor"]["cosim"]["latency_cycles"] == 512
    build(path, "ip")
    assert stages(bench) == ["csynth", "cosim", "ip"]


@pytest.mark.parametrize("change", ["source", "output", "length", "tool", "stamp"])
def test_what_changed_is_done_again(project, bench, change):
    equip(bench, "vitis_hls")
    path = project()
    build(path, "ip")
    if change == "source":
        source = path / "hls/src/configs.h"
        source.write_text(source.read_text() + "// more\n")
    elif change == "tool":
        equip(bench, "vitis_hls", version="2023.1")
    elif change == "output":
        (path / "hls/vitis_hls/solution/syn/report/csynth.xml").unlink()
    elif change == "length":
        (path / "hls/vitis_hls/solution/syn/report/csynth.xml").write_text("<profile/>")
    else:
        (path / "hls/out/stamps/csynth.json").write_text("[]")
    build(path, "ip")
    # The core was exported from another synthesis, which has removed it.
    assert stages(bench) == ["csynth", "ip", "csynth", "ip"]


def test_another_version_of_one_tool_reaches_all_steps_behind_it(project, bench):
    equip(bench, "vitis_hls", "vivado")
    path = project()
    build(path, "bitstream")
    equip(bench, "vivado", version="2023.2")
    build(path, "bitstream")
    assert stages(bench)[3:] == ["vivado"]
    equip(bench, "vitis_hls", version="2023.2")
    build(path, "bitstream")
    assert stages(bench)[4:] == ["csynth", "ip", "vivado"]


def test_bitstream_of_a_zynq(project, bench):
    equip(bench, "vitis_hls", "vivado")
    path = project()
    said = build(path, "bitstream")
    assert stages(bench) == ["csynth", "ip", "vivado"]
    argv = calls(bench)[2]["argv"]
    assert argv == ["-mode", "batch", "-nojournal", "-log", "out/logs/vivado.log", "-source", "flow/system.tcl"]
    assert int(calls(bench)[2]["JOBS"]) >= 1
    assert "      block design\n      Placer\n" in said
    assert "      LUT: 8123 in the whole system, modelled " in said
    assert "worst setup slack: 0.412 ns" in said
    found = load(path).report["vendor"]["implementation"]
    assert found == {
        "tool": "vivado 2022.1", "lut": 8123, "ff": 9876, "bram36": 4.5, "uram": None, "dsp": 12,
        "setup_slack_ns": 0.412, "hold_slack_ns": 0.017,
    }  # fmt: skip
    assert {path.name for path in (path / "hls/out").glob("vector.*")} == {"vector.bit", "vector.hwh"}
    assert (path / "hls/out/xsa/vector.xsa").is_file()  # PYNQ takes one that lies beside the bitstream
    build(path, "bitstream")
    assert len(calls(bench)) == 3


@needs_dtc
def test_bitstream_of_a_kria(project, bench):
    equip(bench, "vitis-run", "vivado", "bootgen", version=NEW)
    path = project("kv260")
    build(path, "bitstream")
    assert stages(bench) == ["csynth", "ip", "vivado", "bootgen"]
    assert calls(bench)[0]["argv"] == ["--mode", "hls", "--tcl", "run_hls.tcl"]
    arguments = ["-image", "flow/bitstream.bif", "-arch", "zynqmp", "-process_bitstream", "bin", "-w"]
    assert calls(bench)[3]["argv"] == arguments
    out = path / "hls/out"
    firmware = out / "firmware"  # as it goes into the board's folder
    assert {path.name for path in firmware.iterdir()} == {"vector.bit.bin", "vector.dtbo", "shell.json"}
    assert (firmware / "vector.dtbo").read_bytes()[:4] == b"\xd0\x0d\xfe\xed"
    assert json.loads((firmware / "shell.json").read_text())["shell_type"] == "XRT_FLAT"
    assert {path.name for path in out.glob("vector.*")} == {"vector.bit", "vector.bit.bin", "vector.hwh"}
    build(path, "bitstream")
    assert len(calls(bench)) == 4
    (firmware / "shell.json").unlink()
    said = build(path, "bitstream")
    assert "firmware: was done before" in said
    assert "overlay: done" in said
    assert (firmware / "shell.json").is_file()


@pytest.mark.parametrize("board", ["u250", "vck190"])
def test_bitstream_of_cards_and_versal(project, bench, board):
    equip(bench, "vitis_hls", "v++")
    path = project(board)
    build(path, "bitstream")
    movers = json.loads((path / "hls/flow/flow.json").read_text())["movers"]
    assert len(movers) == 2
    assert stages(bench) == ["csynth", "ip", *movers, "v++", *(["v++"] if board == "vck190" else [])]
    link = calls(bench)[4]["argv"]
    assert link[:5] == ["--link", "-t", "hw", "--config", "flow/link.cfg"]
    assert link[-3:] == ["out/xo/vector.xo", *(f"out/xo/{mover}.xo" for mover in movers)]
    assert (path / "hls/out/vector.xclbin").is_file()
    if board == "vck190":
        package = ["--package", "-t", "hw", "--config", "flow/package.cfg", "out/vector.xsa", "-o", "out/vector.xclbin"]
        assert calls(bench)[5]["argv"] == package
    assert load(path).report["vendor"]["implementation"]["lut"] == 8123


def test_a_board_of_fabric_only_ends_with_the_core(project, bench):
    equip(bench, "vitis_hls")
    path = project("arty-a7-100t")
    with pytest.raises(ConfigurationError, match=r"no system to put the core in\. Use --stage ip"):
        build(path, "bitstream")
    build(path, "ip")
    assert (path / "hls/out/ip/vector.zip").is_file()


# ------------------------------------------------------------------------------------------------------------- errors


def test_missing_tools_stop_before_anything_runs(project, bench):
    path = project("kv260")
    with pytest.raises(ToolError, match="neither vitis-run nor vitis_hls is on PATH"):
        build(path, "bitstream")
    equip(bench, "vitis_hls")
    with pytest.raises(ToolError, match="vivado is not on PATH"):
        build(path, "bitstream")
    equip(bench, "vivado")
    with pytest.raises(ToolError, match="bootgen is not on PATH"):
        build(path, "bitstream")
    equip(bench, "bootgen")
    (bench.parent / "system/dtc").unlink(missing_ok=True)
    with pytest.raises(ToolError, match="apt-get install device-tree-compiler"):
        build(path, "bitstream")
    assert calls(bench) == []
    assert not (path / "hls/out").exists()


def test_a_design_that_does_not_fit_is_refused(project, bench):
    path = project()
    report = load(path).report
    report["hardware"] |= {"fits": False, "exceeded": {"lut": {"used": 60000, "limit": 42560}}}
    files = {"report.json": json.dumps(report), "program.json": (path / "program.json").read_text()}
    for name, content in sealed(files).items():
        (path / name).write_text(content)
    for stage in ("csynth", "cosim", "ip", "bitstream"):
        with pytest.raises(ConfigurationError, match="does not fit pynq-z2: lut 60000 of 42560"):
            build(path, stage)


FAILURES = [
    ("ERROR: [HLS 200-1023] Part 'xc7z020clg400-1' is not installed.", "The part is not installed"),
    ("ERROR: [Common 17-345] A valid license was not found for feature 'Synthesis'", "The licence does not cover"),
    ("ERROR: [dct-toolchain] timing is not met: setup slack -0.2 ns at 100 MHz", "lower --clock"),
    ("ERROR: [XFORM 203-103] Array 'w': partitioned elements number (9000) has exeeded the threshold", "too large to"),
    (
        "ERROR: [Place 30-640] Place Check : This design requires more LUT cells than are available, over-utilized",
        "larg",
    ),
    ("ERROR: [IMPL 213-28] Failed to generate IP.", "answer record 76960"),
    ("terminate called after throwing an instance of 'std::bad_alloc'\nERROR: std::bad_alloc", "too little memory"),
    ("ERROR: [v++ 60-1258] No valid platform was found that matches 'xilinx_u250'", "PLATFORM_REPO_PATHS"),
    ("vitis_hls: error while loading shared libraries: libtinfo.so.5: cannot open", "A library that the tool needs"),
    ("ERROR: write failed: No space left on device", "The disk is full"),
    ('ERROR: invalid command name "open_solutoin"', "does not know the command"),
    ("ERROR: [HLS 207-1] something new", "The log says more"),
]


@pytest.mark.parametrize(("message", "advice"), FAILURES)
def test_a_failure_tells_the_tool_s_message_and_what_to_do(project, bench, message, advice):
    equip(bench, "vitis_hls")
    path = project()
    (bench / "fail").write_text(f"INFO: all is well\n{message}\nERROR: [HLS 200-70] and what follows\nlast words")
    before = (path / "report.json").read_bytes()
    with pytest.raises(ToolError) as caught:
        build(path, "csynth")
    first = message.splitlines()[-1]
    assert f"vitis_hls 2022.1 failed with exit code 1: {first} | ERROR: [HLS 200-70]" in str(caught.value)
    assert "csynth.log" in str(caught.value)
    assert caught.value.fix is not None
    assert advice in caught.value.fix
    assert "last words" in (path / "hls/out/logs/csynth.log").read_text()
    assert not (path / "hls/out/stamps/csynth.json").exists()
    assert (path / "report.json").read_bytes() == before
    (bench / "fail").unlink()
    assert "csynth: done" in build(path, "csynth")


def test_every_piece_of_advice_is_tried():
    given = {advice_for([message]) for message, _ in FAILURES}
    others = {advice_for(["ERROR: there is no IP in vitis_hls/solution/impl/ip"])}
    assert {advice for _, advice in ADVICE} <= given | others


def test_errors_of_a_log():
    assert errors_of("$ x\nINFO: 0 errors\nERROR: a\nERROR: b\nERROR: a\n") == ["ERROR: a", "ERROR: b"]
    assert errors_of("$ x\nsrc/x.cpp:3:1: error: expected\n") == ["src/x.cpp:3:1: error: expected"]
    assert errors_of("$ x\nboth\nhalves\n\n") == ["halves"]
    assert errors_of("$ x\n") == []


def test_a_tool_that_leaves_nothing_has_failed(project, bench):
    equip(bench, "vitis_hls")
    (bench / "silent").touch()
    path = project()
    with pytest.raises(ToolError, match=r"vitis_hls 2022\.1 left no result"):
        build(path, "csynth")
    assert not list((path / "hls/out/stamps").glob("*.json"))
    (bench / "silent").unlink()
    build(path, "csynth")
    source = path / "hls/src/configs.h"
    source.write_text(source.read_text() + "// more\n")
    (bench / "silent").touch()  # what the first run left is none of the second one
    with pytest.raises(ToolError, match=r"vitis_hls 2022\.1 left no result"):
        build(path, "csynth")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("FRAMES_DATA   0x10", "FRAMES_DATA   0x18", "FRAMES_DATA lies at 0x18, hosts expect it at 0x10"),
        ("#define XVECTOR_CONTROL_ADDR_BUILD_ID_DATA 0x20\n", "", "BUILD_ID_DATA is missing"),
    ],
)
def test_registers_elsewhere_are_an_error(project, bench, old, new, says):
    equip(bench, "vitis_hls")
    patch(bench / "vitis_hls", "HEADER", old, new)
    path = project()
    with pytest.raises(ToolError, match=says):
        build(path, "csynth")
    assert "vendor" not in load(path).report
    assert not list((path / "hls/out/stamps").glob("*.json"))


def test_a_cosimulation_that_does_not_pass(project, bench):
    equip(bench, "vitis_hls")
    patch(bench / "vitis_hls", "COSIM", "Pass", "Fail")
    path = project()
    with pytest.raises(ToolError, match="the co-simulation ended with Fail"):
        build(path, "cosim")
    assert set(load(path).report["vendor"]) == {"csynth"}


@pytest.mark.parametrize(("board", "slack"), [("u250", "  0.017 "), ("vck190", "  0.412 "), ("vck190", "  0.017 ")])
def test_negative_slack_is_an_error(project, bench, board, slack):
    equip(bench, "vitis_hls", "v++")
    patch(bench / "v++", "TIMING", slack, " -0.250 ")
    path = project(board)
    with pytest.raises(ToolError, match=r"timing is not met, the worst slack is -0\.25 ns.*lower --clock"):
        build(path, "bitstream")
    assert not list((path / "hls/out").glob("vector.*"))


def test_on_a_card_the_clock_is_scaled(project, bench):
    equip(bench, "vitis_hls", "v++")
    patch(bench / "v++", "TIMING", "  0.412 ", " -0.250 ")
    path = project("u250")
    assert "worst setup slack: -0.25 ns at the clock that was asked for; it is scaled down" in build(path, "bitstream")
    assert (path / "hls/out/vector.xclbin").is_file()


def test_vivado_goes_on_where_it_failed(project, bench):
    equip(bench, "vitis_hls", "vivado")
    path = project()
    build(path, "ip")
    (bench / "fail").write_text("ERROR: [Place 30-99] Placer failed")
    with pytest.raises(ToolError, match=r"Place 30-99"):
        build(path, "bitstream")
    (bench / "fail").unlink()
    build(path, "bitstream")
    resumed = [call["RESUME"] for call in calls(bench) if call["name"] == "vivado"]
    assert resumed == ["0", "1"]
    equip(bench, "vivado", version="2023.2")
    (bench / "fail").write_text("ERROR: [Place 30-99] Placer failed")
    with pytest.raises(ToolError, match=r"Place 30-99"):
        build(path, "bitstream")
    (bench / "fail").unlink()
    source = path / "hls/src/configs.h"
    source.write_text(source.read_text() + "// more\n")
    build(path, "csynth")
    assert set(load(path).report["vendor"]) == {"csynth"}  # the rest was of another synthesis
    build(path, "bitstream")
    assert calls(bench)[-1]["RESUME"] == "0"
    assert set(load(path).report["vendor"]) == {"csynth", "implementation"}


def test_a_simulation_that_differs_is_a_mismatch(project, bench):
    equip(bench, "vitis_hls")
    path = project()
    for stage in ("csim", "cosim"):
        build(path, "csynth")
        (bench / "fail").write_text("FAIL layer=tanh frame=2 index=7 expected=12 got=-3\nERROR: [COSIM 212-4] no match")
        with pytest.raises(MismatchError, match=r"layer tanh index \[2, 7\]: expected 12, got -3"):
            build(path, stage)
        (bench / "fail").unlink()


@pytest.mark.parametrize(
    "content",
    ["{}", "[1", '{"name": "a b", "movers": [], "flow": "vivado", "board": "pynq-z2", "family": "zynq", "loaded": 0}',
     '{"name": "../x", "movers": [], "flow": "vivado", "board": "pynq-z2", "family": "zynq", "loaded": false}',
     '{"name": "x", "movers": [], "flow": "vivado", "board": "zcu104", "family": "zynq", "loaded": false}'],
)  # fmt: skip
def test_a_damaged_description_is_refused(project, bench, content):
    equip(bench, "vitis_hls")
    path = project()
    (path / "hls/flow/flow.json").write_text(content)
    with pytest.raises(ModelError, match="is damaged"):
        build(path, "csynth")
    (path / "hls/flow/flow.json").unlink()
    with pytest.raises(ModelError, match="Compile the model again"):
        build(path, "csynth")


# ---------------------------------------------------------------------------------------------------- interruption


def is_alive(number: int) -> bool:
    """Not a zombie that waits for its parent."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_the_tool_and_its_children(project, bench, capfd, number, code):
    equip(bench, "vitis_hls")
    (bench / "hang").touch()
    path = project()
    command = [sys.executable, "-m", "toolchain", "build", str(path), "--stage", "csynth"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, start_new_session=True) as child:
        for _ in range(600):
            if (bench / "hanging").exists() and (bench / "hanging").read_text():
                break
            time.sleep(0.1)
        numbers = [int(word) for word in (bench / "hanging").read_text().split()]
        assert all(map(is_alive, numbers))
        child.send_signal(number)
        assert child.wait(60) == code
    for _ in range(100):
        if not any(map(is_alive, numbers)):
            break
        time.sleep(0.1)
    assert not any(map(is_alive, numbers))
    assert "Traceback" not in capfd.readouterr().err
    assert not (path / "hls/out/stamps/csynth.json").exists()
    (bench / "hang").unlink()
    assert "csynth: done" in build(path, "csynth")


# ------------------------------------------------------------------------------------------------------------ g++


@pytest.mark.csim
def test_c_simulation_without_the_vendor(project, bench):
    path = project()
    said = build(path, "csim")
    assert "[1/1] csim: g++" in said
    assert "PASS frames=8 values=80" in said
    assert "was done before" in build(path, "csim")
    data = path / "hls/tb_data/outputs.dat"
    first, rest = data.read_text().split(" ", 1)
    data.write_text(f"{int(first) + 1} {rest}")
    with pytest.raises(MismatchError, match=r"index \[0, 0\]: expected"):
        build(path, "csim")
    (path / "hls/src/configs.h").write_text("oops")
    with pytest.raises(ToolError, match=r"g\+\+ failed with exit code 2: .*error: "):
        build(path, "csim")
