"""Random quantized TFLite files, and the integers of LiteRT's reference kernels to compare with."""

import numpy as np
import pytest

from tests.frontends.tflite_files import Network
from toolchain.frontends import read_graph
from toolchain.simulation.simulator import Simulator

SEEDS = range(12)
ROWS = 24
RANGES = {"int8": (-128, 127), "uint8": (0, 255)}


class Case:
    """A random network of one operator."""

    def __init__(self, seed, element):
        self.rng = np.random.default_rng([seed, element == "uint8"])
        self.element, self.network = element, Network()

    def zero(self):
        return int(self.rng.integers(RANGES[self.element][0], RANGES[self.element][1] + 1))

    def scale(self, low=0.01, high=0.2):
        return float(np.float32(self.rng.uniform(low, high)))

    def activation(self, *shape, scale=None, zero=None):
        scale, zero = self.scale() if scale is None else scale, self.zero() if zero is None else zero
        return self.network.tensor(shape, self.element, scale=scale, zero=zero)

    def pick(self, *values):
        return values[self.rng.integers(len(values))]

    def weights(self, shape, axis, per_channel):
        """Integers, their scales, and a zero point for uint8."""
        low, high = RANGES[self.element]
        array = self.rng.integers(low + (self.element == "int8"), high + 1, shape).astype(self.element)
        zero = self.zero() if self.element == "uint8" else 0
        scales = [self.scale(0.001, 0.02) for _ in range(shape[axis] if per_channel else 1)]
        zeros = [zero] * len(scales)
        return self.network.constant(array, scale=scales, zero=zeros, axis=axis)

    def bias(self, outputs, x, weights):
        """Its scale is the product that the kernels compare it with."""
        scales = [self.network.tensors[k][4][0] for k in (x, weights)]
        array = self.rng.integers(-2000, 2000, outputs).astype(np.int32)
        return self.network.constant(array, scale=scales[0] * scales[1], zero=[0] * len(scales[1]))

    def files(self, path, inputs, outputs):
        return self.network.write(path, inputs, outputs)


def litert_outputs(path, rows):
    """All outputs of LiteRT's reference kernels with their details, row by row."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    runner = interpreter.Interpreter(str(path), experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_REF)
    runner.allocate_tensors()
    results = [[] for _ in runner.get_output_details()]
    for arrays in zip(*rows, strict=True):
        for details, array in zip(runner.get_input_details(), arrays, strict=True):
            runner.set_tensor(details["index"], array[None])
        runner.invoke()
        for found, details in zip(results, runner.get_output_details(), strict=True):
            found.append(runner.get_tensor(details["index"]))
    return [(np.concatenate(found), one) for found, one in zip(results, runner.get_output_details(), strict=True)]


def litert(path, rows):
    """The first output and its details."""
    return litert_outputs(path, rows)[0]


def check_case(make, element, folder):
    """Random files of one operator, through both engines."""
    for seed in SEEDS:
        case = Case(seed, element)
        inputs, outputs = make(case)
        path = case.files(folder / "m.tflite", inputs, outputs)
        low, high = RANGES[element]
        shapes = [case.network.tensors[i][1] for i in inputs]
        rows = [case.rng.integers(low, high + 1, (ROWS, *shape[1:])).astype(element) for shape in shapes]
        outputs = litert_outputs(path, rows)
        graph = read_graph(path)
        named = {given.name: array for given, array in zip(graph.inputs, rows, strict=True)}
        for engine in ("reference", "fast"):
            simulator = Simulator(graph, engine)
            found = [several(result, outputs) for result in (simulator.predict_raw(named), simulator.predict(named))]
            for raw, real, (wanted, details) in zip(*found, outputs, strict=True):
                assert np.array_equal(raw, wanted), f"seed {seed}"
                scale, zero = details["quantization"]
                meant = (wanted.astype(np.int64) - zero) * np.float64(np.float32(scale))
                assert np.array_equal(real, meant), f"seed {seed}"


def several(result, outputs):
    """What a simulator gives, output by output."""
    return [result] if len(outputs) == 1 else [result[details["name"]] for _, details in outputs]


def other(network, index, **fields):
    """The network with other fields of a tensor."""
    keys = ("name", "shape", "element", "data", "quantization", "signature")
    network.tensors[index] = tuple(fields.get(k, v) for k, v in zip(keys, network.tensors[index], strict=True))
