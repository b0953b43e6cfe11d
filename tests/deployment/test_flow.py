"""Block designs, device trees and link configurations of every board, run in tclsh, through dtc, against the tables."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest

from tests.cpp import compile_and_run
from tests.tcl.block_design import BlockDesign, accelerator
from tests.tcl.harness import Run, needs_tclsh, run
from tests.verification.networks import generate
from toolchain.codegen.flow import INTERRUPTS, PROCESSORS, addresses, beat_bits, render_flow
from toolchain.codegen.project import write_files
from toolchain.hardware.board import board_names, load_board
from toolchain.hardware.network import Network, Terminal
from toolchain.ir import FixedType, TensorType

ROOT = Path(__file__).parents[2]
BOARDS = {name: load_board(name) for name in board_names()}
PLACED = [name for name, board in BOARDS.items() if board.flow in {"vivado", "kria"}]
LINKED = [name for name, board in BOARDS.items() if board.flow == "vitis"]
KRIA = [name for name, board in BOARDS.items() if board.flow == "kria"]
BITSTREAM = "out/vivado/system.runs/impl_1/system_wrapper.bit"
HANDOFF = "out/vivado/system.gen/sources_1/bd/system/hw_handoff/system.hwh"

needs_dtc = pytest.mark.skipif(
    shutil.which("dtc") is None and not os.environ.get("CI"),
    reason="dtc is not installed: apt-get install device-tree-compiler",
)


def network(inputs: int = 1, outputs: int = 2) -> Network:
    """Only what the flows look at: the terminals, of all widths that there are."""

    def terminal(name: str, k: int) -> Terminal:
        type = TensorType.of((2, 64), FixedType(8, 4))
        lanes, bits = (1, 8, 64, 2)[k % 4], (8, 8, 8, 32)[k % 4]
        return Terminal(name, f"{name}_axis", name, type, lanes, bits, (1, 1, 1, 2, 64), (0, 0, 0, 64, 1))

    given = tuple(terminal(f"x{k}" if k else "x", k) for k in range(inputs))
    taken = tuple(terminal(f"y{k}" if k else "y", k + 1) for k in range(outputs))
    return Network("tiny", (), {}, given, taken)


SIZES = {"one": (1, 1), "two outputs": (1, 2), "many": (9, 30)}


def place(folder: Path, board: str, design: Network, loaded: bool = False) -> Path:
    """`hls/` with the flow's files, behind an IP export."""
    write_files(folder, render_flow(design, BOARDS[board], BOARDS[board].clock_mhz, loaded))
    write_files(folder, {"vitis_hls/solution/impl/ip/component.xml": ""})
    return folder / "flow/system.tcl"


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


def design_of(done: Run, design: Network, loaded: bool) -> BlockDesign:
    bits = [{t.identifier: beat_bits(t) for t in ends} for ends in (design.inputs, design.outputs)]
    return BlockDesign(accelerator("dct_toolchain:hls:tiny:1.0", *bits, loaded)).replay(done.calls)


# ------------------------------------------------------------------------------------------------- all boards


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("loaded", [False, True])
def test_files_of_every_board(board, loaded):
    files = render_flow(network(), BOARDS[board], BOARDS[board].clock_mhz, loaded)
    expected = {
        "vivado": {"system.tcl"},
        "kria": {"system.tcl", "overlay.dtso", "shell.json", "bitstream.bif"},
        "vitis": {"link.cfg", "movers.cpp", "movers.h", "movers.tcl"}
        | ({"package.cfg"} if BOARDS[board].family == "versal" else set()),
        "ip": set(),
    }
    assert set(files) == {f"flow/{name}" for name in expected[BOARDS[board].flow] | {"flow.json"}}
    assert files == render_flow(network(), BOARDS[board], BOARDS[board].clock_mhz, loaded)
    assert not any(str(ROOT) in content for content in files.values())
    assert json.loads(files["flow/flow.json"])["flow"] == BOARDS[board].flow


def test_every_family_with_a_processor_is_known():
    assert {board.family for board in BOARDS.values() if board.flow in {"vivado", "kria"}} == set(PROCESSORS)


# ------------------------------------------------------------------------------------------------ block design


@needs_tclsh
@pytest.mark.tcl
@pytest.mark.parametrize("board", PLACED)
@pytest.mark.parametrize("loaded", [False, True])
def test_block_design_of_every_board(tmp_path, board, loaded):
    design = network()
    done = simulate(place(tmp_path, board, design, loaded))
    assert (done.status, done.errors, done.problems) == (0, "", ())
    built = design_of(done, design, loaded)
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
    assert calls[-1] == ("write_hw_platform", "-fixed", "-include_bit", "-force", "-file", "out/xsa/tiny.xsa")


@needs_tclsh
@pytest.mark.tcl
def test_another_version_of_the_board_file(tmp_path):
    done = simulate(place(tmp_path, "zcu104", network()), preset=("", "x:zcu104:part0:1.9 x:zcu104:part0:1.10"))
    assert (done.status, done.problems) == (0, ())
    calls = [(call.name, *call.words) for call in done.calls]
    assert ("get_board_parts", "-quiet", "xilinx.com:zcu104:part0:*") in calls
    assert ("set_property", "board_part", "x:zcu104:part0:1.10", "system") in calls
    automation = next(call for call in calls if call[0] == "apply_bd_automation")
    assert automation[4].split()[-2:] == ["apply_board_preset", "1"]


@needs_tclsh
@pytest.mark.tcl
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


@needs_tclsh
@pytest.mark.tcl
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


@needs_tclsh
@pytest.mark.tcl
def test_without_the_core_nothing_is_run(tmp_path):
    script = place(tmp_path, "pynq-z2", network())
    shutil.rmtree(tmp_path / "vitis_hls")
    done = simulate(script)
    assert (done.status, done.calls) == (1, ())


@needs_tclsh
@pytest.mark.tcl
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


@needs_tclsh
@pytest.mark.tcl
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


@needs_tclsh
@pytest.mark.tcl
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


# -------------------------------------------------------------------------------------------------- device tree


@needs_dtc
@pytest.mark.parametrize("board", KRIA)
@pytest.mark.parametrize("size", SIZES)
def test_overlays_compile(tmp_path, board, size):
    design = network(*SIZES[size])
    place(tmp_path, board, design)
    binary = tmp_path / "tiny.dtbo"
    done = subprocess.run(
        ["dtc", "-@", "-O", "dtb", "-o", binary, tmp_path / "flow/overlay.dtso"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "rror" not in done.stderr
    back = subprocess.run(["dtc", "-I", "dtb", "-O", "dts", binary], capture_output=True, text=True, check=True).stdout
    assert 'firmware-name = "tiny.bit.bin";' in back
    for label in ("fpga_full", "amba", "gic", "zynqmp_clk", "zynqmp_reset"):  # for the board's own tree to fill in
        assert re.search(rf"\b{label} = ", back)
    nodes = dict(re.findall(r'linux,uio-name = "(\w+)";\s+reg = <0x00 (0x[0-9a-f]+) 0x00 0x10000>', back))
    assert {name: int(place, 16) for name, place in nodes.items()} == addresses(design, BOARDS[board])
    interrupts = [int(number, 16) for number in re.findall(r"interrupts = <0x00 (0x[0-9a-f]+) 0x04>", back)]
    assert interrupts == [89]  # AMD UG1085, table 'System Interrupts': PL_PS_Group0 begins at 121, which is 89 + 32
    assert json.loads((tmp_path / "flow/shell.json").read_text()) == {"shell_type": "XRT_FLAT", "num_slots": "1"}


@needs_dtc
def test_dtc_finds_a_mistake(tmp_path):
    place(tmp_path, "kv260", network())
    path = tmp_path / "flow/overlay.dtso"
    path.write_text(path.read_text().replace("#clock-cells = <0>;", "#clock-cells = <0>"))
    assert subprocess.run(["dtc", "-@", "-O", "dtb", path], capture_output=True, check=False).returncode


# ------------------------------------------------------------------------------------------- accelerator cards


def parse_link(text: str) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Entries as section, key, value, and what is wrong with them."""
    known = tomllib.loads((ROOT / "tests/tcl/link.toml").read_text())
    section, entries, problems = "top", [], []
    for row in (line.strip() for line in text.splitlines()):
        if not row or row.startswith("#"):
            continue
        if header := re.fullmatch(r"\[(\w+)\]", row):
            section = header[1]
            continue
        key, _, value = row.partition("=")
        pattern = known.get(section, {}).get(key)
        if pattern is None:
            problems.append(f"unknown key {section}.{key}")
        elif not re.fullmatch(pattern, value):
            problems.append(f"{section}.{key} cannot be {value}")
        if key not in known["repeated"] and any(entry[:2] == (section, key) for entry in entries):
            problems.append(f"{key} is given twice")
        entries.append((section, key, value))
    units = {value.split(":")[2]: value.split(":")[0] for _, key, value in entries if key == "nk"}
    for _, key, value in entries:
        names = re.findall(r"(\w+)\.\w+", value) if key in {"stream_connect", "sp"} else []
        names += value.split(":")[1].split(",") if key == "freqHz" else []
        problems += [f"{key}: there is no {name}" for name in names if name not in units]
    return entries, problems


@pytest.mark.parametrize("board", LINKED)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("loaded", [False, True])
def test_link_configuration(board, size, loaded):
    design = network(*SIZES[size])
    files = render_flow(design, BOARDS[board], BOARDS[board].clock_mhz, loaded)
    entries, problems = parse_link(files["flow/link.cfg"])
    assert problems == []
    streams = sorted(value for _, key, value in entries if key == "stream_connect")
    expected = [f"mm2s_{t.identifier}_1.stream:tiny_1.{t.identifier}" for t in design.inputs]
    expected += [f"tiny_1.{t.identifier}:s2mm_{t.identifier}_1.stream" for t in design.outputs]
    assert streams == sorted(expected)
    assert ("top", "platform", BOARDS[board].platform) in entries
    banks = [value.rpartition(":")[2] for _, key, value in entries if key == "sp"]
    if BOARDS[board].family == "versal":
        assert not banks
        assert any(key == "freqHz" for _, key, _ in entries)
        assert parse_link(files["flow/package.cfg"])[1] == []
    else:
        assert len(banks) == len(expected) + (2 if loaded else 0)
        assert {int(re.search(r"\d+", bank)[0]) for bank in banks} <= set(range(BOARDS[board].memories[0].banks))
        assert not loaded or banks[-1] == banks[-2]
    kernels = [value.split(":")[0] for _, key, value in entries if key == "nk"]
    assert kernels == ["tiny", *json.loads(files["flow/flow.json"])["movers"]]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("stream_connect=", "stream_conect=", "unknown key connectivity.stream_conect"),
        ("[connectivity]", "[conectivity]", "unknown key conectivity.nk"),
        ("DDR[0]", "DDR0", "cannot be"),
        (":tiny_1.x_axis", ":tinny_1.x_axis", "there is no tinny_1"),
        ("kernel_frequency=300", "kernel_frequency=fast", "cannot be fast"),
    ],
)
def test_planted_mistakes_in_the_link_configuration(old, new, says):
    text = render_flow(network(), BOARDS["u250"], 300, False)["flow/link.cfg"]
    assert old in text
    assert [problem for problem in parse_link(text.replace(old, new))[1] if says in problem]


@needs_tclsh
@pytest.mark.tcl
@pytest.mark.parametrize("board", LINKED)
def test_movers_are_synthesized(tmp_path, board):
    design = network()
    place(tmp_path, board, design)
    script = tmp_path / "flow/movers.tcl"
    done = run(script, "hls", tmp_path)
    assert (done.status, done.errors, done.problems) == (0, "", ())
    tops = [call.words[0] for call in done.calls if call.name == "set_top"]
    assert tops == json.loads((tmp_path / "flow/flow.json").read_text())["movers"]
    outputs = [call.words[-1] for call in done.calls if call.name == "export_design"]
    assert outputs == [f"out/xo/{top}.xo" for top in tops]
    text = (tmp_path / "flow/movers.cpp").read_text()
    assert all(f'extern "C" void {top}(' in text for top in tops)
    one = run(script, "hls", tmp_path, {"MOVER": tops[1]})
    assert [call.words[0] for call in one.calls if call.name == "set_top"] == [tops[1]]


MAIN = """
#include "src/NAME.cpp"
#include "flow/movers.cpp"
#include <cstdio>
#include <vector>

template <int BITS> std::vector<ap_uint<BITS> > load(const char* path) {
    static_assert(sizeof(ap_uint<BITS>) * 8 == BITS, "memory is a plain array");
    std::FILE* file = std::fopen(path, "rb");
    std::vector<ap_uint<BITS> > memory;
    for (ap_uint<BITS> beat; std::fread(&beat, sizeof beat, 1, file) == 1;) memory.push_back(beat);
    std::fclose(file);
    return memory;
}

// Beats as a DMA engine sends them: TLAST at the very end only.
template <class BEAT> bool is_whole(hls::stream<BEAT>& stream, unsigned beats) {
    hls::stream<BEAT> kept;
    bool whole = true;
    for (unsigned beat = 0; beat < beats; ++beat) {
        const BEAT one = stream.read();
        whole = whole && one.last == (beat + 1 == beats) && (~one.keep == 0) && (~one.strb == 0);
        kept.write(one);
    }
    whole = whole && stream.empty();
    while (!kept.empty()) stream.write(kept.read());
    return whole;
}

int main() {
    ap_uint<64> words[2] = {7, 9};
    hls::stream<ap_axis<64, 0, 0, 0> > wide;
    dct::memory_to_stream<64>(words, 2, wide);
    if (!is_whole(wide, 2) || wide.read().data != 7) return 3;
BODY
    return 0;
}
"""


def orders(testbench: str) -> dict[str, dict[str, int]]:
    """LANES, LANE_BITS, sizes and strides of each terminal, as the test bench has them."""
    parts = re.findall(r"struct (\w+)_order \{(.*?)\};\n\n", testbench, re.DOTALL)
    return {name: {key: int(value) for key, value in re.findall(r"int (\w+) = (\d+);", body)} for name, body in parts}


@pytest.mark.csim
def test_movers_carry_what_the_streams_have(tmp_path):
    """Memory, mover, accelerator, mover, memory: the bytes of the reference, for all frames in one call."""
    hls = generate("branches", tmp_path, "u250")
    terminals = orders((hls / "tb/testbench.cpp").read_text())
    rows = {kind: np.loadtxt(hls / f"tb_data/{kind}.dat", dtype=np.int64, ndmin=2) for kind in ("inputs", "outputs")}
    frames, at = len(rows["inputs"]), dict.fromkeys(rows, 0)
    before, after, memory = [], [], {}
    for name, order in terminals.items():
        kind = "inputs" if f"mm2s_{name}(" in (hls / "flow/movers.cpp").read_text() else "outputs"
        grid = np.indices([order[f"OUT_{k}"] for k in range(5)]).reshape(5, -1)
        walk = sum(grid[k] * order[f"STRIDE_{k}"] for k in range(5))
        values = rows[kind][:, at[kind] + walk]
        at[kind] += len(walk)
        memory[name] = values.astype(f"<i{order['LANE_BITS'] // 8}").tobytes()
        bits, beats = order["LANES"] * order["LANE_BITS"], values.size // order["LANES"]
        before.append(f"    hls::stream<{name}_beat> {name};")
        if kind == "inputs":
            (tmp_path / name).write_bytes(memory.pop(name))
            before.append(f'    auto {name}_memory = load<{bits}>("{tmp_path / name}");')
            before.append(f"    if ({name}_memory.size() != {beats}) return 1;")
            before.append(f"    mm2s_{name}({name}_memory.data(), {beats}, {name});")
            before.append(f"    if (!is_whole({name}, {beats})) return 2;")
        else:
            after.append(f"    std::vector<ap_uint<{bits}> > {name}_memory({beats});")
            after.append(f"    s2mm_{name}({name}_memory.data(), {beats}, {name});")
            after.append(f"    std::fwrite({name}_memory.data(), {bits // 8}, {beats}, stdout);")
    call = f"    unsigned id = 0;\n    branches({', '.join(terminals)}, {frames}, id);"
    source = MAIN.replace("NAME", "branches").replace("BODY", "\n".join([*before, call, *after]))
    flags = ("-O1", "-Wno-unknown-pragmas", *(f"-I{hls / name}" for name in ("", "sim", "src", "src/kernels")))
    assert len(memory) == 2
    assert compile_and_run(source, tmp_path, flags=flags) == b"".join(memory.values())
