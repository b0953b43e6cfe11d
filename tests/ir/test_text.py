"""The textual form reads back to an equal graph, whatever names are in it; a damaged line is named by its number."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.small import Model, rows, two_ports
from toolchain.compiler import compile_model
from toolchain.errors import ModelError, ToolchainError
from toolchain.frontends import read_graph
from toolchain.ir import Constant, Graph, Input, Node, Output, RealType
from toolchain.ir.text import from_text, to_text
from toolchain.ops import OPERATORS
from toolchain.ops.gemm import Gemm
from toolchain.ops.table import Sigmoid
from toolchain.passes import pipeline
from toolchain.project import load

NAMES = ["plain", 'quo"te', "new\nline", "car\rriage", "back\\slash", "}", "{", "]): {", "ünï 名前", "\u2028\u2029\x85",
    "",
         " ", '" = Gemm(', "program", "input ", "\0", "\x1b[0m", "😀", "a" * 5000]  # fmt: skip


def there_and_back(graph):
    """Inline and pooled constants; returns the inline text."""
    text = to_text(graph)
    assert from_text(text) == graph
    pool: list[Constant] = []
    pooled = to_text(graph, pool)
    assert from_text(pooled, pool) == graph
    assert to_text(from_text(text)) == text
    assert len(set(pool)) == len(pool)
    assert all(line.isascii() for line in text.splitlines())
    return text


def every_sample():
    for name, kind in sorted(OPERATORS.items()):
        for number, sample in enumerate(kind.samples(np.random.default_rng([7, 1]))):
            yield pytest.param(sample, id=f"{name}-{number}")


@pytest.mark.parametrize("sample", list(every_sample()))
def test_every_operator(sample):
    inputs = tuple(Input(f"in {k}", type, tuple(range(len(type.shape)))) for k, type in enumerate(sample.inputs))
    node = Node("out", sample.operator, tuple(one.name for one in inputs), "layer")
    graph = Graph("g", inputs, (node,), ())
    axes = tuple(range(len(graph.types["out"].shape)))
    there_and_back(dataclasses.replace(graph, outputs=(Output("y", "out", axes),)))


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_everywhere(name):
    graph = Graph(
        name,
        (Input(name, RealType((3, 1)), (1, 0)),),
        (Node(name + "1", Sigmoid(), (name,), name), Node(name + "2", Sigmoid(), (name + "1",), name + "layer")),
        (Output(name, name + "2", (1, 0)), Output(name, name, (0, 1))),
    )
    there_and_back(graph)


@given(st.text(max_size=20), st.text(max_size=20))
@settings(max_examples=150)
def test_any_names(a, b):
    if a == b:
        return
    there_and_back(Graph(a, (Input(a, RealType((3,)), (0,)),), (Node(b, Sigmoid(), (a,), a),), (Output(b, b, (0,)),)))


@pytest.mark.parametrize(
    "values",
    [np.array([0.1, -0.0, 5e-324, 1.7976931348623157e308, 1 / 3]), np.array([1, -(2**63), 2**63 - 1]),
     np.array([2**63, -(2**100)], dtype=object), np.zeros((0,)), np.zeros((0,), np.int64), np.zeros((2, 0, 3)),
     np.array(0.25), np.array(7), np.zeros((1, 1, 1, 1), np.int64)],
)  # fmt: skip
def test_any_constant(values):
    """Also those of rank 0, without elements, and beyond 64 bits."""
    operator = Gemm(Constant(values), Constant(values))
    text = to_text(Graph("g", (), (), ()))
    assert text
    node = Node("n", operator, ("x",), "n")
    graph = Graph("g", (Input("x", RealType((1,)), (0,)),), (node,), ())
    graph.__dict__["types"] = {"x": RealType((1,)), "n": RealType((1,))}  # only the text matters here
    line = to_text(graph)
    from toolchain.ir.text import _Reader

    (written,) = [one for one in line.splitlines() if one.startswith('"n"')]
    read, _ = _Reader(written, ()).node()
    assert read.operator.weights == operator.weights


def test_real_graphs_and_programs(tmp_path):
    path = two_ports(tmp_path / "net.onnx")
    data = {"a": rows(8, 2, 6, 6), "b": rows(8, 4, 3, 3)}
    there_and_back(read_graph(path))
    there_and_back(pipeline.run(read_graph(path), pipeline.REAL_PASSES))
    project = compile_model(path, tmp_path / "p", calibrate=data)
    there_and_back(project.graph)
    assert load(tmp_path / "p").graph == project.graph


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    m = Model()
    m.input("x", 1, 4)
    m.add("Gemm", "x", m.noise(4, 3), name="g")
    m.output(m.add("Softmax", "g", name="s", axis=-1))
    folder = tmp_path_factory.mktemp("text")
    project = compile_model(m.save(folder / "net.onnx"), folder / "p", calibrate=rows(8, 4))
    pool: list[Constant] = []
    return to_text(project.graph, pool), pool


def test_a_damaged_line_is_named(program):
    text, pool = program
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("program"):
            continue
        for damaged in (line[:-1], line[: len(line) // 2], line + "x", line[1:], "?" + line, line.replace('"', "'", 1)):
            changed = "\n".join([*lines[:number], damaged, *lines[number + 1 :]])
            with pytest.raises(ToolchainError) as caught:
                from_text(changed, pool)
            said = str(caught.value)
            assert isinstance(caught.value, ModelError)
            # A line that is still well formed is found by its type instead.
            assert f"line {number + 1} " in said or "type" in said, (damaged, said)


REST = '"weight_type": null, "fractions": [], "geometry": []} layer "l": real[3]'


@pytest.mark.parametrize(
    "line",
    [
        '"y" = NoSuch("x") {} layer "l": real[3]', '"y" = Sigmoid("x") {"a": 1} layer "l": real[3]',
        '"y" = Sigmoid("x") [] layer "l": real[3]',
        '"y" = Sigmoid("x" {} layer "l": real[3]', '"y" = Sigmoid("x") {} layer 3: real[3]',
        '"y" = Sigmoid(3) {} layer "l": real[3]',
        '"y" = Sigmoid("x") {} layer "l"', '"y" = __class__("x") {} layer "l": real[3]', 'output "y" = "x" axes [a]',
        'output "y" = "x" axes 3', 'output "y" = "x"', 'input "z": float[3] axes [0]', 'input "z": real[3] axes [[0]]',
        'input "z": real[3] axes [0] more', "input z: real[3] axes [0]", 'input "z": fixed<0,0>[3] in [0, 0] axes [0]',
        'input "z": fixed<8,8>[3] in [0, 999] axes [0]', 'input "z": fixed<8,8>[3] in [0, 1] points [1, 2] axes [0]',
        '"y" = Gemm("x") {"weights": {"constant": 0}, "bias": {"constant": -1}, ' + REST,
        '"y" = Gemm("x") {"weights": {"constant": true}, "bias": 3, ' + REST,
        '"y" = Gemm("x") {"weights": {"array": [[1], [2, 3]], "real": true}, "bias": 3, ' + REST,
        '"y" = Transpose("x") {"axes": "01"} layer "l": real[3]',
        '"y" = Transpose("x") {"axes": [0.0]} layer "l": real[3]',
        "garbage", "\x00", "{}", '"' + "[" * 5000, '"y" = Transpose("x") {"axes": ' + "[" * 100_000,
    ],
)  # fmt: skip
def test_wrong_lines(line):
    text = f'program "p"\ninput "x": real[3] axes [0]\n{line}\n'
    with pytest.raises(ModelError, match="line 3 "):
        from_text(text)


def test_a_wrong_type_is_noticed(program):
    text, pool = program
    changed = text.replace('layer "g": fixed<', 'layer "g": fixed<1', 1)
    assert changed != text
    with pytest.raises(ModelError, match="its line says"):
        from_text(changed, pool)
