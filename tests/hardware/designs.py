"""Small networks as hardware designs, for tests of folding and dataflow."""

from pathlib import Path

from tests.small import Model, rows
from toolchain.compiler import make_design
from toolchain.frontends import read_graph
from toolchain.hardware.board import load_board
from toolchain.passes import pipeline
from toolchain.quantization.configuration import Configuration
from toolchain.quantization.lowering import lower


def program_of(model: Model, folder: Path, configuration: Configuration | None = None):
    """The integer program of a model."""
    real = pipeline.run(read_graph(model.save(folder / "net.onnx")), pipeline.REAL_PASSES)
    data = {given.name: rows(4, *given.model_shape) for given in real.inputs}
    lowered = lower(real, data, configuration or Configuration())
    return pipeline.run(lowered.graph, pipeline.EXACT_PASSES)


def design_of(model: Model, folder: Path, interval: int = 0, board: str = "zcu104"):
    """Its hardware: the fastest that fits, or the cheapest that needs no more than `interval` cycles a frame."""
    graph = program_of(model, folder)
    return make_design(graph, load_board(board), 100.0, Configuration(), interval)


def skip() -> Model:
    """Two convolutions beside a skip connection, behind a third."""
    m = Model()
    m.input("x", 1, 2, 8, 8)
    same = {"pads": [1, 1, 1, 1]}
    a = m.add("Relu", m.add("Conv", "x", m.noise(4, 2, 3, 3), name="stem", **same), name="r")
    b = m.add("Relu", m.add("Conv", a, m.noise(4, 4, 3, 3), name="c1", **same), name="r1")
    c = m.add("Conv", b, m.noise(4, 4, 3, 3), name="c2", **same)
    m.output(m.add("Relu", m.add("Add", c, a, name="add"), name="out"))
    return m


def residual(blocks: int, channels: int) -> Model:
    """Residual blocks in a row."""
    m = Model()
    a = m.input("x", "N", channels, 8, 8)
    for k in range(blocks):
        b = m.add("Conv", a, m.noise(channels, channels, 3, 3), name=f"a{k}", pads=[1, 1, 1, 1])
        b = m.add("Conv", m.add("Relu", b), m.noise(channels, channels, 3, 3), name=f"b{k}", pads=[1, 1, 1, 1])
        a = m.add("Relu", m.add("Add", a, b, name=f"add{k}"))
    m.output(a)
    return m


def inception() -> Model:
    """Four branches of different depth into one concatenation, two of them joined once more; two outputs."""
    m = Model()
    m.input("x", 1, 3, 7, 5)
    a = m.add("Conv", "x", m.noise(6, 3, 1, 1), name="one")
    b = m.add("Conv", "x", m.noise(4, 3, 3, 3), pads=[1, 1, 1, 1], name="three")
    c = m.add("Conv", "x", m.noise(5, 3, 3, 3), pads=[1, 1, 1, 1], name="t1")
    c = m.add("Conv", c, m.noise(4, 5, 5, 5), pads=[2, 2, 2, 2], name="five")
    d = m.add("MaxPool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1], name="pool")
    m.output(m.add("GlobalAveragePool", m.add("Concat", a, b, c, d, axis=1, name="cat"), name="gap"))
    m.output(m.add("Add", b, c, name="extra"))
    return m


def global_skip() -> Model:
    """A whole picture has to wait for one number: squeeze and excitation, the worst case of a skip connection."""
    m = Model()
    m.input("x", 1, 4, 6, 6)
    a = m.add("Relu", "x", name="a")
    pooled = m.add("Conv", a, m.noise(4, 4, 6, 6), name="all")
    wide = m.add("Conv", pooled, m.noise(4, 4, 1, 1), pads=[3, 3, 2, 2], name="spread")
    m.output(m.add("Add", a, wide, name="sum"))
    return m


def chain() -> Model:
    """No branch at all."""
    m = Model()
    m.input("x", 1, 2, 9, 9)
    x = m.add("Conv", "x", m.noise(6, 2, 3, 3), strides=[2, 2], name="c")
    x = m.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], name="p")
    m.output(m.add("Gemm", m.add("Flatten", x, name="f"), m.noise(24, 5), name="g"))
    return m


DESIGNS = {"skip": skip, "inception": inception, "global_skip": global_skip, "chain": chain}
