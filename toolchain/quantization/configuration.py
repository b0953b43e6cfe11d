"""What a user may fix by hand: bits, and formats per layer in a TOML file."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from toolchain.errors import ConfigurationError, ToolchainError
from toolchain.ir import FixedType, Graph
from toolchain.ir.integers import INT64_HIGH, INT64_LOW
from toolchain.ops.affine import Affine
from toolchain.ops.base import Operator
from toolchain.ops.linear import LinearOperator
from toolchain.ops.reshape import Reshape

Pack = Literal["none", "auto", "dct", "spatial"]
Execute = Literal["auto", "spatial", "frequency"]
WeightMemory = Literal["auto", "rom", "loaded", "streamed"]
"""Constants, memories that are filled at run time, or DDR where a layer's weights do not pay on the chip.

`auto`: constants, and DDR in place of a design that does not fit.
"""
CHOICES = ("weight", "input", "output", "accumulator")
"""Formats that a user may force on layers of a real model."""
OWN_FIX = "Leave it out, or compile the model as it was before it was quantized."
"""Where a model brings its own quantization."""
FRACTION_LIMIT = 64
"""Of forced formats: float32 has no use for more, and shifts stay short."""


class LayerConfiguration(BaseModel):
    """Forced choices for one layer; the formats in the field's notation, `fixed<8,3,RND,SAT>`."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    weight: FixedType | None = None
    input: FixedType | None = None
    output: FixedType | None = None
    accumulator: FixedType | None = None
    pack: Pack | None = None
    execute: Execute | None = None
    pe: int | None = Field(default=None, ge=1, strict=True)
    simd: int | None = Field(default=None, ge=1, strict=True)

    @field_validator("weight", "input", "output", "accumulator", mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        if isinstance(value, str):
            try:
                return FixedType.parse(value)
            except ToolchainError as error:
                raise ValueError(str(error)) from None
        return value

    @field_validator("weight", "input", "output", "accumulator")
    @classmethod
    def _possible(cls, value: FixedType | None) -> FixedType | None:
        if value is not None and (value.low < INT64_LOW or value.high > INT64_HIGH):
            raise ValueError(f"{value} does not fit the 64 bits, sign included, of raw integers")
        if value is not None and abs(value.fraction) > FRACTION_LIMIT:
            raise ValueError(f"{value} has more than {FRACTION_LIMIT} fraction bits, or fewer than -{FRACTION_LIMIT}")
        return value

    @field_validator("weight")
    @classmethod
    def _weight_bits(cls, value: FixedType | None) -> FixedType | None:
        if value is not None and value.width > 32:
            raise ValueError(f"{value} is wider than the 32 bits that weights may have")
        return value


class Configuration(BaseModel):
    """Defaults of the compiler and forced choices per layer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight_bits: int = Field(8, ge=2, le=16, strict=True)
    activation_bits: int = Field(8, ge=2, le=24, strict=True)
    pack: Pack = "auto"
    execute: Execute = "auto"
    weight_memory: WeightMemory = "auto"
    layers: dict[str, LayerConfiguration] = Field(default_factory=dict)

    @property
    def decodes_on_chip(self) -> bool:
        """Does the hardware read the weight container?"""
        return self.weight_memory in ("loaded", "streamed")

    def layer(self, name: str) -> LayerConfiguration:
        return self.layers.get(name, LayerConfiguration())

    def coded_as_executed(self) -> Configuration:
        """Weights that are executed in the spatial domain and coded by the compiler's choice are coded there too."""

        def domain(pack: Pack, execute: Execute) -> Pack:
            return "spatial" if (pack, execute) == ("auto", "spatial") else pack

        layers = {
            name: layer.model_copy(update={"pack": domain(layer.pack or self.pack, layer.execute or self.execute)})
            for name, layer in self.layers.items()
            if layer.weight is None and (layer.pack or layer.execute)
        }
        return self.model_copy(update={"pack": domain(self.pack, self.execute), "layers": {**self.layers, **layers}})


def load_configuration(given: Path | Mapping[str, Any] | None, **overrides: Any) -> Configuration:
    """Reads `FILE.toml`, or takes its tables as a mapping; `overrides` (options) win where they are not None.

    Raises ConfigurationError for unknown keys, naming the nearest known one, and for values out of range.
    """
    values: dict[str, Any] = {}
    name = given.name if isinstance(given, Path) else "config"
    if given is not None:
        content = _read(given) if isinstance(given, Path) else dict(given)
        check_keys(content, ("model", "layers"), name)
        model = _table(content.get("model", {}), f"{name} [model]")
        known = tuple(field for field in Configuration.model_fields if field != "layers")
        check_keys(model, known, f"{name} [model]")
        layers = _table(content.get("layers", {}), f"{name} [layers]")
        for layer_name, layer in layers.items():
            where = f'{name} [layers."{layer_name}"]'
            check_keys(_table(layer, where), tuple(LayerConfiguration.model_fields), where)
        values = {**model, "layers": layers}
    values |= {key: value for key, value in overrides.items() if value is not None}
    try:
        return Configuration.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(
            f"{place}: {first['msg'].removeprefix('Value error, ')}", where=None if given is None else name
        ) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"is not valid TOML: {error}", where=path.name) from None


def check_layers(configuration: Configuration, graph: Graph) -> None:
    """Every configured layer has to exist in the real graph, and every key has to mean something for it.

    Raises ConfigurationError, naming the nearest layer where there is none of that name.
    """
    operators: dict[str, list[Operator]] = {}
    for node in graph.nodes:
        operators.setdefault(node.layer, []).append(node.operator)
    for name, layer in configuration.layers.items():
        if name not in operators:
            raise ConfigurationError(
                f"the model has no layer {name!r}, or it was folded into the one before it",
                fix=nearest(name, list(operators)),
            )
        if layer.weight and layer.pack not in (None, "none"):
            raise ConfigurationError(
                "'weight' forces plain integers of one format, 'pack' wants to code them",
                where=f"layer {name!r}",
                fix="Leave one of them out.",
            )
        kinds: dict[str, tuple[type[Operator], ...]] = {
            "weight": (LinearOperator, Affine),
            "pe": (LinearOperator,),
            "pack": (LinearOperator,),
            "execute": (LinearOperator,),
        }
        for key, owners in kinds.items():
            if getattr(layer, key) is not None and not any(isinstance(one, owners) for one in operators[name]):
                raise ConfigurationError(f"{key!r} means nothing for a layer without weights", where=f"layer {name!r}")
        if layer.simd is not None and all(isinstance(one, Reshape) for one in operators[name]):
            raise ConfigurationError("'simd' means nothing for a layer without hardware", where=f"layer {name!r}")


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigurationError("is not a table", where=where)
    return value


def check_keys(table: Iterable[str], known: tuple[str, ...], where: str) -> None:
    """Raises ConfigurationError for a key that is not known, naming the nearest one."""
    for key in table:
        if key not in known:
            raise ConfigurationError(f"the key {key!r} is unknown", where=where, fix=nearest(key, list(known)))


def nearest(name: str, known: list[str]) -> str:
    """What an error about an unknown name ends with."""
    close = difflib.get_close_matches(name, known, 1, 0.4)
    return f"Did you mean {close[0]!r}?" if close else f"Known are {', '.join(known[:20])}."
