"""UltraRAM: what it holds, when it is used, and that the generated C++ says the same as the model."""

import ast
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import toolchain
from tests.hardware.designs import program_of
from tests.hls_templates.harness import TEMPLATES
from tests.small import Model
from tests.verification.test_lint import needs_clang
from toolchain.codegen.hls import render_hls
from toolchain.codegen.kernel import Cost, Kernel, Port, Schedule
from toolchain.compiler import make_design, raw_frames
from toolchain.hardware.board import Resources, board_names, load_board
from toolchain.hardware.folding import options
from toolchain.hardware.network import Network, Stream
from toolchain.hardware.resources import Estimate, exceeded, kernel_estimate, network_estimate, ultra_memory
from toolchain.hardware.ultra_ram import place_fifos, placements
from toolchain.ir import FixedType, TensorType
from toolchain.ops.conv import Conv
from toolchain.quantization.configuration import Configuration, LayerConfiguration
from toolchain.verification.lint import lint_hls

PACKAGE = Path(toolchain.__file__).parent
WORD = TensorType.of((4096, 9), FixedType(8, 8))


def pictures() -> Model:
    """Wide pictures and a skip connection: line buffers and a FIFO that block RAM is short of."""
    m = Model()
    a = m.input("x", "N", 16, 6, 256)
    b = m.add("Relu", m.add("Conv", a, m.noise(16, 16, 3, 3), name="c1", pads=[1, 1, 1, 1]), name="r")
    b = m.add("Conv", b, m.noise(16, 16, 3, 3), name="c2", pads=[1, 1, 1, 1])
    m.output(m.add("Add", a, b, name="sum"))
    return m


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return program_of(pictures(), tmp_path_factory.mktemp("pictures"))


def designed(graph, bram36, uram):
    part = Resources(dsp=400, bram36=bram36, uram=uram, lut=60_000, ff=10**6)
    board = load_board("zcu104").model_copy(update={"resources": part})
    return make_design(graph, board, 100.0, Configuration(), 60_000), board


def scarce(graph):
    """A part with half of the block RAM that the design wants, and UltraRAM."""
    plenty, _ = designed(graph, 1000, 1000)
    total = network_estimate(plenty.network)
    assert total.uram == 0, "UltraRAM is not taken where block RAM is enough"
    return designed(graph, int(total.bram36 / 2), 40)


@pytest.mark.parametrize(
    ("words", "bits", "blocks"), [(1, 1, 1), (4096, 72, 1), (4097, 72, 2), (4096, 73, 2), (9000, 145, 9)]
)
def test_blocks(words, bits, blocks):
    assert ultra_memory(words, bits) == Estimate(uram=blocks)


def test_memories_that_save_most_go_first_and_constants_never():
    cost = Cost(
        memories=((4096, 72),),
        written=(("shallow", 1, 100, 72), ("deep", 1, 4096, 72), ("narrow", 4, 4096, 18), ("registers", 9, 4, 8)),
    )
    kernel = Kernel("k", "k.h", {}, (Port(WORD, 1),), Port(WORD, 1), Schedule.streaming(1), cost=cost)
    found = placements([kernel])
    assert [names for names, _ in found] == [("deep",), ("deep", "narrow"), ("deep", "narrow", "shallow")]
    for names, more in found:
        placed = kernel_estimate(kernel.placed(names))
        plain = kernel_estimate(kernel)
        assert (placed.bram36, placed.uram) == (plain.bram36 + more.bram36, more.uram)
        assert placed.bram36 >= 8, "the constants stay in block RAM"


def test_it_makes_a_design_fit(graph):
    design, board = scarce(graph)
    total = network_estimate(design.network)
    assert not exceeded(total, board.resources)
    assert 0 < total.uram <= 36
    none, board = designed(graph, board.resources.bram36, 0)
    assert network_estimate(none.network).uram == 0
    assert none.timing.interval > design.timing.interval or exceeded(network_estimate(none.network), board.resources)


def test_too_much_of_it_is_told():
    part = Resources(dsp=1, bram36=1, uram=10, lut=10, ff=10)
    assert exceeded(Estimate(uram=9), part) == {}
    assert exceeded(Estimate(uram=10), part) == {"uram": (10, 9.0)}


def test_a_part_without_has_no_such_options(graph):
    node = next(node for node in graph.nodes if isinstance(node.operator, Conv))
    plain, more = (options(graph, node, LayerConfiguration(), has_uram=has) for has in (False, True))
    assert all(not option.cost.uram and not option.folding.uram for option in plain)
    assert [option for option in more if not option.folding.uram] == plain
    assert any(option.cost.uram for option in more)


def test_fifos_move_until_the_rest_fits():
    streams = {name: Stream(name, Port(WORD, 9), depth) for name, depth in [("a", 4000), ("b", 600), ("c", 2)]}
    network = Network("n", (), streams, (), ())

    def moved(bram36, uram):
        part = Resources(dsp=1, bram36=bram36, uram=uram, lut=10**6, ff=10)
        return {name for name, stream in place_fifos(network, part).streams.items() if stream.in_uram}

    assert moved(20, 10) == set()
    assert moved(3, 10) == {"a"}
    assert moved(1, 10) == {"a", "b"}
    assert moved(1, 1) == set()
    assert moved(1, 2) == {"a"}


def test_every_board_has_a_budget_of_it():
    with_it = {name for name in board_names() if load_board(name).resources.uram}
    assert {"zcu104", "u250", "vck190", "kv260"} <= with_it
    assert not {"pynq-z2", "zcu102", "ultra96-v2"} & with_it


@needs_clang
def test_the_pragmas_are_those_of_the_model(graph, tmp_path):
    design, board = scarce(graph)
    deep = max(design.network.streams.values(), key=lambda stream: stream.depth)
    streams = {**design.network.streams, deep.name: replace(deep, in_uram=True)}
    processes = tuple(replace(one, kernel=one.kernel.placed({"rows", "vectors"})) for one in design.network.processes)
    network = replace(design.network, streams=streams, processes=processes)
    x = np.zeros((1, *graph.inputs[0].model_shape), np.float32)
    files = render_hls(network, board, 100.0, *raw_frames(graph, {"x": x}))
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert [str(finding) for finding in lint_hls(tmp_path)] == []
    for process in network.processes:
        said = re.search(rf"ultra_ram<\w+_design::{process.name}_config>[^}}]*", files["src/configs.h"])
        names = re.findall(r"bool (\w+) = true", said[0]) if said else []
        assert names == list(process.kernel.uram), process.name
    assert any(process.kernel.uram for process in network.processes)
    assert f"bind_storage variable={deep.name} type=fifo impl=uram" in files[f"src/{network.name}.cpp"]


def test_every_memory_that_may_move_has_its_pragma():
    """The names of the model are those of the kernels' arrays, each of which a branch binds."""
    known = set(re.findall(r"static const bool (\w+) = false;", (TEMPLATES / "storage.h").read_text()))
    bound = set()
    for header in (*TEMPLATES.glob("*.h"), *TEMPLATES.glob("ops/*.h")):
        text = header.read_text()
        for name, variable in re.findall(
            r"if \(ultra_ram<C>::(\w+)\) \{\s*DCT_HLS\(bind_storage variable = (\w+)", text
        ):
            assert name == variable, header
            assert re.search(rf"DCT_MEMORY [^;]* {name}\[", text), (header, name)
            bound.add(name)
    assert bound == known
    written = set()
    for path in (*PACKAGE.glob("codegen/*.py"), *PACKAGE.glob("ops/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "written":
                written |= {
                    c.value for c in ast.walk(node.value) if isinstance(c, ast.Constant) and isinstance(c.value, str)
                }
    assert written == known | {"schedule"}, "a schedule that is loaded has its pragma in the top function"
