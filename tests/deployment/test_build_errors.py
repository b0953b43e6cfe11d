"""`toolchain build` when something is missing, fails, differs, is damaged or is interrupted."""

import fcntl
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.deployment.bench import build, equip, patch
from tests.deployment.fakes import calls
from toolchain.deployment.vendor_run import ADVICE, advice_for, errors_of
from toolchain.errors import ConfigurationError, MismatchError, ModelError, ToolError
from toolchain.project import load, sealed


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


def test_damaged_notes_of_an_earlier_run_are_no_notes(project, bench):
    """Whatever lies in out/stamps: the step is done again, and not resumed."""
    equip(bench, "vitis_hls", "vivado")
    path = project()
    build(path, "bitstream")
    stamps = path / "hls/out/stamps"
    for content in (b"\xff\xfe", b"[" * 100_000, b"[]", b'{"outputs": 1}'):
        (stamps / "implementation.json").write_bytes(content)
        (stamps / "implementation.begun").write_bytes(content)
        assert "implementation: done" in build(path, "bitstream")
        assert calls(bench)[-1]["RESUME"] == "0"


def test_one_build_at_a_time(project, bench):
    equip(bench, "vitis_hls")
    path = project()
    build(path, "csynth")
    with (path / "hls/out/.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigurationError, match="another build of this project is under way"):
            build(path, "csynth")
    assert "was done before" in build(path, "csynth")


@pytest.mark.parametrize(
    "content",
    ["{}", "[1", "[" * 100_000,
     '{"name": "a b", "movers": [], "flow": "vivado", "board": "pynq-z2", "family": "zynq", "decoders": 0}',
     '{"name": "../x", "movers": [], "flow": "vivado", "board": "pynq-z2", "family": "zynq", "decoders": 0}',
     '{"name": "x", "movers": [], "flow": "vivado", "board": "zcu104", "family": "zynq", "decoders": 0}'],
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
