"""Reports as tables on a terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from toolchain.errors import printable
from toolchain.hardware.board import board_names, load_board


def compile_summary(report: dict[str, Any], output: Path, out: Console, err: Console) -> None:
    """A few lines behind `toolchain compile`, with a warning when the design does not fit."""
    hardware, compression = report["hardware"], report["compression"]
    per_second = hardware["clock_mhz"] * 1e6 / hardware["interval_cycles"]
    size = sum(compression["breakdown"].values()) // 8
    names = printable(f"{report['model']} -> {output}")
    out.print(f"{names}: {len(report['layers'])} layers, {report['parameters']} parameters", soft_wrap=True)
    out.print(f"weights.bin: {size} bytes, {compression['ratio_float32']:.2f} times smaller than float32")
    out.print(
        f"{report['board']}, modelled: {hardware['interval_cycles']} cycles a frame = {per_second:.0f} frames/s at "
        f"{hardware['clock_mhz']:g} MHz, {hardware['dsp']} DSP, {hardware['bram36']:g} BRAM36, {hardware['lut']} LUT"
    )
    wanted = hardware.get("interval_wanted")
    if wanted and hardware["interval_cycles"] > wanted:
        err.print(
            f"warning: {hardware['clock_mhz'] * 1e6 / wanted:.0f} frames/s were asked for; {report['board']} gives "
            f"{per_second:.0f} at {hardware['clock_mhz']:g} MHz",
            markup=False,
            soft_wrap=True,
        )
    for name, amounts in hardware.get("exceeded", {}).items():
        err.print(
            f"warning: does not fit {report['board']}: {name} {amounts['used']:g} of {amounts['limit']:g} usable",
            markup=False,
            soft_wrap=True,
        )


def report_tables(report: dict[str, Any], out: Console) -> None:
    """The whole report: totals, then a line a layer."""
    hardware, compression = report["hardware"], report["compression"]
    products = report["multiplications"]
    totals = Table(title=printable(f"{report['model']} on {report['board']}"), show_header=False)
    size, ratio = sum(compression["breakdown"].values()) // 8, compression["ratio_float32"]
    cycles = f"{hardware['interval_cycles']}, {hardware['latency_cycles']} cycles at {hardware['clock_mhz']:g} MHz"
    rows = {
        "parameters": report["parameters"],
        "multiplications, dense / packed": f"{products['dense']} / {products['packed']}",
        "weights.bin": f"{size} bytes ({ratio:.2f} times smaller than float32)",
        "bits a weight": f"{compression['bits_per_weight']:.2f}",
        "interval, latency (modelled)": cycles,
        "DSP, BRAM36, LUT, FF (modelled)": ", ".join(f"{hardware[key]:g}" for key in ("dsp", "bram36", "lut", "ff")),
        "fits": "yes" if hardware["fits"] else "no",
    }
    for name, value in rows.items():
        totals.add_row(name, str(value))
    out.print(totals)
    out.print(_table(report["layers"], "hardware (modelled)", HARDWARE))
    out.print(_table(report["layers"], "formats", FORMATS))


HARDWARE: dict[str, Callable[[dict[str, Any]], str]] = {
    "layer": lambda layer: str(layer["name"]),
    "op": lambda layer: str(layer["op"]),
    "output": lambda layer: "x".join(map(str, layer["output_shape"])),
    ">MACs": lambda layer: str(layer["macs"]),
    ">PE x SIMD": lambda layer: f"{layer['pe']} x {layer['simd']}",
    ">cycles": lambda layer: str(layer["cycles"]),
    ">DSP": lambda layer: str(layer["dsp"]),
    ">BRAM36": lambda layer: f"{layer['bram36']:g}",
}

FORMATS: dict[str, Callable[[dict[str, Any]], str]] = {
    "layer": lambda layer: str(layer["name"]),
    "input": lambda layer: short(layer["input_type"]),
    "weight": lambda layer: short(layer["weight_type"]),
    "accumulator": lambda layer: short(layer["accumulator_type"]),
    "output": lambda layer: short(layer["output_type"]),
    ">saturated": lambda layer: str(layer["saturations"]),
    ">rel. error": lambda layer: f"{layer['relative_error']:.4f}",
}


def short(type: str | None) -> str:
    """A format without the modes that are the defaults of its place."""
    return (type or "").replace(",TRN,WRAP", "").replace(",RND,SAT", "")


def _table(layers: list[dict[str, Any]], title: str, columns: dict[str, Callable[[dict[str, Any]], str]]) -> Table:
    table = Table(title=title)
    for name in columns:
        table.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    for layer in layers:
        table.add_row(*(printable(cell(layer)) for cell in columns.values()))
    return table


def board_list(out: Console) -> None:
    """All boards, a line each."""
    table = Table()
    for column in ("board", "title", "part"):
        table.add_column(column)
    for column in ("DSP", "BRAM36", "URAM", "LUT", "MHz"):
        table.add_column(column, justify="right")
    for name in board_names():
        board = load_board(name)
        r = board.resources
        table.add_row(
            name, board.title, board.part, *map(str, (r.dsp, r.bram36, r.uram, r.lut)), f"{board.clock_mhz:g}"
        )
    out.print(table)


def board_table(name: str, out: Console) -> None:
    """The facts of one board."""
    board = load_board(name)
    table = Table(title=board.title, show_header=False)
    facts = {
        "name": board.name,
        "part": board.part,
        "family": board.family,
        "flow": board.flow,
        "clock": f"{board.clock_mhz:g} MHz",
        "DSP": board.resources.dsp,
        "BRAM36": board.resources.bram36,
        "URAM": board.resources.uram,
        "LUT": board.resources.lut,
        "FF": board.resources.ff,
        **{f"source, {key}": text for key, text in board.sources.items()},
    }
    for key, value in facts.items():
        table.add_row(key, str(value))
    out.print(table)
