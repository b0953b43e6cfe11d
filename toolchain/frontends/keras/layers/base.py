"""What a layer of the front end is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from toolchain.errors import ModelError
from toolchain.frontends.keras.builder import Call, Value
from toolchain.frontends.keras.fields import Fields


@dataclass(frozen=True)
class Role:
    """One weight tensor of a layer, in the order Keras stores them: the trainable ones first.

    `place` is the group below the layer's that it is stored in, where it belongs to an object inside the layer.
    """

    name: str
    trainable: bool = True
    place: str = ""


class Layer(ABC):
    """One Keras layer: the settings that matter, read from its configuration, and their meaning in ONNX."""

    @property
    def roles(self) -> tuple[Role, ...]:
        """The weights the layer owns."""
        return ()

    @classmethod
    @abstractmethod
    def read(cls, fields: Fields) -> Self:
        """Reads the settings; what is unsupported goes to `fields.problems`."""

    @abstractmethod
    def translate(self, call: Call, inputs: Sequence[Value]) -> Value:
        """Emits the nodes of one call."""


class Unary(Layer):
    """A layer of one input."""

    ranks: ClassVar[tuple[int, ...]] = (2, 3, 4, 5, 6)

    @abstractmethod
    def apply(self, call: Call, value: Value) -> Value:
        """Emits the nodes for one input."""

    def translate(self, call: Call, inputs: Sequence[Value]) -> Value:
        """Checks that there is one input, of a rank that the layer knows."""
        if len(inputs) != 1:
            raise ModelError(f"the layer takes one input, not {len(inputs)}", where=call.name)
        call.expect_rank(inputs[0], *self.ranks)
        return self.apply(call, inputs[0])


class Identity(Unary):
    """A layer that does nothing in inference."""

    keys: ClassVar[tuple[str, ...]] = ("rate", "noise_shape", "stddev", "l1", "l2", "data_format")

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Nothing matters, but an unknown key is still refused."""
        fields.ignore(*cls.keys)
        return cls()

    def apply(self, call: Call, value: Value) -> Value:
        """The value itself."""
        return value


def channels_last(fields: Fields) -> str:
    """The data format of a layer."""
    return fields.choice("data_format", ("channels_last", "channels_first"), "channels_last")
