"""Passes keep what they promise on random graphs, and do what they are for."""

from dataclasses import replace

import numpy as np
import pytest

from tests.passes.graphs import Builder, outputs, random_inputs, random_integer_graph, random_real_graph
from toolchain.ir import Constant, FixedType, Graph, Overflow, Rounding, TensorType
from toolchain.ir.window import Window
from toolchain.ops.add import Add
from toolchain.ops.affine import Affine
from toolchain.ops.clip import Clip
from toolchain.ops.concat import Concat
from toolchain.ops.conv import Conv
from toolchain.ops.gemm import Gemm
from toolchain.ops.max_pool import MaxPool
from toolchain.ops.pad import Pad
from toolchain.ops.quantize import Quantize
from toolchain.ops.requantize import Requantize
from toolchain.ops.reshape import Reshape
from toolchain.ops.slice import Slice
from toolchain.ops.softmax import Softmax
from toolchain.ops.table import Table
from toolchain.ops.transpose import Transpose
from toolchain.passes import pipeline
from toolchain.passes.fold_affine import fold_affine
from toolchain.passes.fuse_requantize import fuse_requantize
from toolchain.passes.permute_gemm import permute_gemm
from toolchain.passes.sink_transposes import sink_transposes
from toolchain.simulation.fast import FastEngine

REAL_SEEDS = range(1000, 1150)
INTEGER_SEEDS = range(2000, 2150)
TOLERANCE = 1e-9
CLOSE = 1e-300


def names(graph: Graph) -> list[str]:
    """The operators in order, for the tests that say what shall be left."""
    return [type(node.operator).__name__ for node in graph.nodes if not isinstance(node.operator, Quantize)]


def assert_same_ends(before: Graph, after: Graph) -> None:
    """The user's side of a graph is not a pass's to change."""
    assert [(g.name, g.model_shape) for g in after.inputs] == [(g.name, g.model_shape) for g in before.inputs]
    assert [output.name for output in after.outputs] == [output.name for output in before.outputs]
    assert len({node.name for node in after.nodes}) == len(after.nodes)


def assert_close(before: Graph, after: Graph, seed: int) -> None:
    """Equal up to the rounding of float64, relative to the largest value of each output."""
    assert_same_ends(before, after)
    inputs = random_inputs(before, seed)
    wanted, got = outputs(before, inputs), outputs(after, inputs)
    for name, array in wanted.items():
        assert got[name].shape == array.shape, f"seed {seed}, {name}"
        error = np.abs(got[name] - array).max() / max(np.abs(array).max(), CLOSE)
        assert error <= TOLERANCE, f"seed {seed}, {name}: relative error {error}"


def assert_equal(before: Graph, after: Graph, seed: int) -> None:
    assert_same_ends(before, after)
    inputs = random_inputs(before, seed)
    wanted, got = outputs(before, inputs), outputs(after, inputs)
    for name, array in wanted.items():
        assert np.array_equal(got[name], array), f"seed {seed}, {name}"
    for old, new in zip(before.outputs, after.outputs, strict=True):
        a, b = before.types[old.value], after.types[new.value]
        assert (a.width, a.signed, a.fractions) == (b.width, b.signed, b.fractions), f"seed {seed}, {old.name}"


# ---------------------------------------------------------------------------------------------- random graphs


@pytest.mark.parametrize("apply", dict.fromkeys(pipeline.REAL_PASSES), ids=lambda p: p.__name__)
def test_real_pass_keeps_the_function(apply):
    changed = 0
    for seed in REAL_SEEDS:
        graph = random_real_graph(seed)
        after = apply(graph)
        assert_close(graph, after, seed)
        changed += names(after) != names(graph)
    assert changed >= 10, "the random graphs hold what this pass is for"


def test_all_real_passes_keep_the_function():
    for seed in REAL_SEEDS:
        graph = random_real_graph(seed)
        assert_close(graph, pipeline.run(graph, pipeline.REAL_PASSES), seed)


@pytest.mark.parametrize("apply", pipeline.EXACT_PASSES, ids=lambda p: p.__name__)
def test_exact_pass_keeps_every_integer(apply):
    changed = 0
    for seed in INTEGER_SEEDS:
        graph = random_integer_graph(seed)
        after = apply(graph)
        assert_equal(graph, after, seed)
        changed += len(after.nodes) < len(graph.nodes)
    assert changed >= len(INTEGER_SEEDS) // 4, "the random graphs hold what this pass is for"


@pytest.mark.parametrize(
    "apply", dict.fromkeys((*pipeline.REAL_PASSES, *pipeline.EXACT_PASSES)), ids=lambda p: p.__name__
)
def test_a_second_application_changes_nothing_more(apply):
    for seed in range(20):
        graph = random_integer_graph(seed) if apply in pipeline.EXACT_PASSES else random_real_graph(seed)
        once = apply(graph)
        assert names(apply(once)) == names(once), f"seed {seed}"


def test_fast_engine_gives_the_reference_on_random_programs():
    for seed in INTEGER_SEEDS:
        graph = random_integer_graph(seed)
        inputs = random_inputs(graph, seed)
        given = {i.name: i.from_model(inputs[i.name]) for i in graph.inputs}
        got = FastEngine(graph).evaluate(given)
        for output in graph.outputs:
            wanted = outputs(graph, inputs)[output.name]
            assert np.array_equal(output.to_model(got[output.name]), wanted), f"seed {seed}, {output.name}"


# ---------------------------------------------------------------------------------------------- pieces


def builder() -> Builder:
    return Builder(np.random.default_rng(7))


def conv(build: Builder, value: str, outputs_: int = 3, pads=(1, 1, 1, 1)) -> str:
    """As the importer adds it to a channels-first model."""
    channels = build.types[value].shape[0]
    window = Window((3, 3), (1, 1), (1, 1), pads)
    weights, bias = build.rng.normal(size=(3, 3, channels, outputs_)), build.rng.normal(size=outputs_)
    last = build.add(Transpose((1, 2, 0)), value)
    return build.add(Transpose((2, 0, 1)), build.add(Conv(Constant(weights), Constant(bias), window), last))


def scale(build: Builder, *shape: int, offset: bool = True) -> Affine:
    offsets = build.rng.normal(size=shape) if offset else np.zeros(shape)
    return Affine(Constant(build.rng.normal(size=shape)), Constant(offsets))


def matrix(build: Builder, rows: int, columns: int = 2) -> Gemm:
    return Gemm(Constant(build.rng.normal(size=(rows, columns))), Constant(build.rng.normal(size=columns)))


def applied(apply, build: Builder, *values: str) -> Graph:
    """The pass on the graph, checked for what real passes promise."""
    graph = build.graph(*values)
    after = apply(graph)
    assert_close(graph, after, seed=1)
    return after


# ---------------------------------------------------------------------------------------------- sink_transposes


def test_transpositions_of_a_chain_disappear():
    build = builder()
    value = conv(build, build.input((2, 5, 6)))
    value = conv(build, build.add(Clip(0, None), value))
    assert names(applied(sink_transposes, build, value)) == ["Conv", "Clip", "Conv"]


def test_transpositions_of_a_residual_network_disappear():
    build = builder()
    start = conv(build, build.input((3, 5, 6)))
    value = conv(build, build.add(Clip(0, None), start))
    value = build.add(Add(), value, start)
    value = build.add(Concat(0), value, start)
    value = build.add(scale(build, 6, 1, 1), value)
    value = build.add(Pad((0, 1, 2), (0, 0, 1), 0.5), value)
    value = build.add(Slice((1, 0, 1), (2, 1, 2), (2, 4, 3)), value)
    after = applied(sink_transposes, build, value)
    assert "Transpose" not in names(after)
    by_name = {type(node.operator): node.operator for node in after.nodes}
    assert by_name[Concat].axis == 2
    assert by_name[Affine].scale.shape == (1, 1, 6)
    assert by_name[Pad].before == (1, 2, 0)
    assert by_name[Slice].starts == (0, 1, 1)


def test_a_transposition_between_input_and_output_becomes_a_way_of_reading():
    build = builder()
    value = build.add(Transpose((2, 0, 1)), build.input((2, 3, 4)))
    after = applied(sink_transposes, build, value)
    assert names(after) == []


def test_an_input_that_is_read_in_two_orders_keeps_its_own():
    build = builder()
    given = build.input((2, 5, 6))
    flat = build.add(matrix(build, 6), given)
    after = applied(sink_transposes, build, conv(build, given), flat)
    assert names(after).count("Transpose") == 1


def test_operands_in_different_orders_are_aligned_once():
    build = builder()
    given = build.input((3, 4, 5))
    value = build.add(Add(), conv(build, given), build.add(Softmax(), given))
    after = applied(sink_transposes, build, build.add(Clip(0, None), value))
    assert names(after).count("Transpose") <= 2


def test_transpositions_of_axes_of_size_one_are_reshapes():
    build = builder()
    value = build.add(Softmax(), build.input((4, 1, 1)))
    value = build.add(Softmax(), build.add(Transpose((1, 2, 0)), value))
    assert names(applied(sink_transposes, build, value)) == ["Softmax", "Reshape", "Softmax"]


def test_an_operator_that_works_along_an_axis_stops_a_transposition():
    build = builder()
    value = build.add(Transpose((1, 0)), build.add(Softmax(), build.input((3, 4))))
    after = applied(sink_transposes, build, build.add(Softmax(), value))
    assert names(after) == ["Softmax", "Transpose", "Softmax"]


# ---------------------------------------------------------------------------------------------- fold_affine


def channels_last_conv(build: Builder, value: str, pads=(0, 0, 0, 0), groups: int = 1) -> str:
    channels = build.types[value].shape[2]
    weights = build.rng.normal(size=(3, 3, channels // groups, 4))
    window = Window((3, 3), (1, 1), (1, 1), pads)
    return build.add(Conv(Constant(weights), Constant(build.rng.normal(size=4)), window, groups), value)


@pytest.mark.parametrize("shape", [(1, 1, 4), (1, 1, 1)])
def test_normalization_folds_into_the_convolution_before(shape):
    build = builder()
    value = build.add(scale(build, *shape), channels_last_conv(build, build.input((5, 6, 2)), (1, 1, 1, 1)))
    assert names(applied(fold_affine, build, build.add(Clip(0, None), value))) == ["Conv", "Clip"]


def test_normalization_folds_into_the_matrix_before_and_behind():
    build = builder()
    value = build.add(matrix(build, 5, 3), build.add(scale(build, 5), build.input((5,))))
    value = build.add(scale(build, 3), value)
    assert names(applied(fold_affine, build, value)) == ["Gemm"]


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_normalization_folds_into_an_unpadded_convolution_behind(groups):
    build = builder()
    value = build.add(scale(build, 1, 1, 4), build.input((5, 6, 4)))
    assert names(applied(fold_affine, build, channels_last_conv(build, value, groups=groups))) == ["Conv"]


def test_an_offset_does_not_fold_through_padding_but_a_scale_does():
    for offset, left in ((True, ["Affine", "Conv"]), (False, ["Conv"])):
        build = builder()
        value = build.add(scale(build, 1, 1, 4, offset=offset), build.input((5, 6, 4)))
        assert names(applied(fold_affine, build, channels_last_conv(build, value, (1, 1, 1, 1)))) == left


def test_several_scales_fold_together():
    build = builder()
    value = build.add(scale(build, 1, 1, 2), build.input((5, 6, 2)))
    value = build.add(scale(build, 1, 6, 1), value)
    value = build.add(scale(build, 5, 1, 1), value)
    assert names(applied(fold_affine, build, build.add(Clip(0, None), value))) == ["Affine", "Clip"]


def test_a_value_with_two_readers_is_not_folded_into():
    build = builder()
    value = channels_last_conv(build, build.input((5, 6, 2)))
    after = applied(fold_affine, build, build.add(Add(), build.add(scale(build, 1, 1, 4), value), value))
    assert names(after) == ["Conv", "Affine", "Add"]


def test_a_value_that_is_an_output_is_not_folded_into():
    build = builder()
    value = channels_last_conv(build, build.input((5, 6, 2)))
    assert names(applied(fold_affine, build, value, build.add(scale(build, 1, 1, 4), value))) == ["Conv", "Affine"]


def test_a_scale_per_row_is_no_part_of_a_convolution():
    build = builder()
    value = channels_last_conv(build, build.input((5, 6, 2)))
    assert names(applied(fold_affine, build, build.add(scale(build, 3, 1, 1), value))) == ["Conv", "Affine"]


# ---------------------------------------------------------------------------------------------- permute_gemm


def test_a_matrix_behind_a_flattened_picture_takes_it_channels_last():
    build = builder()
    value = conv(build, build.input((2, 5, 6)))
    value = build.add(matrix(build, 3 * 5 * 6), build.add(Reshape((90,)), value))
    after = applied(lambda graph: permute_gemm(sink_transposes(graph)), build, value)
    assert names(after) == ["Conv", "Reshape", "Gemm"]
    assert after.nodes[-1].operator.geometry == (5, 6, 3)


def test_two_matrices_behind_one_flattened_picture():
    build = builder()
    flat = build.add(Reshape((90,)), conv(build, build.input((2, 5, 6))))
    ends = (build.add(matrix(build, 90), flat), build.add(matrix(build, 90, 4), flat))
    after = applied(lambda graph: permute_gemm(sink_transposes(graph)), build, *ends)
    assert "Transpose" not in names(after)


def test_a_flattened_picture_that_is_read_otherwise_keeps_its_order():
    build = builder()
    flat = build.add(Reshape((90,)), conv(build, build.input((2, 5, 6))))
    ends = (build.add(matrix(build, 90), flat), build.add(Softmax(), flat))
    after = applied(lambda graph: permute_gemm(sink_transposes(graph)), build, *ends)
    assert names(after).count("Transpose") == 1


def test_a_matrix_over_the_last_of_several_axes_is_left_alone():
    build = builder()
    value = build.add(Reshape((6, 15)), conv(build, build.input((2, 5, 6))))
    after = applied(lambda graph: permute_gemm(sink_transposes(graph)), build, build.add(matrix(build, 15), value))
    assert names(after).count("Transpose") == 1


# ---------------------------------------------------------------------------------------------- fuse_requantize

SIGNED = TensorType.of((3, 4), FixedType(9, 4))


def fused(*operators, given: TensorType = SIGNED) -> list[str]:
    """What is left of a chain; every integer stays."""
    build = builder()
    value = build.input(given.shape, given)
    for operator in operators:
        make = operator(build.types[value]) if callable(operator) else operator
        value = build.add(make, value)
    graph = build.graph(value)
    after = fuse_requantize(graph)
    assert_equal(graph, after, seed=3)
    return names(after)


def to(width: int, fraction: int, signed: bool, overflow: str, rounding: str = "RND"):
    type = FixedType(width, width - fraction, signed, Rounding(rounding), Overflow(overflow))
    return lambda given: Requantize.between(given, type)


RELU = Clip(0, None)


@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize("overflow", ["SAT", "SAT_SYM"])
def test_relu_fuses_into_a_saturating_unsigned_requantize(rounding, overflow):
    assert fused(RELU, to(6, 3, False, overflow, rounding)) == ["Requantize"]


def test_relu_of_several_binary_points_fuses():
    given = TensorType((3, 4), 9, True, (5, 3, 4, 6), -256, 255)
    assert fused(RELU, to(6, 3, False, "SAT"), given=given) == ["Requantize"]


@pytest.mark.parametrize(
    ("signed", "overflow"), [(True, "SAT"), (True, "SAT_SYM"), (False, "WRAP"), (False, "SAT_ZERO"), (True, "WRAP_SM")]
)
def test_relu_stays_where_the_requantize_does_not_stop_at_zero(signed, overflow):
    assert fused(RELU, to(5, 3, signed, overflow)) == ["Clip", "Requantize"]


def test_other_limits_stay():
    assert fused(Clip(1, None), to(6, 3, False, "SAT")) == ["Clip", "Requantize"]
    assert fused(Clip(0, 100), to(6, 3, False, "SAT")) == ["Clip", "Requantize"]


def test_relu_stays_for_its_other_readers():
    build = builder()
    relu = build.add(RELU, build.input(SIGNED.shape, SIGNED))
    narrow = build.add(to(6, 3, False, "SAT")(build.types[relu]), relu)
    graph = build.graph(narrow, relu)
    after = fuse_requantize(graph)
    assert_equal(graph, after, seed=4)
    assert names(after) == ["Clip", "Requantize"]
    (entry,) = after.nodes[:1]
    assert after.by_name[after.outputs[0].value].inputs == (entry.name,)


def test_a_requantize_to_the_same_type_goes():
    assert fused(to(9, 5, True, "SAT")) == []
    assert fused(to(9, 5, True, "WRAP")) == []


def test_a_requantize_that_changes_something_stays():
    assert fused(to(9, 4, True, "SAT")) == ["Requantize"]
    assert fused(to(8, 5, True, "SAT")) == ["Requantize"]
    assert fused(to(10, 5, True, "SAT")) == ["Requantize"]
    assert fused(to(9, 5, True, "SAT_SYM")) == ["Requantize"], "-256 becomes -255"


def test_a_limit_outside_the_range_goes():
    assert fused(Clip(-256, 255), MaxPool(Window((1, 1))), given=TensorType.of((3, 4, 2), FixedType(9, 4))) == [
        "MaxPool"
    ]
    assert fused(Clip(-300, None)) == []
    assert fused(RELU, given=TensorType.of((3,), FixedType(8, 4, False))) == []


def test_a_limit_that_narrows_the_type_stays_where_the_width_means_something():
    """A table's index is the pattern of all bits of its input: no pass may widen it."""
    given = TensorType((3,), 8, True, (2,), 0, 31)
    entries = Constant(np.arange(32)[::-1])
    assert fused(Clip(0, 31), Table(entries, FixedType(6, 6)), given=given) == ["Clip", "Table"]


# ---------------------------------------------------------------------------------------------- tests of the tests


def test_a_pass_that_changes_an_integer_is_noticed():
    def without_requantize(graph: Graph) -> Graph:
        """Takes every rounding for half up."""
        return graph.with_nodes(
            tuple(
                replace(n, operator=replace(n.operator, type=replace(n.operator.type, rounding=Rounding.TRN)))
                if isinstance(n.operator, Requantize)
                else n
                for n in graph.nodes
            )
        )

    noticed = 0
    for seed in INTEGER_SEEDS[:20]:
        graph = random_integer_graph(seed)
        try:
            assert_equal(graph, without_requantize(graph), seed)
        except AssertionError:
            noticed += 1
    assert noticed >= 5


def test_a_pass_that_changes_the_function_is_noticed():
    def scaled(graph: Graph) -> Graph:
        """Scales by one part in a hundred million too much."""
        return graph.with_nodes(
            tuple(
                replace(n, operator=replace(n.operator, weights=Constant(n.operator.weights.array * (1 + 1e-7))))
                if isinstance(n.operator, Conv | Gemm)
                else n
                for n in graph.nodes
            )
        )

    build = builder()
    graph = build.graph(conv(build, build.input((2, 5, 6))))
    with pytest.raises(AssertionError, match="relative error"):
        assert_close(graph, scaled(graph), 1)
