"""hls4ml's precision dictionaries as this toolchain's formats per layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from toolchain.errors import CalibrationError, ConfigurationError
from toolchain.ir import Array, Graph
from toolchain.ops.affine import Affine
from toolchain.ops.conv import Conv
from toolchain.ops.gemm import Gemm
from toolchain.quantization.configuration import check_keys

PRECISIONS = ("default", "weight", "bias", "result", "output", "accum")
RANDOM_ROWS = 64
"""Rows that stand for calibration data where every format is forced: standard normal numbers."""


def weighted_layers(graph: Graph) -> dict[str, bool]:
    """The layers that change values, in order, and whether they hold weights."""
    layers = dict.fromkeys((node.layer for node in graph.nodes if not node.operator.is_layout), False)
    return layers | {node.layer: True for node in graph.nodes if isinstance(node.operator, Conv | Gemm | Affine)}


def _precision(table: Mapping[str, Any], where: str) -> dict[str, str | None]:
    """The `Precision` of a table, `auto` as None; a bare text stands for everything in it."""
    check_keys(table, ("Precision",) if where == "Model" else ("Precision", "Trace"), f"hls_config {where}")
    given = table.get("Precision", {})
    given = {"default": given} if isinstance(given, str) else given
    check_keys(given, ("default",) if where == "Model" else PRECISIONS, f"hls_config {where} Precision")
    return {key: None if format == "auto" else format for key, format in given.items()}


def forced_formats(graph: Graph, hls_config: Mapping[str, Any]) -> tuple[str | None, dict[str, dict[str, str | None]]]:
    """The default format, and the forced ones per layer in the toolchain's own terms."""
    check_keys(hls_config, ("Model", "LayerName"), "hls_config")
    default = _precision(hls_config.get("Model", {}), "Model").get("default")
    given = {name: _precision(layer, name) for name, layer in hls_config.get("LayerName", {}).items()}
    inputs, layers = [one.name for one in graph.inputs], weighted_layers(graph)
    check_keys(given, (*inputs, *layers), "hls_config LayerName")
    result: dict[str, dict[str, str | None]] = {}
    for name, has_weights in layers.items():
        own = given.get(name, {})
        if own.get("bias") or (own.get("weight") and not has_weights):
            what = "the bias always has the accumulator's format" if has_weights else "the layer has no weights"
            raise ConfigurationError(what, where=name, fix="Write 'auto'.")
        all_of_it = own.get("default", default)
        result[name] = {"output": own.get("result", own.get("output", all_of_it)), "accumulator": own.get("accum")}
        if has_weights:
            result[name]["weight"] = own.get("weight", all_of_it)
    for name in inputs:
        own = given.get(name, {})
        for reader in graph.consumers[name]:
            forced = own.get("result", own.get("output", own.get("default", default)))
            result.setdefault(reader.layer, {})["input"] = forced
    return default, result


def random_rows(graph: Graph, layers: Mapping[str, Mapping[str, str | None]]) -> dict[str, Array]:
    """Raises CalibrationError where a format is left to be chosen; those of weights need no data."""
    for name, formats in layers.items():
        for key in {"input", "output"} & set(formats):
            if formats[key] is None:
                raise CalibrationError(
                    f"the {key} format is chosen on real inputs",
                    where=name,
                    fix="Give calibration_data=, or force every format: default_precision='fixed<16,6>'.",
                )
    random = np.random.default_rng(0)
    return {given.name: random.standard_normal((RANDOM_ROWS, *given.model_shape)) for given in graph.inputs}
