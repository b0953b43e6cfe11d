"""What the embedded C takes: flash and RAM by part, instructions by layer."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from toolchain.report.vendor import TITLE
from toolchain.verification.footprint import Footprint


def footprint_line(embedded: dict[str, Any]) -> str:
    """One line for `embedded` of report.json."""
    flash = sum(embedded["constants"].values())
    ends = embedded["input_bytes"] + embedded["output_bytes"]
    return f"embedded: {flash} bytes of constants, arena {embedded['arena_bytes']} bytes, inputs and outputs {ends}"


def footprint_table(embedded: dict[str, Any]) -> Table:
    """Bytes of flash and RAM by part, without what the compiler decides: code and stack."""
    table = _table("embedded C")
    _add_memory(table, embedded)
    return table


def memory_table(embedded: dict[str, Any], size: Footprint, measured: int) -> Table:
    """Bytes of flash and RAM by part as compiled for a machine, where a run took `measured` bytes of stack."""
    table = _table("memory")
    for name, count in sorted(size.code.items()):
        table.add_row(f"code of {name}.c", "flash", str(count))
    _add_memory(table, embedded)
    table.add_row(f"stack, at most ({measured} measured)", "RAM", str(size.stack))
    return table


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style=TITLE)
    table.add_column("part")
    table.add_column("memory")
    table.add_column("bytes", justify="right")
    return table


def _add_memory(table: Table, embedded: dict[str, Any]) -> None:
    for name, size in sorted(embedded["constants"].items()):
        table.add_row(name.replace("_", " "), "flash", str(size))
    for key in ("arena_bytes", "input_bytes", "output_bytes"):
        table.add_row(key.removesuffix("_bytes"), "RAM", str(embedded[key]))


def instructions_table(counts: list[tuple[list[str], int]], out: Console) -> None:
    """Instructions of one inference by stage."""
    total = sum(count for _, count in counts)
    table = Table(title="instructions of one inference", title_justify="left", title_style=TITLE)
    table.add_column("stage")
    table.add_column("instructions", justify="right")
    table.add_column("share", justify="right")
    for names, count in counts:
        table.add_row(", ".join(names), str(count), f"{100 * count / max(total, 1):.1f} %")
    table.add_row("total", str(total), "100.0 %")
    out.print(table)
