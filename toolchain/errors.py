"""Errors of the toolchain, each saying what is wrong, where, and how to mend it.

The command line prints ``str(error)``, always one line, and leaves with ``error.exit_code``. Any other exception
that reaches the user is a bug of the toolchain.
"""

from collections.abc import Sequence
from typing import ClassVar


def printable(text: str) -> str:
    """A name or value from a hostile model on one line: it can neither forge lines of output nor drive a terminal."""
    joined = " ".join(text.split())
    if joined.isprintable():
        return joined
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in joined)


class ToolchainError(Exception):
    """Base of every error that the user's input, tools or boards can cause. Exit code 2.

    Args:
        message: what is wrong.
        where: the place: a layer, a file, a configuration key.
        fix: what the user can do about it, a sentence of its own.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, *, where: str | None = None, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        """``where: message. fix`` on one line, leaving out what is not known."""
        text = printable(self.message)
        if self.where:
            text = f"{printable(self.where)}: {text}"
        if self.fix:
            text = f"{text}{'' if text.endswith(('.', '!', '?')) else '.'} {printable(self.fix)}"
        return text

    def __reduce__(self) -> tuple[object, ...]:
        # The default would drop the keyword arguments: errors cross process borders in worker pools.
        return (_rebuild, (type(self), self.args, dict(self.__dict__)))


def _rebuild(kind: type[ToolchainError], args: tuple[object, ...], state: dict[str, object]) -> ToolchainError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ModelError(ToolchainError):
    """The model file is damaged, inconsistent or outside what can be compiled. Exit code 2.

    `problems` lists each fault where several were found at once.
    """

    problems: Sequence[str] = ()


class UnsupportedOperator(ModelError):
    """The model holds an operator, attribute or combination of them that is not implemented. Exit code 2."""


class UnsafeModel(ModelError):
    """The model file asks for something a model must not do. Exit code 2.

    A path outside its folder, code, a pickle, a size no machine should allocate.
    """


class ConfigurationError(ToolchainError):
    """An option, a configuration key or a type written by the user is wrong or impossible. Exit code 2."""


class CalibrationError(ToolchainError):
    """Calibration data is missing, has the wrong shape, or does not determine the formats. Exit code 2."""


class InputError(ToolchainError):
    """Input arrays cannot be run: NaN or infinity, a wrong shape, a wrong element type. Exit code 2."""


class PassError(ToolchainError):
    """A compiler pass met a graph that breaks what it requires or ensures. Exit code 2."""


class ToolError(ToolchainError):
    """An external tool (compiler, vendor tool, simulator) is missing, too old or failed. Exit code 3."""

    exit_code: ClassVar[int] = 3


class BoardError(ToolchainError):
    """A board is unknown, wrongly described, unreachable or too small for the request. Exit code 2."""


class MismatchError(ToolchainError):
    """Two renderings of one program gave different integers. Exit code 1.

    Args:
        layer: the first layer that differs.
        index: position of the first differing integer in that layer's output, batch first.
        expected: the integer the reference gives.
        got: the integer the other machine gave.
        seed: seed of the random case, when there is one.
        where: the machine or project that differs.
        fix: what to do next.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        layer: str,
        index: int | Sequence[int],
        expected: object,
        got: object,
        seed: int | None = None,
        *,
        where: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.layer = layer
        self.index = index
        self.expected = expected
        self.got = got
        self.seed = seed
        place = f"[{index}]" if isinstance(index, int) else f"[{', '.join(str(i) for i in index)}]"
        tail = "" if seed is None else f" (seed {seed})"
        super().__init__(f"layer {layer} index {place}: expected {expected}, got {got}{tail}", where=where, fix=fix)
