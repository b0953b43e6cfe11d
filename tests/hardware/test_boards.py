"""Every board: its file validates, its facts are those of its part, and HLS projects are rendered for it."""

import io
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from rich.console import Console

from tests.hardware.designs import program_of
from tests.small import Model
from toolchain.codegen.hls import render_hls
from toolchain.compiler import make_design
from toolchain.errors import BoardError
from toolchain.hardware.board import Board, Memory, Processor, Resources, board_names, load_board
from toolchain.quantization.configuration import Configuration
from toolchain.report.tables import board_list, board_page, board_table, memory_text, processor_text
from toolchain.resources import folder

ROOT = Path(__file__).parents[2]

# Data sheets: DSP, BRAM36, UltraRAM, LUT, FF of a device. Written apart from `boards/`.
DEVICES = {
    "xc7z007s": (66, 50, 0, 14_400, 28_800),
    "xc7z010": (80, 60, 0, 17_600, 35_200),
    "xc7z020": (220, 140, 0, 53_200, 106_400),
    "xc7a100t": (240, 135, 0, 63_400, 126_800),
    "xczu3eg": (360, 216, 0, 70_560, 141_120),
    "xczu7ev": (1_728, 312, 96, 230_400, 460_800),
    "xczu9eg": (2_520, 912, 0, 274_080, 548_160),
    "xczu28dr": (4_272, 1_080, 80, 425_280, 850_560),
    "xck26": (1_248, 144, 64, 117_120, 234_240),
    "xcu50": (5_952, 1_344, 640, 871_680, 1_743_360),
    "xcu55c": (9_024, 2_016, 960, 1_303_680, 2_607_360),
    "xcu200": (6_840, 2_160, 960, 1_182_240, 2_364_480),
    "xcu250": (12_288, 2_688, 1_280, 1_728_000, 3_456_000),
    "xcu280": (9_024, 2_016, 960, 1_303_680, 2_607_360),
    "xcvc1902": (1_968, 967, 463, 899_840, 1_799_680),
}
BOARDS = {
    "arty-a7-100t": "xc7a100t", "aup-zu3": "xczu3eg", "cora-z7-07s": "xc7z007s", "kr260": "xck26", "kv260": "xck26",
    "pynq-z1": "xc7z020", "pynq-z2": "xc7z020", "u200": "xcu200", "u250": "xcu250", "u280": "xcu280", "u50": "xcu50",
    "u55c": "xcu55c", "ultra96-v2": "xczu3eg", "vck190": "xcvc1902", "zcu102": "xczu9eg", "zcu104": "xczu7ev",
    "zcu106": "xczu7ev", "zcu111": "xczu28dr", "zedboard": "xc7z020", "zybo-z7-10": "xc7z010", "zybo-z7-20": "xc7z020",
}  # fmt: skip

# The vendor's part names: device, package, speed grade and, after the 7 series, temperature range.
PARTS = {
    "artix7": r"(xc7a\d+t)[a-z]{3}\d{3}-[123]L?",
    "zynq": r"(xc7z\d{3}s?)[a-z]{3}\d{3}-[123]",
    "zynquplus": r"(xczu\d+(?:cg|eg|ev|dr)|xck\d+)-[a-z]{4}\d{3,4}-[123](?:L|LV)?-[cei]",
    "virtexuplus": r"(xcu\d+|xcvu\d+p)-[a-z]{4}\d{4}-[123]L?-[ei]",
    "virtexuplushbm": r"(xcu\d+[cn]?|xcvu\d+p)-[a-z]{4}\d{4}-[123]L?-[ei]",
    "versal": r"(xcv[cmpeh]\d{4})-[a-z]{4}\d{4}-[123][LMH]S?P?-[ei]-[SL]",
}
FLOWS = {
    "artix7": {"ip"},
    "zynq": {"vivado"},
    "zynquplus": {"vivado", "kria"},
    "virtexuplus": {"vitis"},
    "virtexuplushbm": {"vitis"},
    "versal": {"vitis"},
}
CORES = {"zynq": ("arm_cortex_a9", 32), "zynquplus": ("arm_cortex_a53", 64), "versal": ("arm_cortex_a72", 64)}

every_board = pytest.mark.parametrize("name", board_names())


def content(name: str) -> dict:
    return tomllib.loads((folder("boards") / f"{name}.toml").read_text())


def printed(show, *arguments) -> str:
    out = Console(file=io.StringIO(), width=120, markup=False)
    show(*arguments, out)
    return out.file.getvalue()


def test_all_boards_are_there():
    assert set(board_names()) >= set(BOARDS)


@every_board
def test_the_facts_of_its_part(name):
    board = load_board(name)
    assert board.name == name
    match = re.fullmatch(PARTS[board.family], board.part)
    assert match, board.part
    assert match[1] == BOARDS.get(name, match[1])
    assert tuple(board.resources.model_dump().values()) == DEVICES[match[1]]


@every_board
def test_its_flow_has_what_it_needs(name):
    board = load_board(name)
    assert board.flow in FLOWS[board.family]
    assert (board.flow == "kria") == board.part.startswith("xck")
    assert bool(board.platform) == (board.flow == "vitis")
    if board.family in CORES:
        assert (board.processor.core, board.processor.bits) == CORES[board.family]
        single = re.match(r"xc7z\d{3}s", board.part)
        assert board.processor.count == (1 if single else 4 if board.family == "zynquplus" else 2)
    else:
        assert board.processor is None
    assert re.fullmatch(r"[\w.]+:[\w-]+:part0:\d+\.\d+", board.board_part or "x:x:part0:1.0")


@every_board
def test_its_memories(name):
    board = load_board(name)
    assert board.memories
    for memory in board.memories:
        assert memory.mib & (memory.mib - 1) == 0
        assert 1 <= (memory.gbps or 1) <= 460
    assert any(memory.kind == "hbm2" for memory in board.memories) == (board.family == "virtexuplushbm")


@every_board
def test_its_sources(name):
    sources = load_board(name).sources
    assert {"resources", "part", "memories"} <= set(sources)
    for text in sources.values():
        assert len(text) > 5
        assert not re.search(r"(^|\s)[/~]|[A-Z]:\\", text), f"a path of some computer: {text}"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("zcu104", {"processor": None}),
        ("zcu104", {"platform": "p"}),
        ("kv260", {"processor": None}),
        ("u250", {"platform": None}),
        ("arty-a7-100t", {"platform": "p"}),
        ("arty-a7-100t", {"processor": {"core": "arm_cortex_a9", "count": 2, "bits": 32}}),
        ("pynq-z2", {"flow": "ip"}),
        ("pynq-z2", {"memories": [{"kind": "ddr3", "mib": 0}]}),
        ("pynq-z2", {"memories": [{"kind": "sram", "mib": 1}]}),
        ("pynq-z2", {"memories": [{"kind": "ddr3", "mib": 1, "gbps": -1}]}),
        ("pynq-z2", {"memories": [{"kind": "ddr3", "mib": 1, "speed": 1}]}),
        ("pynq-z2", {"processor": {"core": "riscv", "count": 1, "bits": 32}}),
        ("pynq-z2", {"sources": None}),
    ],
)
def test_what_does_not_fit_together_is_refused(name, change):
    Board.model_validate(content(name))
    with pytest.raises(ValidationError):
        Board.model_validate(content(name) | change)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("zcu10", "Did you mean 'zcu102' or 'zcu104' or 'zcu106'?"),
        ("PYNQZ2", "Did you mean 'pynq-z2'?"),
        ("alveo-u55c", "Did you mean 'u55c'?"),
        ("qqqq", "Known are arty-a7-100t, aup-zu3, "),
        ("", "Known are arty-a7-100t, "),
    ],
)
def test_an_unknown_board_gets_the_nearest_ones(name, hint):
    with pytest.raises(BoardError) as caught:
        load_board(name)
    assert hint in str(caught.value)


def test_facts_are_frozen():
    board = load_board("zcu104")
    for part in (board, board.resources, board.memories[0], board.processor):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(part, next(iter(type(part).model_fields)), 1)


def test_the_list_names_every_board():
    text = printed(board_list)
    for board in map(load_board, board_names()):
        (line,) = (line for line in text.splitlines() if line.startswith(f"│ {board.name} "))
        r = board.resources
        words = [word.strip() for word in line.strip("│").split("│")]
        assert words == [
            board.name, board.part, board.flow, str(r.dsp), str(r.bram36), str(r.lut), f"{board.clock_mhz:g}",
        ]  # fmt: skip


@every_board
def test_all_facts_are_printed(name):
    """Plain integers, the part in one piece: scripts look for them."""
    board = load_board(name)
    text = printed(board_table, name)
    numbers = set(map(int, re.findall(r"\d+", text)))
    assert set(board.resources.model_dump().values()) | {memory.mib for memory in board.memories} <= numbers
    words = " ".join(re.sub("[│─┌┐└┘]", " ", text).split())
    for fact in (board.title, board.part, board.family, board.flow, board.board_part, board.platform):
        assert fact is None or fact in text
    for fact in (*board.sources.values(), board.reserved or "", *map(memory_text, board.memories)):
        assert " ".join(fact.split()) in re.sub(r" source, \w+ ", " ", words)
    assert board.processor is None or processor_text(board.processor) in text


def test_texts():
    assert memory_text(Memory(kind="ddr3l", mib=256)) == "DDR3L, 256 MiB"
    assert memory_text(Memory(kind="hbm2", mib=8192, banks=32, gbps=460)) == "HBM2, 8192 MiB, 32 banks, 460 GB/s"
    assert memory_text(Memory(kind="ddr4", mib=1, banks=1, gbps=38.4)) == "DDR4, 1 MiB, 1 bank, 38.4 GB/s"
    assert processor_text(Processor(core="arm_cortex_a9", count=1, bits=32)) == "1 x Arm Cortex-A9, 32 bits"
    assert list(Resources.model_fields) == ["dsp", "bram36", "uram", "lut", "ff"]


def test_the_table_of_the_documentation_is_current():
    assert f"\n\n{board_page()}\n" in (ROOT / "docs/boards.md").read_text()


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """One dense layer."""
    m = Model()
    m.input("x", 1, 4)
    m.output(m.add("Gemm", "x", m.noise(4, 3), name="g"))
    return program_of(m, tmp_path_factory.mktemp("program"))


@every_board
def test_a_project_is_rendered_for_it(program, name):
    board = load_board(name)
    design = make_design(program, board, board.clock_mhz, Configuration())
    frame = np.zeros((1, 1), np.int64)
    inputs, outputs = ({t.name: frame for t in side} for side in (design.network.inputs, design.network.outputs))
    files = render_hls(design.network, board, board.clock_mhz, inputs, outputs)
    script = [line.strip() for line in files["run_hls.tcl"].splitlines()]
    unified = files["hls_config.cfg"].splitlines()
    kernel = board.flow == "vitis"
    assert f"set_part {board.part}" in script
    assert any(f"export_design -format {'xo' if kernel else 'ip_catalog'}" in line for line in script)
    assert f"part={board.part}" in unified
    assert ("flow_target=vitis" in unified) == kernel
    assert f"package.output.format={'xo' if kernel else 'ip_catalog'}" in unified
    assert f"{board.title} ({board.part})" in files["README.md"]
