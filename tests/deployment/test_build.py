"""`toolchain build` against stand-ins for the vendor's tools: order, resuming, results in the report."""

import json

import pytest

from tests.deployment.bench import NEW, build, equip, stages
from tests.deployment.fakes import calls
from tests.deployment.flows import needs_dtc
from toolchain.errors import ConfigurationError, MismatchError, ToolError
from toolchain.project import load


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


# ------------------------------------------------------------------------------------------------------------ g++


@pytest.mark.csim
@pytest.mark.usefixtures("quick")
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
