"""system.tcl of every board: run in tclsh against the tables, then on a model of what Vivado builds of it."""

import shutil
from pathlib import Path

import pytest

from tests.deployment.flows import BOARDS, PLACED, SIZES, network, place
from tests.tcl.block_design import BlockDesign, accelerator
from tests.tcl.harness import Run, needs_tclsh, run
from toolchain.codegen.flow import INTERRUPTS, PROCESSORS, addresses, beat_bits
from toolchain.codegen.project import write_files
from toolchain.hardware.network import Network

pytestmark = [pytest.mark.tcl, needs_tclsh]
BITSTREAM = "out/vivado/system.runs/impl_1/system_wrapper.bit"
HANDOFF = "out/vivado/system.gen/sources_1/bd/system/hw_handoff/system.hwh"


def simulate(
    script: Path, *, preset: bool | tuple[str, ...] = True, concat: bool = True,
    progress: tuple[str, ...] = ("0%", "100%", "0%", "100%"), slack: str = "0.123", resume: bool = False,
) -> Run:  # fmt: skip
    """system.tcl with a Vivado that does what it is told."""
    answers = {
        "get_board_parts *": ["a:board:part0:1.0"] if preset is True else [""] if preset is False else list(preset),
        "get_ipdefs *": ["xilinx.com:ip:xlconcat:2.1" if concat else ""],
        "get_property PROGRESS *": list(progress),
        "get_property NEEDS_REFRESH *": ["0"],
        "get_property STATUS *": ["Not started"],
        "get_property STATS.* *": [slack],
        "create_project *": ["@touch out/vivado/system.xpr"],
        "wait_on_run impl_1 *": [f"@touch {BITSTREAM} {HANDOFF}"],
    }
    # A pattern has to match the call with what is behind it.
    answers = {pattern.removesuffix(" *") + "*": values for pattern, values in answers.items()}
    folder = script.parents[1]
    return run(script, "vivado", folder, {"JOBS": "3", "RESUME": str(int(resume))}, answers)


def design_of(done: Run, design: Network, decoders: int) -> BlockDesign:
    bits = [{t.identifier: beat_bits(t) for t in ends} for ends in (design.inputs, design.outputs)]
    return BlockDesign(accelerator("dct_toolchain:hls:tiny:1.0", *bits, decoders)).replay(done.calls)


@pytest.mark.parametrize("board", PLACED)
@pytest.mark.parametrize("decoders", [0, 5])
def test_block_design_of_every_board(tmp_path, board, decoders):
    design = network()
    done = simulate(place(tmp_path, board, design, decoders))
    assert (done.status, done.errors, done.problems) == (0, "", ())
    built = design_of(done, design, decoders)
    assert built.problems == []
    assert built.is_valid
    found = {segment.split("/")[0]: place for segment, (place, _) in built.addresses.items()}
    assert found == addresses(design, BOARDS[board])
    calls = [(call.name, *call.words) for call in done.calls]
    assert ("create_project", "-force", "system", "out/vivado", "-part", BOARDS[board].part) in calls
    assert ("set_property", "board_part", BOARDS[board].board_part, "system") in calls
    assert ("launch_runs", "impl_1", "-to_step", "write_bitstream", "-jobs", "3") in calls
    for kind in ("bit", "hwh"):
        assert (tmp_path / f"out/tiny.{kind}").is_file()
    assert calls[-1] == ("write_hw_platform", "-fixed", "-include_bit", "-force", "out/xsa/tiny.xsa")


def test_another_version_of_the_board_file(tmp_path):
    done = simulate(place(tmp_path, "zcu104", network()), preset=("", "x:zcu104:part0:1.9 x:zcu104:part0:1.10"))
    assert (done.status, done.problems) == (0, ())
    calls = [(call.name, *call.words) for call in done.calls]
    assert ("get_board_parts", "-quiet", "xilinx.com:zcu104:part0:*") in calls
    assert ("set_property", "board_part", "x:zcu104:part0:1.10", "system") in calls
    automation = next(call for call in calls if call[0] == "apply_bd_automation")
    assert automation[4].split()[-2:] == ["apply_board_preset", "1"]


@pytest.mark.parametrize("board", ["pynq-z2", "kv260"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("concat", [True, False])
def test_many_terminals_and_old_and_new_vivado(tmp_path, board, size, concat):
    design = network(*SIZES[size])
    done = simulate(place(tmp_path, board, design), preset=False, concat=concat)
    assert (done.status, done.problems) == (0, ())
    built = design_of(done, design, False)
    assert built.problems == []
    assert built.is_valid
    assert not any(call.words[0] == "board_part" for call in done.calls if call.name == "set_property")
    kinds = {"ip", "inline_hdl"} - ({"inline_hdl"} if concat else set())
    assert {call.words[1] for call in done.calls if call.name == "create_bd_cell"} == kinds
    # Every block's interrupt goes to the controller, as far as it has inputs; the processor has one from it.
    blocks = len(design.inputs) + len(design.outputs) + 1
    assert sum(pin.startswith("interrupts/") for pin in built.driver) == min(blocks, INTERRUPTS)
    assert built.driver[PROCESSORS[BOARDS[board].family].interrupt] == "interrupt_controller/irq"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"slack": "-0.25"}, "timing is not met: setup slack -0.25 ns at 100 MHz"),
        ({"slack": ""}, "the implementation has no setup slack"),
        ({"progress": ("0%", "37%")}, "synthesis failed"),
        ({"progress": ("0%", "100%", "0%", "80%")}, "implementation failed"),
    ],
)
def test_what_fails_leaves_no_bitstream(tmp_path, capfd, changes, says):
    script = place(tmp_path, "pynq-z2", network())
    probe = script.read_text().replace('puts "ERROR:', 'puts stderr "ERROR:')
    script.write_text(probe)
    done = simulate(script, **changes)
    assert done.status == 1
    assert says in done.errors
    assert done.problems == ()
    assert not list((tmp_path / "out").glob("tiny.*"))


def test_without_the_core_nothing_is_run(tmp_path):
    script = place(tmp_path, "pynq-z2", network())
    shutil.rmtree(tmp_path / "vitis_hls")
    done = simulate(script)
    assert (done.status, done.calls) == (1, ())


def test_a_resumed_run_goes_on(tmp_path):
    """After an interrupted implementation: the design and the synthesis are taken as they are."""
    script = place(tmp_path, "pynq-z2", network())
    assert simulate(script, progress=("0%", "100%", "0%", "50%")).status == 1
    done = simulate(script, progress=("100%", "40%", "100%"), resume=True)
    assert (done.status, done.errors, done.problems) == (0, "", ())
    assert done.names[0] == "open_project"
    assert "create_project" not in done.names
    assert [call.words[0] for call in done.calls if call.name == "launch_runs"] == ["impl_1"]
    again = simulate(script, progress=("0%", "100%", "0%", "100%"))
    assert again.names[0] == "create_project"


def test_a_design_that_was_cut_off_is_made_again(tmp_path):
    script = place(tmp_path, "pynq-z2", network())
    write_files(tmp_path, {"out/vivado/system.xpr": ""})
    assert simulate(script, resume=True).names[0] == "create_project"


MISTAKES = [
    ("validate_bd_design", "validate_bd_desing", "did you mean validate_bd_design?"),
    ("-to_step write_bitstream", "-to_step write_bitsream", "is none of"),
    ("-vlnv xilinx.com:ip:axi_dma", "-vlnv xilinx.com:ip:axi_dna", "there is no core xilinx.com:ip:axi_dna"),
    ("-vlnv dct_toolchain:hls:tiny:1.0", "-vlnv xilinx.com:hls:tiny:1.0", "there is no core"),
    ("CONFIG.c_sg_length_width 26", "CONFIG.c_sg_length_width 32", "'32' is none of"),
    ("CONFIG.c_include_sg", "CONFIG.c_include_sq", "has no parameter CONFIG.c_include_sq"),
    ("CONFIG.c_m_axis_mm2s_tdata_width 8", "CONFIG.c_m_axis_mm2s_tdata_width 16", "has 8 bits"),
    ("CONFIG.PCW_USE_S_AXI_HP1 1", "CONFIG.PCW_USE_S_AXI_HP1 0", "there is no interface pin ps/S_AXI_HP1"),
    ("dma_x_axis/M_AXIS_MM2S", "dma_x_axis/M_AXIS_S2MM", "there is no interface pin dma_x_axis/M_AXIS_S2MM"),
    ("lappend cleared dma_y_axis/axi_resetn", "", "dma_y_axis/axi_resetn is not connected"),
    ("ps/S_AXI_HP1_ACLK", "", "ps/S_AXI_HP1_ACLK is not connected"),
    ("0x43C10000", "0x43C00000", "lies over"),
    ("0x43C10000", "0xA0000000", "cannot lie at"),
    ("0x43C10000", "0x43C18000", "cannot lie at"),
    ("dma_x_axis/S_AXI_LITE/Reg", "dma_x_axis/S_AXI/Reg", "there is no segment"),
    ("bd_rule:processing_system7", "bd_rule:zynq_ultra_ps_e", "the rule does not go with ps"),
    ("[get_bd_pins ps/FCLK_CLK0]", "[get_bd_pins reset/aux_reset_in]", "0 drivers"),
    ("C_IRQ_CONNECTION 1", "C_IRQ_CONNECTION 0", "there is no pin interrupt_controller/irq"),
    ("interrupt_controller/S_AXI/Reg", "interrupt_controller/s_axi/Reg", "there is no segment"),
    ("accelerator_0/interrupt", "accelerator_0/interupt", "there is no pin accelerator_0/interupt"),
    ("open_run impl_1", "", "report_utilization comes before there is a implementation"),
]


@pytest.mark.parametrize(("old", "new", "says"), MISTAKES)
def test_planted_mistakes_are_found(tmp_path, old, new, says):
    design = network()
    script = place(tmp_path, "pynq-z2", design)
    text = script.read_text()
    assert old in text
    script.write_text(text.replace(old, new))
    done = simulate(script)
    problems = [*done.problems, *design_of(done, design, False).problems]
    assert [problem for problem in problems if says in problem.message], problems
