"""What the embedded C takes: flash and RAM by part, instructions by layer."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from toolchain.report.vendor import TITLE


def footprint_line(embedded: dict[str, Any]) -> str:
    """One line for `embedded` of report.json."""
    flash = sum(embedded["constants"].values())
    ends = embedded["input_bytes"] + embedded["output_bytes"]
    return f"embedded: {flash} bytes of constants, arena {embedded['arena_bytes']} bytes, inputs and outputs {ends}"


def footprint_table(embedded: dict[str, Any]) -> Table:
    """Bytes of flash and RAM by part. Code is the compiler's and not counted."""
    table = Table(title="embedded C", title_justify="left", title_style=TITLE)
    table.add_column("part")
    table.add_column("memory")
    table.add_column("bytes", justify="right")
    for name, size in sorted(embedded["constants"].items()):
        table.add_row(name.replace("_", " "), "flash", str(size))
    for key in ("arena_bytes", "input_bytes", "output_bytes"):
        table.add_row(key.removesuffix("_bytes"), "RAM", str(embedded[key]))
    return table


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
