"""Quantized files whose tensors, options and operands do not fit: a program or one of our errors, nothing else."""

import contextlib

import numpy as np

from tests.frontends import test_tflite_arrangement as arrangement
from tests.frontends import test_tflite_dilations as dilations
from tests.frontends import test_tflite_products as products
from tests.frontends import test_tflite_reductions as reductions
from tests.frontends.test_tflite_transposed import transposed
from tests.frontends.tflite_cases import RANGES, Case, other
from toolchain.errors import ModelError
from toolchain.frontends import read_graph

MAKERS = [
    arrangement.split, arrangement.split_unequally, arrangement.depth_to_space, *products.OPERATORS, reductions.mean,
    reductions.total, reductions.extremum, transposed, dilations.pattern, dilations.row_pattern,
]  # fmt: skip
COUNT = 900
SEED = 3


def damage_tensor(network, rng):
    """Another shape, another number in a constant, or another quantization."""
    index = int(rng.integers(len(network.tensors)))
    data = network.tensors[index][3]
    fields = [{"shape": tuple(int(n) for n in rng.integers(0, 4, rng.integers(0, 6)))}, {"quantization": None}]
    fields.append({"quantization": ([0.1], [int(rng.integers(-5, 6))], 0)})
    if data is not None and np.size(data):
        changed = np.array(data)
        changed.reshape(-1)[rng.integers(changed.size)] = rng.integers(0, 100)
        fields += [{"data": changed}] * 3
    other(network, index, **fields[rng.integers(len(fields))])


def damage_operator(network, rng):
    """Another tensor as an operand, another number as an option, or no options."""
    index = int(rng.integers(len(network.operators)))
    kind, inputs, outputs, options, fields, version = network.operators[index]
    ends = inputs if rng.integers(2) else outputs
    choice = rng.integers(3)
    if choice == 0:
        ends[rng.integers(len(ends))] = int(rng.integers(-1, len(network.tensors)))
    elif choice == 1:
        options = ""
    elif fields:
        key = list(fields)[rng.integers(len(fields))]
        if not isinstance(fields[key], list):
            fields[key] = type(fields[key])(rng.integers(0, 5))
    network.operators[index] = (kind, inputs, outputs, options, fields, version)


def test_damaged_networks(tmp_path):
    print("seed", SEED)
    rng, loaded = np.random.default_rng(SEED), 0
    for _ in range(COUNT):
        case = Case(int(rng.integers(50)), list(RANGES)[rng.integers(2)])
        inputs, outputs = MAKERS[rng.integers(len(MAKERS))](case)
        for _ in range(int(rng.integers(1, 3))):
            (damage_tensor if rng.integers(2) else damage_operator)(case.network, rng)
        with contextlib.suppress(ModelError):
            read_graph(case.files(tmp_path / "m.tflite", inputs, outputs))
            loaded += 1
    assert COUNT // 10 < loaded < COUNT // 2
