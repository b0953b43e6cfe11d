"""What both translations of TFLite share: operators whose options are asked for one by one, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from toolchain.errors import ModelError, UnsupportedOperator
from toolchain.frontends.onnx import unsupported
from toolchain.frontends.tflite.files import Operation, Tensor


@dataclass
class Reading:
    """One operator under translation. An option that nobody asks for is refused unless it is 0."""

    operation: Operation
    layer: str
    read: set[str] = field(default_factory=set)

    def option(self, name: str) -> Any:
        """A field of the operator's options."""
        self.read.add(name)
        if name not in self.operation.options:
            raise ModelError(f"has no option {name}")
        return self.operation.options[name]

    def ignore(self, *names: str) -> None:
        """Options that change nothing here."""
        self.read.update(names)

    def has(self, index: int) -> bool:
        return index < len(self.operation.inputs) and self.operation.inputs[index] is not None

    def tensor(self, index: int) -> Tensor:
        tensor = self.operation.inputs[index] if self.has(index) else None
        if tensor is None:
            raise ModelError(f"has no input {index}")
        return tensor

    @property
    def output(self) -> Tensor:
        if not self.operation.outputs:
            raise ModelError("has no output")
        return self.operation.outputs[0]

    def finish(self, translate: Callable[[], None]) -> None:
        """Translates, then refuses what was not asked for."""
        try:
            translate()
        except (IndexError, ValueError, OverflowError, ZeroDivisionError) as error:  # shapes of a damaged file
            raise ModelError(f"has tensors that do not fit it: {error}") from error
        unread = [name for name, value in self.operation.options.items() if name not in self.read and value]
        if unread:
            raise UnsupportedOperator(f"option {unread[0]} = {self.operation.options[unread[0]]} is not supported")


def translate_all(operations: Iterable[Operation], translate: Callable[[Operation], None], name: str) -> None:
    """Translates in order. What is not supported becomes one error; what depends on it is left out."""
    problems: list[str] = []
    unknown: set[int] = set()
    for operation in operations:
        if any(tensor is not None and tensor.index in unknown for tensor in operation.inputs):
            unknown.update(tensor.index for tensor in operation.outputs)
            continue
        try:
            translate(operation)
        except UnsupportedOperator as error:
            problems.append(f"{error.where or operation.where}: {error.message}")
            unknown.update(tensor.index for tensor in operation.outputs)
        except ModelError as error:
            error.where = error.where or operation.where
            raise
    if problems:
        raise unsupported(problems, name)
