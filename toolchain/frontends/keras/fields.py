"""Reads one layer's configuration key by key against an allow-list: what is not understood is refused."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

Json: TypeAlias = Any

# Keys that change training, naming or building only, whatever their value.
HARMLESS: Final = frozenset(
    {
        "name", "trainable", "batch_input_shape", "batch_shape", "build_input_shape", "autocast", "seed",
        "activity_regularizer", "momentum", "implementation", "synchronized", "input_spec", "experimental_autocast",
    }
)  # fmt: skip
HARMLESS_SUFFIXES: Final = ("_initializer", "_regularizer", "_constraint")
# Keys whose neutral values mean "this feature is not used".
NEUTRAL: Final[dict[str, tuple[Json, ...]]] = {
    "quantization_config": (None,),
    "lora_rank": (None,),
    "lora_alpha": (None,),
    "sparse": (False, None),
    "ragged": (False, None),
    "optional": (False, None),
    "stateful": (False,),
}
LARGEST: Final = 1 << 31
MISSING: Final = object()


@dataclass
class Fields:
    """The configuration of one layer while it is read.

    Attributes:
        name: the layer's name, with the names of the nested models it is in.
        kind: its class.
        config: the serialized configuration.
        problems: where everything unsupported is written down; shared by all layers of a model.
        keras_major: Keras version that wrote the file: some defaults differ.
    """

    name: str
    kind: str
    config: dict[str, Json]
    problems: list[str]
    keras_major: int | None
    _seen: set[str] = field(default_factory=set)

    def refuse(self, attribute: str, reason: str) -> None:
        """Writes down one problem; reading goes on, so that all are found."""
        self.problems.append(f"{self.name} ({self.kind}): {attribute}: {reason}")

    def take(self, key: str, default: Json = MISSING) -> Json:
        """The raw value of a key."""
        self._seen.add(key)
        if key in self.config:
            return self.config[key]
        if default is MISSING:
            self.refuse(key, "is missing")
            return None
        return default

    def integer(self, key: str, default: Json = MISSING, *, least: int = 1) -> int:
        """An integer of at least `least`."""
        value = self.take(key, default)
        if is_integer(value) and least <= value < LARGEST:
            return int(value)
        self.refuse(key, f"{show(value)} is not an integer from {least} on")
        return least

    def integers(self, key: str, length: int, default: Json = MISSING, *, least: int = 1) -> tuple[int, ...]:
        """`length` integers; one integer stands for all of them."""
        value = self.take(key, default)
        if is_integer(value):
            value = [value] * length
        items = value if isinstance(value, list) else []
        if len(items) == length and all(is_integer(item) and least <= item < LARGEST for item in items):
            return tuple(items)
        self.refuse(key, f"{show(value)} is not {length} integers from {least} on")
        return (least,) * length

    def number(self, key: str, default: Json = MISSING) -> float:
        """A finite number."""
        value = unwrap(self.take(key, default))
        if is_number(value):
            return float(value)
        self.refuse(key, f"{show(value)} is not a finite number")
        return 0.0

    def optional_number(self, key: str) -> float | None:
        """A finite number or null; null when the key is missing."""
        return None if self.config.get(key) is None and self.take(key, None) is None else self.number(key)

    def numbers(self, key: str) -> tuple[float, ...] | float:
        """A finite number, or a (nested) list of them with one axis longer than one, flattened."""
        value = unwrap(self.take(key))
        while isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
            value = value[0]
        flat = flatten_singletons(value) if isinstance(value, list) else value
        if is_number(flat):
            return float(flat)
        if isinstance(flat, list) and flat and all(is_number(v) for v in flat):
            return tuple(float(v) for v in flat)
        self.refuse(key, f"{show(value)} is neither a finite number nor a list of them")
        return 0.0

    def flag(self, key: str, default: Json = MISSING) -> bool:
        """True or false."""
        value = self.take(key, default)
        if isinstance(value, bool):
            return value
        self.refuse(key, f"{show(value)} is neither true nor false")
        return False

    def choice(self, key: str, allowed: Sequence[str], default: Json = MISSING) -> str:
        """One of `allowed`."""
        value = self.take(key, default)
        if isinstance(value, str) and value in allowed:
            return value
        self.refuse(key, f"{show(value)} is not supported, only {', '.join(allowed)}")
        return allowed[0]

    def only(self, key: str, *allowed: Json) -> None:
        """Refuses any value of the key but these; the key may be missing."""
        value = self.take(key, allowed[0])
        if not any(value is a or (type(value) is type(a) and value == a) for a in allowed):
            self.refuse(key, f"{show(value)} is not supported, only {', '.join(show(a) for a in allowed)}")

    def ignore(self, *keys: str) -> None:
        """Marks keys that this class reads in training only."""
        self._seen.update(keys)

    def finish(self) -> None:
        """Refuses a type other than float32 and every key nobody has read and nobody knows to be harmless."""
        self._check_dtype()
        for key, value in self.config.items():
            if key in self._seen or key in HARMLESS or key.endswith(HARMLESS_SUFFIXES):
                continue
            if key in NEUTRAL:
                if not any(value is neutral for neutral in NEUTRAL[key]):
                    self.refuse(key, f"{show(value)} is not supported")
            else:
                self.refuse(show(key), "unknown attribute, it could change the result")

    def _check_dtype(self) -> None:
        value = self.take("dtype", "float32")
        if isinstance(value, dict) and value.get("class_name") in ("DTypePolicy", "Policy", "FloatDTypePolicy"):
            inner = value.get("config")
            value = inner.get("name") if isinstance(inner, dict) else value
        if value not in (None, "float32"):
            self.refuse("dtype", f"{show(value)} is not supported, only float32")


def is_integer(value: Json) -> bool:
    """True for an integer; JSON's true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Json) -> bool:
    """True for a number that float32 can hold."""
    return (is_integer(value) or isinstance(value, float)) and math.isfinite(value) and abs(value) < 3.4e38


def unwrap(value: Json) -> Json:
    """The value inside Keras 3's `__numpy__` and Keras 2's `ndarray` envelopes."""
    if isinstance(value, dict):
        if value.get("class_name") in ("__numpy__", "__tensor__") and isinstance(value.get("config"), dict):
            return value["config"].get("value")
        if value.get("type") == "ndarray":
            return value.get("value")
    return value


def flatten_singletons(value: list[Json]) -> Json:
    """Removes axes of length one from a nested list."""
    items = [flatten_singletons(item) if isinstance(item, list) else item for item in value]
    return items[0] if len(items) == 1 else items


def show(value: Json) -> str:
    """A value for an error message, short and printable whatever the file holds."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
