"""Models that bring their own quantization: nothing is left to choose, so options that would choose are refused."""

from __future__ import annotations

import numpy as np

from toolchain.errors import ConfigurationError
from toolchain.ir import Array, Graph, TensorType
from toolchain.ops.quantize import Quantize
from toolchain.quantization.configuration import Configuration
from toolchain.quantization.lowering import Lowered

FIX = "Leave it out, or compile the model as it was before it was quantized."
CHOICES = ("weight", "input", "output", "accumulator")
"""Formats that a user may force on layers of a real model."""
SEED = 0
RANDOM_ROWS = 8


def is_program(graph: Graph) -> bool:
    """Is a graph an integer program already?"""
    return any(isinstance(node.operator, Quantize) for node in graph.nodes)


def keep_integers(graph: Graph, configuration: Configuration, *, has_budget: bool) -> Lowered:
    """The program as it is, its weights stored as they are.

    Raises ConfigurationError for options that would change integers.
    """
    for key in ("weight_bits", "activation_bits"):
        if key in configuration.model_fields_set:
            raise ConfigurationError(f"{key}: the model brings its own quantization", where=graph.name, fix=FIX)
    if has_budget:
        raise ConfigurationError("--budget: the model brings its own weights", where=graph.name, fix=FIX)
    if configuration.decodes_on_chip:
        what = f"--weight-memory {configuration.weight_memory} needs packed weights, the model brings its own"
        raise ConfigurationError(what, where=graph.name, fix=FIX)
    packs = [("--pack", configuration.pack), *((f"layer {n!r}", one.pack) for n, one in configuration.layers.items())]
    for where, pack in packs:
        if pack not in ("auto", "none", None):
            raise ConfigurationError(f"pack = {pack} would change the model's own integers", where=where, fix=FIX)
    for name, layer in configuration.layers.items():
        forced = [key for key in CHOICES if getattr(layer, key) is not None]
        if forced:
            raise ConfigurationError(f"{forced[0]!r}: the model has its own", where=f"layer {name!r}", fix=FIX)
    saturations = {node.name: 0 for node in graph.nodes if isinstance(node.operator, Quantize)}
    return Lowered(graph, saturations, {})


def random_rows(graph: Graph) -> dict[str, Array]:
    """Seeded integers over the whole range of every input, for the test bench of a model without calibration data."""
    rng = np.random.default_rng(SEED)
    rows = {}
    for given in graph.inputs:
        entry = next(node for node in graph.consumers[given.name] if isinstance(node.operator, Quantize))
        type = graph.types[entry.name]
        assert isinstance(type, TensorType)
        rows[given.name] = rng.integers(type.low, type.high + 1, (RANDOM_ROWS, *given.model_shape))
    return rows
