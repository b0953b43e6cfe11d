"""Graphs say what is wrong with them, and know who reads a value and when nobody does any more."""

import numpy as np
import pytest

from toolchain.errors import PassError, ToolchainError
from toolchain.ir import Constant, FixedType, Graph, Input, Node, Output, RealType, TensorType
from toolchain.ops.add import Add
from toolchain.ops.gemm import Gemm
from toolchain.ops.quantize import Quantize
from toolchain.ops.table import Sigmoid

X = Input("x", RealType((3,)), (0,))


def gemm(rows=3, columns=2):
    return Gemm(Constant(np.ones((rows, columns))), Constant(np.zeros(columns)))


def graph(*nodes, inputs=(X,), outputs=()):
    return Graph("g", inputs, nodes, tuple(outputs))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (graph(Node("x", gemm(), ("x",))), "x: a value is defined twice"),
        (graph(Node("a", gemm(), ("x",)), Node("a", gemm(), ("x",))), "a: a value is defined twice"),
        (graph(inputs=(X, X)), "x: a value is defined twice"),
        (graph(Node("a", gemm(), ("b",)), Node("b", gemm(), ("x",))), "a: uses 'b' before"),
        (graph(Node("a", gemm(), ("a",))), "a: uses 'a' before"),
        (graph(outputs=[Output("y", "nowhere", (0,))]), "y: output value 'nowhere' is not defined"),
        (graph(Node("a", gemm(4), ("x",))), "a: has weights for 4 inputs"),
        (graph(outputs=[Output("y", "x", (0, 1))]), "axes"),
        (graph(outputs=[Output("y", "x", (1,))]), "axes"),
        (graph(inputs=(Input("x", RealType((3, 4)), (0, 0)),)), "axes"),
        (graph(Node("a", gemm(), ("q",)), inputs=(Input("q", TensorType.of((3,), FixedType(8, 8)), (0,)),)), ""),
        (graph(Node("q", Quantize(FixedType(8, 8)), ("x",)), Node("r", Quantize(FixedType(8, 8)), ("q",))), "real"),
    ],
)
def test_what_is_wrong_and_where(wrong, said):
    with pytest.raises((ToolchainError, ValueError, TypeError, AttributeError)) as caught:
        wrong.types  # noqa: B018 - raises
    assert said in str(caught.value)
    if said:
        assert isinstance(caught.value, ToolchainError)


def test_readers():
    nodes = (Node("a", Sigmoid(), ("x",)), Node("b", Add(), ("a", "a")), Node("c", Sigmoid(), ("a",)))
    g = graph(*nodes, outputs=[Output("y", "b", (0,)), Output("z", "b", (0,))])
    assert [n.name for n in g.consumers["a"]] == ["b", "b", "c"]
    assert g.consumers["b"] == ()
    assert g.sole_consumer("a") is None
    assert g.sole_consumer("b") is None
    assert g.sole_consumer("x") is nodes[0]
    assert graph(*nodes, outputs=[Output("y", "x", (0,))]).sole_consumer("x") is None
    assert g.is_output("b")
    assert not g.is_output("a")


def test_memory_is_freed_after_the_last_use_and_outputs_are_kept():
    nodes = (Node("a", Sigmoid(), ("x",)), Node("b", Sigmoid(), ("a",)), Node("unread", Sigmoid(), ("b",)),
             Node("c", Add(), ("a", "b")))  # fmt: skip
    g = graph(*nodes, outputs=[Output("y", "b", (0,)), Output("z", "c", (0,))])
    dying = {node.name: set(names) for node, names in g.last_uses()}
    assert dying == {"a": {"x"}, "b": set(), "unread": {"unread"}, "c": {"a"}}


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0), (0, 2, 1)])
def test_layouts_of_inputs_and_outputs_are_inverse(axes):
    program_shape = (4, 5, 6)
    given = Input("x", RealType(program_shape), axes)
    values = np.random.default_rng(1).normal(size=(2, *given.model_shape))
    inside = given.from_model(values)
    assert inside.shape == (2, *program_shape)
    back = Output("y", "x", tuple(axes.index(k) for k in range(3)))
    assert np.array_equal(back.to_model(inside), values)


def test_constants():
    assert Constant([1, 2]) == Constant(np.array([1, 2], np.int8))
    assert Constant([1, 2]) != Constant([1.0, 2.0])
    assert Constant([[1, 2]]) != Constant([1, 2])
    assert Constant(np.array([2**70, 1], dtype=object)) == Constant([2**70, 1])
    assert len({Constant([1]), Constant([1]), Constant([2])}) == 2
    constant = Constant([1, 2])
    with pytest.raises(ValueError, match="read-only"):
        constant.array[0] = 5
    original = np.array([1, 2])
    copy = Constant(original)
    original[0] = 9
    assert copy.array.tolist() == [1, 2]


def test_errors_name_the_innermost_place():
    with pytest.raises(PassError) as caught:
        graph(Node("n\nx", gemm(), ("nowhere",))).types  # noqa: B018 - raises
    assert "\n" not in str(caught.value)
