"""Pictures of a report as SVG without scripts: where the bits of the weights are, and the energy by frequency."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal
from xml.etree import ElementTree as ET

from toolchain.errors import printable

INK, PALE, GRID = "#1c2430", "#5c6875", "#dde3ea"
FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"
LETTER = 0.56
"""Width of a letter over the font size, on average and rather too wide."""
WIDTH = 980

# Colours of Okabe and Ito (2008), told apart without red and green; what is no coded level is grey.
COLORS = {
    "payload": "#0072b2",
    "indices": "#e69f00",
    "cluster_indices": "#cc79a7",
    "centres": "#009e73",
    "pointers": "#d55e00",
    "dictionaries": "#56b4e9",
    "weights": "#8d6e4e",
    "biases": "#f0e442",
    "parameters": "#b9a7d6",
    "tables": "#7f8b97",
    "header": "#c3cad2",
}
"""The parts of `weights.bin` in the order in which they are stacked."""
OTHER = "#000000"
SHARED = "beside the coded weights"

BAR, ROW, NAMES, TOTALS = 15, 22, 250, 130
CELL_WIDTH, CELL_HEIGHT = 40, 26
GAP, TITLE, LEAST_MAP = 24, 38, 172
HOT = (8, 48, 107)
DARK = 0.5
"""Cells from here on carry white numbers."""

Anchor = Literal["start", "middle", "end"]


class Drawing:
    """An SVG picture under construction. All text is escaped; what XML cannot hold is written as an escape sequence."""

    def __init__(self, width: float, height: float, label: str) -> None:
        self._root = ET.Element(
            "svg",
            {
                "xmlns": "http://www.w3.org/2000/svg",
                "viewBox": f"0 0 {width:g} {height:g}",
                "width": f"{width:g}",
                "height": f"{height:g}",
                "role": "img",
                "aria-label": printable(label),
                "style": "max-width: 100%; height: auto",
                "font-family": FONT,
            },
        )

    def rectangle(self, x: float, y: float, width: float, height: float, color: str, title: str = "") -> None:
        box = {"x": x, "y": y, "width": width, "height": height}
        self._add("rect", box, {"fill": color}, title)

    def line(self, points: Iterable[tuple[float, float]], color: str, width: float = 1.0, dashes: str = "") -> None:
        path = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
        style = {"points": path, "fill": "none", "stroke": color, "stroke-width": f"{width:g}"}
        self._add("polyline", {}, style | ({"stroke-dasharray": dashes} if dashes else {}))

    def circle(self, x: float, y: float, radius: float, color: str, title: str = "") -> None:
        self._add("circle", {"cx": x, "cy": y, "r": radius}, {"fill": color}, title)

    def text(
        self,
        x: float,
        y: float,
        content: str,
        *,
        anchor: Anchor = "start",
        color: str = INK,
        size: float = 12,
        weight: Literal["normal", "bold"] = "normal",
        room: float = 0.0,
    ) -> None:
        """One line of text; with `room` (pixels) it is cut to that, and the whole of it is a tooltip."""
        whole = printable(content)
        shown = cut(whole, int(room / (LETTER * size))) if room else whole
        style = {"text-anchor": anchor, "fill": color, "font-size": f"{size:g}", "font-weight": weight}
        self._add("text", {"x": x, "y": y}, style, whole if shown != whole else "", shown)

    def _add(
        self, tag: str, numbers: Mapping[str, float], style: Mapping[str, str], title: str = "", content: str = ""
    ) -> None:
        attributes = {name: f"{value:.2f}".rstrip("0").rstrip(".") for name, value in numbers.items()}
        element = ET.SubElement(self._root, tag, attributes | dict(style))
        if title:
            tooltip = ET.SubElement(element, "title")
            tooltip.text, tooltip.tail = printable(title), content
        else:
            element.text = content

    def __str__(self) -> str:
        return ET.tostring(self._root, encoding="unicode")


def cut(text: str, letters: int) -> str:
    """At most so many letters, wide ones counted twice, the middle left out: names differ at both ends."""
    if _letters(text) <= letters:
        return text
    head = tail = ""
    for k in range(len(text)):
        longer = (head + text[k // 2], tail) if k % 2 == 0 else (head, text[-(k // 2) - 1] + tail)
        if _letters("".join(longer)) > letters - 1:
            break
        head, tail = longer
    return f"{head}…{tail}"


def _letters(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def draw_sizes(report: Mapping[str, Any]) -> str:
    """Stacked bars, one a coded layer and one for the rest of `weights.bin`; nothing when no layer is coded.

    The bars together are the file.
    """
    bars = size_bars(report)
    if not bars:
        return ""
    used = [name for name in _ordered(report["compression"]["breakdown"]) if any(bits.get(name) for _, bits in bars)]
    legend = _legend_rows(used)
    top = 14 + 20 * len(legend)
    picture = Drawing(WIDTH, top + ROW * len(bars) + 6, "Bytes of weights.bin by layer and component")
    for line, entries in enumerate(legend):
        for name, x in entries:
            picture.rectangle(x, 4 + 20 * line, 12, 12, COLORS.get(name, OTHER))
            picture.text(x + 17, 14 + 20 * line, _words(name), color=PALE)
    room = WIDTH - NAMES - TOTALS
    largest = max(sum(bits.values()) for _, bits in bars)
    for k, (layer, bits) in enumerate(bars):
        y = top + ROW * k
        picture.text(NAMES - 10, y + 12, layer, anchor="end", room=NAMES - 14, color=PALE if layer == SHARED else INK)
        x = float(NAMES)
        for name in used:
            width = room * bits.get(name, 0) / max(largest, 1)
            if width:
                title = f"{layer}, {_words(name)}: {byte_count(bits[name])} bytes"
                picture.rectangle(x, y, width, BAR, COLORS.get(name, OTHER), title)
            x += width
        picture.text(x + 8, y + 12, f"{sum(bits.values()) / 8:,.0f} bytes")
    return str(picture)


def size_bars(report: Mapping[str, Any]) -> list[tuple[str, dict[str, int]]]:
    """Name and bits by component of every coded layer, then what is left of the file (biases, dictionaries, ...)."""
    bars = [(str(one["name"]), dict(one["storage"]["bits"])) for one in report["layers"] if one["storage"]]
    if not bars:
        return []
    breakdown = report["compression"]["breakdown"]
    rest = {name: bits - sum(parts.get(name, 0) for _, parts in bars) for name, bits in breakdown.items()}
    return [*bars, (SHARED, rest)]


def byte_count(bits: float) -> str:
    """Exact bytes of so many bits, which may end in the middle of one."""
    return f"{bits / 8:,.3f}".rstrip("0").rstrip(".")


def _ordered(names: Iterable[str]) -> list[str]:
    given = dict.fromkeys(names)
    return [name for name in COLORS if name in given] + sorted(name for name in given if name not in COLORS)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _legend_rows(names: Sequence[str]) -> list[list[tuple[str, float]]]:
    rows: list[list[tuple[str, float]]] = [[]]
    x = 0.0
    for name in names:
        width = 36 + LETTER * 12 * len(name)
        if x + width > WIDTH:
            rows.append([])
            x = 0.0
        rows[-1].append((name, x))
        x += width
    return rows


def draw_spectra(report: Mapping[str, Any]) -> str:
    """For each layer coded in frequency the share of its energy, in percent, by frequency; nothing without any."""
    layers = [one for one in report["layers"] if one["spectrum"]]
    if not layers:
        return ""
    places, height = _places([one["spectrum"] for one in layers])
    picture = Drawing(WIDTH, height, "Energy of the coefficients by frequency")
    for layer, (x, y) in zip(layers, places, strict=True):
        shares = layer["spectrum"]
        room = max(CELL_WIDTH * len(shares[0]), LEAST_MAP)
        picture.text(x, y + 13, layer["name"], weight="bold", room=room * 0.93)  # bold letters are wider
        picture.text(x, y + 29, layer["coded"], color=PALE, size=11, room=room)
        largest = max(max(row) for row in shares) or 1.0
        for u, row in enumerate(shares):
            for v, share in enumerate(row):
                _draw_cell(picture, x + CELL_WIDTH * v, y + TITLE + CELL_HEIGHT * u, share, largest, f"{u}, {v}")
    return str(picture)


def _draw_cell(picture: Drawing, x: float, y: float, share: float, largest: float, frequency: str) -> None:
    # The eye compares amplitudes: with energies all but the first cells would be white.
    heat = (share / largest) ** 0.5
    color = "#" + "".join(f"{round(255 - heat * (255 - part)):02x}" for part in HOT)
    picture.rectangle(x, y, CELL_WIDTH - 1, CELL_HEIGHT - 1, color, f"frequency {frequency}: {share:.3%}")
    middle = (x + (CELL_WIDTH - 1) / 2, y + CELL_HEIGHT / 2 + 4)
    picture.text(*middle, _percent(share), anchor="middle", size=11, color="#ffffff" if heat > DARK else INK)


def _percent(share: float) -> str:
    """Three characters for a share of 1."""
    percent = 100 * share
    if percent >= 9.95:  # with one digit behind the point it would be 10.0
        return f"{percent:.0f}"
    return f"{percent:.1f}" if percent >= 0.05 else "<.1" if share else "0"


def _places(spectra: Sequence[Sequence[Sequence[float]]]) -> tuple[list[tuple[float, float]], float]:
    """Upper left corners of the maps, set in lines like words, and the height of it all."""
    places: list[tuple[float, float]] = []
    x = y = height = 0.0
    for shares in spectra:
        width = max(CELL_WIDTH * len(shares[0]), LEAST_MAP)
        if x and x + width > WIDTH:
            x, y, height = 0.0, y + height, 0.0
        places.append((x, y))
        x += width + GAP
        height = max(height, TITLE + CELL_HEIGHT * len(shares) + GAP)
    return places, y + height
