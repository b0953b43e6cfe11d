"""What the vendor's tools found, beside what was modelled: a table for terminal and page."""

from __future__ import annotations

from typing import Any

MEASURES = {
    "cycles a frame": "interval_cycles",
    "cycles of latency": "latency_cycles",
    "clock period, ns": "estimated_clock_ns",
    "worst setup slack, ns": "setup_slack_ns",
    "worst hold slack, ns": "hold_slack_ns",
    "DSP": "dsp",
    "BRAM36": "bram36",
    "URAM": "uram",
    "LUT": "lut",
    "FF": "ff",
}
TITLE = "vendor's tools (cosim: a call of several frames; implementation: the whole system)"


def vendor_table(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads of the columns and rows of numbers; no rows before the first `toolchain build`.

    A measure that no step has is left out. `report` has been checked: `vendor` holds flat tables by step.
    """
    steps: dict[str, dict[str, Any]] = report.get("vendor", {})
    modelled = {**report["hardware"], "estimated_clock_ns": 1000 / report["hardware"]["clock_mhz"]}
    heads = [
        "",
        "modelled",
        *(f"{step}, {found['tool']}" if "tool" in found else step for step, found in steps.items()),
    ]
    rows = []
    for name, key in MEASURES.items():
        cells = [_number(found.get(key)) for found in steps.values()]
        if any(cells):
            rows.append([name, *(cell or "-" for cell in (_number(modelled.get(key)), *cells))])
    return heads, rows


def _number(value: object) -> str:
    """`8,123` or `0.412`; empty for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return f"{value:,.3f}".rstrip("0").rstrip(".")
