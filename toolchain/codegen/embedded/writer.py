"""C text under construction: indentation, loops, and the constants that it refers to."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from toolchain.codegen.embedded.storage import Storage, constant_storage
from toolchain.ir import Array

INDENT = "    "
COLUMNS = 100


@dataclass(frozen=True)
class Table:
    """A constant array in flash. `kind` is what the report counts it as: `weights`, `biases`, `tables`, ..."""

    name: str
    storage: Storage
    values: Array
    kind: str

    @property
    def bytes(self) -> int:
        return int(self.values.size) * self.storage.bytes

    def definition(self) -> str:
        """The array with its elements in lines."""
        rows, line = [], ""
        for value in self.values.ravel().tolist():
            text = f"{value}," if self.storage.bits < 64 else f"{_wide(value, self.storage.signed)},"
            if len(line) + len(text) > COLUMNS - len(INDENT):
                rows.append(INDENT + line)
                line = ""
            line += text
        rows.append(INDENT + line.rstrip(","))
        body = "\n".join(rows)
        return f"static const {self.storage.ctype} {self.name}[{self.values.size}] MODEL_SECTION = {{\n{body}\n}};"


def _wide(value: int, signed: bool) -> str:
    if not signed:
        return f"UINT64_C({value})"
    return f"(INT64_C({value + 1}) - 1)" if value == -(1 << 63) else f"INT64_C({value})"


class Tables:
    """The constants of a model; equal ones are stored once."""

    def __init__(self) -> None:
        self._by_content: dict[tuple[Storage, bytes], Table] = {}

    def add(self, name: str, values: Array, kind: str, dtype: np.dtype[np.integer] | None = None) -> Table:
        """The table with these values, in the narrowest type or the one given."""
        kept = np.asarray(values)
        held = Storage(8 * dtype.itemsize, dtype.kind == "i") if dtype else constant_storage(kept)
        flat = kept.astype(held.dtype).ravel()
        key = (held, flat.tobytes())
        if key not in self._by_content:
            self._by_content[key] = Table(name, held, flat, kind)
        return self._by_content[key]

    @property
    def all(self) -> list[Table]:
        """In the order in which they were asked for."""
        return list(self._by_content.values())

    @property
    def checksum(self) -> int:
        """CRC-32 of all tables, one after the other, little-endian."""
        return zlib.crc32(b"".join(data for _, data in self._by_content))


@dataclass
class Writer:
    """Lines of a C function."""

    lines: list[str] = field(default_factory=list)
    depth: int = 1

    def line(self, text: str) -> None:
        self.lines.append(INDENT * self.depth + text if text else "")

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """`head { ... }`."""
        self.line(f"{head} {{".strip())
        self.depth += 1
        yield
        self.depth -= 1
        self.line("}")

    @contextmanager
    def loop(self, name: str, end: int | str, begin: int | str = 0) -> Iterator[None]:
        """A counted loop; one of a single turn is a constant in a block."""
        if end == 1 and begin == 0:
            with self.block(f"/* {name} */"):
                self.line(f"const int32_t {name} = 0;")
                self.line(f"(void){name};")
                yield
            return
        with self.block(f"for (int32_t {name} = {begin}; {name} < {end}; ++{name})"):
            yield

    @contextmanager
    def step(self, name: str, end: int | str, size: int) -> Iterator[None]:
        """A loop in steps of `size`."""
        with self.block(f"for (int32_t {name} = 0; {name} < {end}; {name} += {size})"):
            yield

    @property
    def text(self) -> str:
        return "\n".join(self.lines)
