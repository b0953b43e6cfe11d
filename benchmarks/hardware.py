"""How long the choice of hardware takes for ResNet-50's 53 convolutions and matrix, with random weights.

python benchmarks/hardware.py [--boards u250,zcu104] [--weights constant|streamed]

Prints one line a board: processor seconds of the folding solver alone and of the whole choice (foldings, network, FIFO
depths), and what was chosen. The topology is that of the onnx package's tests; weights are drawn with a fixed seed. The
integer program is made once, which is not counted; with `streamed` weights, which have to be packed for that, it takes
a quarter of an hour.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from toolchain import compiler
from toolchain.frontends import read_graph
from toolchain.hardware.board import load_board
from toolchain.hardware.resources import network_estimate
from toolchain.ir import Graph
from toolchain.passes import pipeline
from toolchain.quantization.budget import lower_packed
from toolchain.quantization.configuration import load_configuration
from toolchain.report.build import Design

MODEL = Path(onnx.__file__).parent / "backend/test/data/light/light_resnet50.onnx"
SHAPE = (2, 3, 224, 224)


def with_weights(target: Path) -> Path:
    """The topology with seeded random weights in place of those it generates, which are all equal."""
    model, rng = onnx.load(MODEL), np.random.default_rng(0)
    known = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    positive = {n.input[k] for n in model.graph.node if n.op_type == "BatchNormalization" for k in (1, 4)}
    model.ir_version = 8  # an initializer need not be an input too
    for node in [n for n in model.graph.node if n.op_type == "ConstantOfShape"]:
        shape, name = tuple(map(int, known[node.input[0]])), node.output[0]
        scale = (2 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.1
        values = rng.uniform(0.5, 1.5, shape) if name in positive else rng.normal(0, scale, shape)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
        model.graph.node.remove(node)
    onnx.save(model, target)
    return target


def program(options: Mapping[str, Any]) -> tuple[Graph, Any]:
    """The integer program, and the configuration it was made with."""
    configuration = load_configuration(None, **options)
    with tempfile.TemporaryDirectory() as folder:
        real = pipeline.run(read_graph(with_weights(Path(folder) / "model.onnx")), pipeline.REAL_PASSES)
    data = {real.inputs[0].name: np.random.default_rng(0).normal(0, 1, SHAPE).astype(np.float32)}
    packing = lower_packed(real, data, configuration, compiler.container_size)
    return pipeline.run(packing.lowered.graph, pipeline.EXACT_PASSES), configuration


def designs(boards: list[str], graph: Graph, configuration: Any) -> Iterator[tuple[str, float, float, Design]]:
    """(board, processor seconds of the solver, of all, design); options are made again for each board."""
    fold, spent = compiler.fold, [0.0]

    def timed(*given: Any) -> Any:
        start = time.process_time()
        found = fold(*given)
        spent[0] += time.process_time() - start
        return found

    compiler.fold = timed
    for name in boards:
        for node in graph.nodes:
            node.operator.__dict__.pop("_options", None)
        board, start, spent[0] = load_board(name), time.process_time(), 0.0
        design = compiler.make_design(graph, board, board.clock_mhz, configuration)
        yield name, spent[0], time.process_time() - start, design
    compiler.fold = fold


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boards", default="u250,zcu104")
    parser.add_argument("--weights", choices=("constant", "streamed"), default="constant")
    chosen = parser.parse_args()
    options = {"constant": {"pack": "none"}, "streamed": {"weight_memory": "streamed"}}[chosen.weights]
    for board, solver, whole, design in designs(chosen.boards.split(","), *program(options)):
        total = network_estimate(design.network)
        print(
            f"{board}: solver {solver:.1f} s, all {whole:.1f} s; modelled: {design.timing.interval} cycles a frame, "
            f"{total.dsp} DSP, {total.bram36:g} BRAM36, {total.uram} URAM, {total.lut} LUT, "
            f"{design.shortfall:.2f} of the tightest budget"
        )


if __name__ == "__main__":
    main()
