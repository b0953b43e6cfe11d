"""Reports of Vitis HLS and Vivado: every number is found, what is missing is null, what is damaged is an error."""

import pytest

from tests.deployment.fakes import COSIM, CSYNTH, FRAME, HEADER, TIMING, UTILIZATION
from toolchain.codegen.registers import registers
from toolchain.deployment.vendor_reports import (
    check_registers,
    read_cosimulation,
    read_implementation,
    read_synthesis,
    read_timing,
    read_utilization,
)
from toolchain.errors import ToolError


def test_latency_of_the_top_where_it_is_known(tmp_path):
    (tmp_path / "csynth.xml").write_text(FRAME)
    found = read_synthesis(tmp_path)
    assert (found["latency_cycles"], found["interval_cycles"], found["bram36"]) == (420, 131, 2.5)


def test_latency_that_nobody_knows_is_null(tmp_path):
    (tmp_path / "csynth.xml").write_text(CSYNTH)
    found = read_synthesis(tmp_path)
    assert (found["latency_cycles"], found["interval_cycles"], found["estimated_clock_ns"]) == (None, None, 7.123)
    (tmp_path / "dataflow_parent_loop_proc_csynth.xml").write_text(FRAME)
    assert read_synthesis(tmp_path)["interval_cycles"] == 131


def test_older_names(tmp_path):
    (tmp_path / "csynth.xml").write_text(
        CSYNTH.replace("<DSP>12</DSP>", "<DSP48E>7</DSP48E>").replace("<URAM>0</URAM>", "")
    )
    found = read_synthesis(tmp_path)
    assert (found["dsp"], found["uram"]) == (7, None)


@pytest.mark.parametrize(
    "text",
    ["", "<profile>", "<profile></profile>", "no xml",
     '<!DOCTYPE a [<!ENTITY b "cc">]><profile><AreaEstimates><Resources/></AreaEstimates></profile>'],
)  # fmt: skip
def test_damaged_synthesis_reports(tmp_path, text):
    (tmp_path / "csynth.xml").write_text(text)
    with pytest.raises(ToolError):
        read_synthesis(tmp_path)


def test_no_synthesis_report(tmp_path):
    with pytest.raises(ToolError, match="cannot be read"):
        read_synthesis(tmp_path)


def test_cosimulation(tmp_path):
    path = tmp_path / "x_cosim.rpt"
    path.write_text(COSIM)
    assert read_cosimulation(path) == {"language": "Verilog", "status": "Pass", "latency_cycles": 512}
    path.write_text(COSIM.replace("Pass", "Fail"))
    assert read_cosimulation(path)["status"] == "Fail"
    path.write_text(COSIM.replace("Pass", "  NA"))
    with pytest.raises(ToolError, match="holds no result"):
        read_cosimulation(path)


ULTRASCALE = """
| CLB LUTs*                  | 22397 |     0 |          0 |    117120 | 19.12 |
|   LUT as Logic             | 20000 |     0 |          0 |    117120 | 17.08 |
| CLB Registers              | 25100 |     0 |          0 |    234240 | 10.72 |
| Block RAM Tile    | 12.5 |     0 |          0 |       144 |  8.68 |
| URAM              |    3 |     0 |          0 |        64 |  4.69 |
| DSPs           |   15 |     0 |          0 |      1248 |  1.20 |
| LUT1     |  999 |                 CLB |
"""
VERSAL = """
| Registers                  | 3100 |     0 |          0 |   1799680 |  0.17 |
| CLB LUTs                   | 2800 |     0 |          0 |    899840 |  0.31 |
| Block RAM Tile    |    4 |     0 |          0 |       967 |  0.41 |
| URAM              |    0 |     0 |          0 |       463 |  0.00 |
| DSP Slices     |    9 |     0 |          0 |      1968 |  0.46 |
"""


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        (UTILIZATION, (8123, 9876, 4.5, None, 12)),
        (ULTRASCALE, (22397, 25100, 12.5, 3, 15)),
        (VERSAL, (2800, 3100, 4, 0, 9)),
        ("nothing", (None,) * 5),
    ],
)
def test_utilization_of_every_family(text, numbers):
    assert tuple(read_utilization(text)[key] for key in ("lut", "ff", "bram36", "uram", "dsp")) == numbers


def test_timing():
    assert read_timing(TIMING) == {"setup_slack_ns": 0.412, "hold_slack_ns": 0.017}
    assert read_timing(TIMING.replace("0.412", "-1.25"))["setup_slack_ns"] == -1.25
    assert read_timing(TIMING.replace("0.412", "NA"))["setup_slack_ns"] is None
    assert read_timing("") == {"setup_slack_ns": None, "hold_slack_ns": None}


def test_no_reports_of_an_implementation(tmp_path):
    assert set(read_implementation(tmp_path).values()) == {None}


LOADED = HEADER + "".join(
    f"#define XVECTOR_CONTROL_ADDR_{one.name.upper()}_DATA {one.offset:#04x}\n" for one in registers(True)[2:]
)


@pytest.mark.parametrize(("text", "decoders"), [(HEADER, 0), (LOADED, 1)])
def test_registers(tmp_path, text, decoders):
    path = tmp_path / "xvector_hw.h"
    path.write_text(text)
    check_registers(path, decoders)
    for one in registers(decoders):
        place = f"ADDR_{one.name.upper()}_DATA"
        moved = "\n".join(
            f"#define XVECTOR_CONTROL_{place} 0x7c" if f"_{place} " in row else row for row in text.splitlines()
        )
        path.write_text(moved)
        with pytest.raises(ToolError, match=f"{one.name.upper()}_DATA lies at 0x7c, hosts expect it at"):
            check_registers(path, decoders)


def test_a_loaded_design_needs_all_its_registers(tmp_path):
    path = tmp_path / "xvector_hw.h"
    path.write_text(HEADER)
    with pytest.raises(ToolError, match="WEIGHT_CODES_DATA is missing"):
        check_registers(path, 1)
