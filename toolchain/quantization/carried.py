"""Models that bring their own quantization: nothing is left to choose, so options that would choose are refused."""

from __future__ import annotations

import numpy as np

from toolchain.errors import ConfigurationError
from toolchain.ir import Array, Graph, Levels, TensorType
from toolchain.ops.linear import LinearOperator
from toolchain.ops.quantize import Quantize
from toolchain.quantization.configuration import CHOICES, OWN_FIX, Configuration
from toolchain.quantization.entry import entry_grid
from toolchain.quantization.lowering import Lowered

SEED = 0
RANDOM_ROWS = 8


def is_program(graph: Graph) -> bool:
    """Is a graph an integer program already?"""
    return any(isinstance(node.operator, Quantize) for node in graph.nodes)


def check_own_weights(graph: Graph, configuration: Configuration, *, has_budget: bool) -> None:
    """Raises ConfigurationError for options that would change weights which a model quantized itself."""
    mine = {
        node.layer: isinstance(node.operator.weights, Levels)
        for node in graph.nodes
        if isinstance(node.operator, LinearOperator)
    }
    if not any(mine.values()):
        return
    if has_budget:
        raise ConfigurationError("--budget: the model brings its own weights", where=graph.name, fix=OWN_FIX)
    if configuration.decodes_on_chip:
        what = f"--weight-memory {configuration.weight_memory} needs packed weights, the model brings its own"
        raise ConfigurationError(what, where=graph.name, fix=OWN_FIX)
    if all(mine.values()) and "weight_bits" in configuration.model_fields_set:
        raise ConfigurationError("weight_bits: the model brings its own weights", where=graph.name, fix=OWN_FIX)
    for name, is_mine in mine.items():
        pack = configuration.layer(name).pack or configuration.pack
        if is_mine and pack not in ("auto", "none"):
            raise ConfigurationError(
                f"pack = {pack} would change the model's own integers", where=f"layer {name!r}", fix=OWN_FIX
            )


def keep_integers(graph: Graph, configuration: Configuration, *, has_budget: bool) -> Lowered:
    """The program as it is, its weights stored as they are.

    Raises ConfigurationError for options that would change integers.
    """
    for key in ("weight_bits", "activation_bits"):
        if key in configuration.model_fields_set:
            raise ConfigurationError(f"{key}: the model brings its own quantization", where=graph.name, fix=OWN_FIX)
    if has_budget:
        raise ConfigurationError("--budget: the model brings its own weights", where=graph.name, fix=OWN_FIX)
    if configuration.decodes_on_chip:
        what = f"--weight-memory {configuration.weight_memory} needs packed weights, the model brings its own"
        raise ConfigurationError(what, where=graph.name, fix=OWN_FIX)
    packs = [("--pack", configuration.pack), *((f"layer {n!r}", one.pack) for n, one in configuration.layers.items())]
    for where, pack in packs:
        if pack not in ("auto", "none", None):
            raise ConfigurationError(f"pack = {pack} would change the model's own integers", where=where, fix=OWN_FIX)
    for name, layer in configuration.layers.items():
        forced = [key for key in CHOICES if getattr(layer, key) is not None]
        if forced:
            raise ConfigurationError(f"{forced[0]!r}: the model has its own", where=f"layer {name!r}", fix=OWN_FIX)
    saturations = {node.name: 0 for node in graph.nodes if isinstance(node.operator, Quantize)}
    return Lowered(graph, saturations, {})


def random_rows(graph: Graph) -> dict[str, Array]:
    """Seeded inputs over the whole range of every input, for the test bench of a model without calibration data."""
    rng = np.random.default_rng(SEED)
    rows: dict[str, Array] = {}
    for given in graph.inputs:
        shape = (RANDOM_ROWS, *given.model_shape)
        entry = next((node for node in graph.consumers[given.name] if isinstance(node.operator, Quantize)), None)
        if entry is not None:
            type = graph.types[entry.name]
            assert isinstance(type, TensorType)
            rows[given.name] = rng.integers(type.low, type.high + 1, shape)
        else:
            grid = entry_grid(graph, given.name)
            low, high, step = (grid.low, grid.high, grid.step) if grid else (-1, 1, 1.0)
            rows[given.name] = rng.uniform((low - 1) * step, (high + 1) * step, shape).astype(np.float32)
    return rows
