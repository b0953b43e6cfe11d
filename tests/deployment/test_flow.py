"""Files of every flow and board: device trees through dtc, link configurations and data movers against the tables."""

import json
import re
import subprocess
import tomllib

import numpy as np
import pytest

from tests.cpp import compile_and_run
from tests.deployment.flows import BOARDS, KRIA, LINKED, ROOT, SIZES, needs_dtc, network, place
from tests.tcl.harness import needs_tclsh, run
from tests.verification.networks import generate
from toolchain.codegen.flow import PROCESSORS, addresses, render_flow

# ------------------------------------------------------------------------------------------------- all boards


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("decoders", [0, 5])
def test_files_of_every_board(board, decoders):
    files = render_flow(network(), BOARDS[board], BOARDS[board].clock_mhz, decoders)
    expected = {
        "vivado": {"system.tcl"},
        "kria": {"system.tcl", "overlay.dtso", "shell.json", "bitstream.bif"},
        "vitis": {"link.cfg", "movers.cpp", "movers.h", "movers.tcl"}
        | ({"package.cfg"} if BOARDS[board].family == "versal" else set()),
        "ip": set(),
    }
    assert set(files) == {f"flow/{name}" for name in expected[BOARDS[board].flow] | {"flow.json"}}
    assert files == render_flow(network(), BOARDS[board], BOARDS[board].clock_mhz, decoders)
    assert not any(str(ROOT) in content for content in files.values())
    assert json.loads(files["flow/flow.json"])["flow"] == BOARDS[board].flow


def test_every_family_with_a_processor_is_known():
    assert {board.family for board in BOARDS.values() if board.flow in {"vivado", "kria"}} == set(PROCESSORS)


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
@pytest.mark.parametrize("decoders", [0, 5])
def test_link_configuration(board, size, decoders):
    design = network(*SIZES[size])
    files = render_flow(design, BOARDS[board], BOARDS[board].clock_mhz, decoders)
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
        assert len(banks) == len(expected) + (2 * decoders)
        assert {int(re.search(r"\d+", bank)[0]) for bank in banks} <= set(range(BOARDS[board].memories[0].banks))
        assert not decoders or banks[-1] == banks[-2]
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
def test_movers_carry_what_the_streams_have(tmp_path, quick_cxxflags):
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
    flags = (
        *quick_cxxflags.split(),
        "-Wno-unknown-pragmas",
        *(f"-I{hls / name}" for name in ("", "sim", "src", "src/kernels")),
    )
    assert len(memory) == 2
    assert compile_and_run(source, tmp_path, flags=flags) == b"".join(memory.values())
