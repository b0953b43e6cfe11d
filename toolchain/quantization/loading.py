"""What a configuration means for hardware whose weights are loaded: layers run in the domain they are coded in."""

from __future__ import annotations

from toolchain.errors import ConfigurationError
from toolchain.ir import Graph
from toolchain.ops.linear import LinearOperator
from toolchain.quantization.configuration import Configuration, LayerConfiguration

FIX = "Compile with --weight-memory rom."


def for_loading(configuration: Configuration, graph: Graph) -> Configuration:
    """The configuration with weights coded where they are to be executed, all of them packed.

    Raises ConfigurationError for what loaded weights cannot have: no packing, a format or an engine that is forced, and
    a spatial unit for weights that are to be coded in frequency.
    """
    linear = {node.layer for node in graph.nodes if isinstance(node.operator, LinearOperator)}
    if not linear:
        raise ConfigurationError("--weight-memory loaded: the model has no weights to load", fix=FIX)
    layers: dict[str, LayerConfiguration] = dict(configuration.layers)
    for name in sorted(linear):
        layer = configuration.layer(name)
        pack, execute = layer.pack or configuration.pack, layer.execute or configuration.execute
        where = f"layer {name!r}"
        if pack == "none":
            raise ConfigurationError("--weight-memory loaded needs packed weights, pack is none", where=where, fix=FIX)
        for key in ("weight", "pe", "simd"):
            if getattr(layer, key) is not None:
                raise ConfigurationError(f"{key!r} cannot be forced where weights are loaded", where=where, fix=FIX)
        if pack == "dct" and execute == "spatial":
            raise ConfigurationError(
                "weights that are loaded run in the domain they are coded in, pack is dct and execute spatial",
                where=where,
                fix="Use pack = auto or spatial.",
            )
        if execute == "spatial":
            layers[name] = layer.model_copy(update={"pack": "spatial"})
    return configuration.model_copy(update={"layers": layers})


def check_streaming(configuration: Configuration, graph: Graph) -> None:
    """Raises ConfigurationError where no layer has weights that are packed, so that none could be streamed."""
    linear = {node.layer for node in graph.nodes if isinstance(node.operator, LinearOperator)}
    packs = {configuration.layer(name).pack or configuration.pack for name in linear}
    if not packs - {"none"}:
        what = "pack is none" if linear else "the model has none"
        raise ConfigurationError(f"--weight-memory streamed needs packed weights, {what}", fix=FIX)
