"""Every integer operator on its own samples, as C with sanitizers: all layers equal the reference engine's."""

from dataclasses import replace

import numpy as np
import pytest

from tests.embedded.checked import CHECKED, STRICTEST, verify
from tests.ops.designs import all_samples, integer_operators, program, program_inputs
from toolchain.codegen.embedded.model import Model
from toolchain.codegen.embedded.stages import stages
from toolchain.ir import Constant, FixedType, Graph, Node, Output, Overflow, Rounding, TensorType
from toolchain.ir.window import Window
from toolchain.ops.add import Add
from toolchain.ops.affine import Affine
from toolchain.ops.clip import Clip
from toolchain.ops.conv import Conv
from toolchain.ops.requantize import Requantize

SEED, ROWS = 72, 6
SAMPLES = tuple(all_samples(SEED))


def together(programs):
    """Independent programs as one, for one C project."""
    inputs, nodes, outputs = [], [], []
    for name, graph in programs.items():
        inputs += [replace(one, name=f"{name}_{one.name}") for one in graph.inputs]
        nodes += [
            replace(one, name=f"{name}_{one.name}", layer=name, inputs=tuple(f"{name}_{value}" for value in one.inputs))
            for one in graph.nodes
        ]
        outputs += [replace(one, name=f"{name}_{one.name}", value=f"{name}_{one.value}") for one in graph.outputs]
    return Graph("together", tuple(inputs), tuple(nodes), tuple(outputs))


@pytest.mark.parametrize(
    "machine", [CHECKED, pytest.param(STRICTEST, marks=pytest.mark.exhaustive)], ids=["gcc", "clang"]
)
@pytest.mark.parametrize("operator", tuple(integer_operators()))
def test_c_gives_the_integers_of_the_definition(operator, machine, tmp_path):
    mine = {name: s for name, s in SAMPLES if type(s.operator).__name__ == operator}
    programs = {name: program(name, sample.operator, sample.inputs) for name, sample in mine.items()}
    inputs = {
        f"{name}_{given}": values
        for name, graph in programs.items()
        for given, values in program_inputs(graph, SEED, ROWS).items()
    }
    if programs:
        assert verify(together(programs), inputs, tmp_path / "c", machine=machine).frames == ROWS


def followed(graph, name, operator, *inputs):
    return graph.with_nodes((*graph.nodes, Node(name, operator, inputs, name)))


def narrowed(graph, value, bits, rounding):
    given = graph.types[value]
    type = FixedType(bits, bits - min(given.fractions), True, rounding, Overflow.SAT)
    return Requantize.between(given, type)


def test_what_follows_a_kernel_is_done_element_by_element(tmp_path):
    """A stage of a kernel and a narrowing; one of three operators whose last adds a value that is there before it."""
    conv = next(s for name, s in SAMPLES if name.startswith("Conv_") and s.operator.groups == 1)
    graph = replace(program("chain", conv.operator, conv.inputs), outputs=())
    graph = followed(graph, "a", narrowed(graph, "y", 6, Rounding.RND), "y")
    graph = followed(graph, "b", Clip(0, None), "a")
    graph = followed(graph, "c", narrowed(graph, "b", 5, Rounding.RND_CONV), "b")
    graph = followed(graph, "d", Add((0, 0)), "c", "a")
    outputs = tuple(Output(f"out{k}", value, (0, 1, 2)) for k, value in enumerate("dbd"))
    graph = replace(graph, outputs=outputs)
    assert [[node.name for node in stage.nodes] for stage in stages(graph)] == [["y", "a"], ["b"], ["c", "d"]]
    assert verify(graph, program_inputs(graph, SEED, ROWS), tmp_path / "c").layers == 5


def test_an_output_that_only_is_an_input_in_another_shape_is_copied(tmp_path):
    sample = next(s for name, s in SAMPLES if name.startswith("Reshape_"))
    graph = program("same", sample.operator, sample.inputs)
    graph = replace(graph, outputs=(graph.outputs[0], replace(graph.outputs[0], name="again")))
    inputs = program_inputs(graph, SEED, ROWS)
    verify(graph, inputs, tmp_path / "c")
    assert len(np.unique(inputs["x0"])) > 2


def test_zeros_may_be_shifted_past_the_integer(tmp_path):
    """A network whose weights are all 0 has such a binary point; in C the shift would be undefined."""
    zero = TensorType((3, 4), 2, True, (0,), 0, 0)
    far = FixedType(8, -60, True, Rounding.RND, Overflow.SAT)
    graph = program("zeros", Requantize.between(zero, far), (zero,))
    verify(graph, program_inputs(graph, SEED, ROWS), tmp_path / "c")
    graph = program("sum", Add((53, 0)), (zero, replace(zero, fractions=(53,))))
    verify(graph, program_inputs(graph, SEED, ROWS), tmp_path / "sum")


def test_a_sum_takes_the_place_of_what_nobody_needs_any_more(tmp_path):
    """A residual is overwritten; what the kernel of the same stage reads is not."""
    window, channels = Window((3, 3), pads=(1, 1, 1, 1)), 4
    weights = Constant(np.random.default_rng(0).integers(-3, 4, (3, 3, channels, channels)))
    conv = Conv(weights, Constant(np.zeros(channels, int)), window, 1, FixedType(3, 3), (0,) * channels)
    given = TensorType.of((6, 6, channels), FixedType(8, 8))
    graph = replace(program("residual", Clip(-90, 90), (given,)), outputs=())
    graph = followed(graph, "a", conv, "y")
    graph = followed(graph, "b", narrowed(graph, "a", 8, Rounding.RND), "a")
    graph = followed(graph, "c", conv, "b")
    graph = followed(graph, "d", narrowed(graph, "c", 8, Rounding.RND), "c")
    graph = followed(graph, "e", Add((0, 0)), "d", "y")
    graph = followed(graph, "f", narrowed(graph, "e", 8, Rounding.RND), "e")
    graph = followed(graph, "g", conv, "f")
    graph = followed(graph, "h", narrowed(graph, "g", 8, Rounding.RND), "g")
    graph = followed(graph, "i", Add((0, 0)), "h", "f")
    graph = followed(graph, "j", narrowed(graph, "i", 8, Rounding.RND), "i")
    graph = followed(graph, "k", Clip(0, None), "j")
    graph = followed(graph, "l", conv, "k")
    graph = replace(graph, outputs=(Output("out", "l", (0, 1, 2)),))
    model = Model(graph)
    assert model.places["f"] == model.places["y"], "f takes y's place"
    assert model.places["k"] != model.places["f"], "the convolution reads f all over"
    verify(graph, program_inputs(graph, SEED, ROWS), tmp_path / "c")


def test_what_makes_a_residual_wider_stays_out_of_memory(tmp_path):
    """Both operands of a sum are scaled up to one step first, as TFLite does it: in the stage of the sum."""
    window, channels = Window((3, 3), pads=(1, 1, 1, 1)), 4
    weights = Constant(np.random.default_rng(0).integers(-3, 4, (3, 3, channels, channels)))
    conv = Conv(weights, Constant(np.zeros(channels, int)), window, 1, FixedType(3, 3), (0,) * channels)
    wider = Affine(
        Constant(np.full((1, 1, channels), 30011)),
        Constant(np.arange(channels).reshape(1, 1, -1)),
        FixedType(16, 16),
        (0,),
    )
    given = TensorType.of((6, 6, channels), FixedType(8, 8))
    graph = replace(program("residual", Clip(-90, 90), (given,)), outputs=())
    for value, previous in (("b", "y"), ("d", "y")):
        graph = followed(graph, f"{value}_sum", conv, previous)
        graph = followed(graph, value, narrowed(graph, f"{value}_sum", 8, Rounding.RND), f"{value}_sum")
    graph = followed(graph, "left", wider, "b")
    graph = followed(graph, "right", wider, "d")
    graph = followed(graph, "e", Add((0, 0)), "left", "right")
    graph = followed(graph, "f", narrowed(graph, "e", 8, Rounding.RND), "e")
    graph = replace(graph, outputs=(Output("out", "f", (0, 1, 2)),))
    made = [[node.name for node in stage.nodes] for stage in stages(graph)]
    assert made == [["y"], ["b_sum", "b"], ["d_sum", "d", "right", "left", "e", "f"]]
    verify(graph, program_inputs(graph, SEED, ROWS), tmp_path / "kernel_last")
    # The other way round: what is read from memory was made by a kernel, whose stage would have widened it.
    places = {node.name: k for k, node in enumerate(graph.nodes)}
    order = sorted(graph.nodes, key=lambda node: places["b"] + 0.5 if node.name == "left" else places[node.name])
    graph = graph.with_nodes(tuple(order))
    assert [[node.name for node in stage.nodes] for stage in stages(graph)] == made
    verify(graph, program_inputs(graph, SEED, ROWS), tmp_path / "kernel_first")
