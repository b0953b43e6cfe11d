"""Curves over the size of a file, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from toolchain.report.pictures import GRID, INK, PALE, Drawing

COLORS = ("#d55e00", "#56b4e9", "#e69f00", "#0072b2", "#009e73", "#cc79a7")
PANEL, HEIGHT, LEFT, TOP, BETWEEN, BOTTOM = 400.0, 300.0, 62.0, 64.0, 76.0, 46.0
TICKS = (1, 2, 5)
FINE_TICKS = (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
FEWEST_TICKS = 3
BESIDE, ABOVE = 46.0, 26.0
"""Pixels that ticks are apart at least, in a row and in a column."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Panel:
    """Curves by name, with points (bytes, value) each, and a level drawn across."""

    title: str
    curves: Mapping[str, Sequence[Point]]
    level: float
    logarithmic: bool = False


@dataclass(frozen=True)
class Axis:
    """Values low..high laid on pixels first..last."""

    low: float
    high: float
    first: float
    last: float
    logarithmic: bool

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(v) if self.logarithmic else v for v in (self.low, self.high, value))
        return self.first + (self.last - self.first) * (at - low) / (high - low)

    def ticks(self, nearest: float) -> list[float]:
        """Round numbers within the axis, at least so many pixels apart."""
        exponent = math.floor(math.log10((self.low if self.logarithmic else (self.high - self.low) / 10) or 1))
        if self.logarithmic:
            ends = range(exponent, math.ceil(math.log10(self.high)) + 1)
            found = [tick * 10.0**e for e in ends for tick in TICKS]
            if sum(self.low <= tick <= self.high for tick in found) < FEWEST_TICKS:
                found = [tick * 10.0**e for e in ends for tick in FINE_TICKS]
        else:
            steps = [tick * 10.0**e for e in (exponent, exponent + 1, exponent + 2) for tick in TICKS]
            step = next(s for s in steps if abs(self(self.low + s) - self.first) >= nearest)
            found = [step * k for k in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        kept: list[float] = []
        for tick in found:
            if self.low <= tick <= self.high and (not kept or abs(self(tick) - self(kept[-1])) >= nearest):
                kept.append(tick)
        return kept


class Measured(Protocol):
    """A line of a benchmark."""

    coding: str
    coded_layers: int
    size: int
    output_error: float
    accuracy: float
    float_accuracy: float
    samples: int


def plot(name: str, rows: Sequence[Measured]) -> str:
    """Error and accuracy over size, a curve for each coding; plain weights are the dashed level."""
    plain = next(row for row in rows if not row.coded_layers)
    errors: dict[str, list[Point]] = {}
    accuracies: dict[str, list[Point]] = {}
    for row in rows:
        if row.coded_layers:
            errors.setdefault(row.coding, []).append((row.size, row.output_error))
            accuracies.setdefault(row.coding, []).append((row.size, row.accuracy))
    title = f"{name}, {plain.samples} test samples (int8: {plain.size / 1000:.0f} kB)"
    panels = [
        Panel("relative error of the outputs (dashed: int8)", errors, plain.output_error, logarithmic=True),
        Panel("accuracy (dashed: float model)", accuracies, plain.float_accuracy),
    ]
    return draw(title, panels)


def draw(title: str, panels: Sequence[Panel]) -> str:
    """Panels side by side; the size is logarithmic, colours are the same in all of them."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.curves))
    picture = Drawing(len(panels) * (PANEL + BETWEEN) + LEFT - BETWEEN / 2, TOP + HEIGHT + BOTTOM, title)
    picture.text(LEFT, 18, title, weight="bold", size=14)
    x = LEFT
    for name, color in zip(names, COLORS, strict=False):
        picture.circle(x + 5, 36, 4, color)
        picture.text(x + 14, 40, name, color=PALE)
        x += 34 + 7 * len(name)
    for k, panel in enumerate(panels):
        _draw_panel(picture, LEFT + k * (PANEL + BETWEEN), panel, dict(zip(names, COLORS, strict=False)))
    return str(picture)


def _draw_panel(picture: Drawing, left: float, panel: Panel, colors: Mapping[str, str]) -> None:
    points = [point for curve in panel.curves.values() for point in curve]
    sizes, values = [size for size, _ in points], [value for _, value in points] + [panel.level]
    across = Axis(min(sizes) / 1.1, max(sizes) * 1.1, left, left + PANEL, logarithmic=True)
    low, high = min(values), max(values)
    if panel.logarithmic:
        low, high = low / 1.2, high * 1.2
    else:
        low, high = low - 0.04 * (high - low) - 1e-3, high + 0.04 * (high - low) + 1e-3
    up = Axis(low, high, TOP + HEIGHT, TOP, panel.logarithmic)
    for tick in across.ticks(BESIDE):
        x = across(tick)
        picture.line([(x, TOP), (x, TOP + HEIGHT)], GRID)
        picture.text(x, TOP + HEIGHT + 16, f"{tick / 1000:g} kB", anchor="middle", size=11, color=PALE)
    for tick in up.ticks(ABOVE):
        y = up(tick)
        picture.line([(left, y), (left + PANEL, y)], GRID)
        picture.text(left - 6, y + 4, f"{tick:.6g}", anchor="end", size=11, color=PALE)
    picture.line([(left, up(panel.level)), (left + PANEL, up(panel.level))], INK, dashes="4 4")
    picture.text(left + PANEL / 2, TOP + HEIGHT + 36, panel.title, anchor="middle")
    for name, curve in panel.curves.items():
        path = [(across(size), up(value)) for size, value in sorted(curve)]
        picture.line(path, colors[name], 1.8)
        for (x, y), (size, value) in zip(path, sorted(curve), strict=True):
            picture.circle(x, y, 3.5, colors[name], f"{name}: {size:,.0f} bytes, {value:.4f}")
