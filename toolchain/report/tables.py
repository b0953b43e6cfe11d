"""Reports as tables on a terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from toolchain.errors import printable
from toolchain.hardware.board import Board, Memory, Processor, Resources, board_names, load_board
from toolchain.hardware.resources import Estimate, exceeded, limits, rank
from toolchain.report.footprint import footprint_line, footprint_table
from toolchain.report.pictures import byte_count
from toolchain.report.vendor import TITLE, vendor_table


def compile_summary(report: dict[str, Any], output: Path, out: Console, err: Console) -> None:
    """A few lines behind `toolchain compile`, with a warning when the design does not fit."""
    hardware, compression = report["hardware"], report["compression"]
    per_second = hardware["clock_mhz"] * 1e6 / hardware["interval_cycles"]
    size = sum(compression["breakdown"].values()) // 8
    names = printable(f"{report['model']} -> {output}")
    out.print(f"{names}: {len(report['layers'])} layers, {report['parameters']} parameters", soft_wrap=True)
    out.print(f"weights.bin: {size} bytes, {compression['ratio_float32']:.2f} times smaller than float32")
    if "embedded" in report:
        out.print(footprint_line(report["embedded"]), soft_wrap=True)
    if "hls" not in report.get("targets", ["hls"]):
        return
    out.print(
        f"{report['board']}, modelled: {hardware['interval_cycles']} cycles a frame = {per_second:.0f} frames/s at "
        f"{hardware['clock_mhz']:g} MHz, {hardware['dsp']} DSP, {hardware['bram36']:g} BRAM36, {hardware['lut']} LUT"
        f"{f', {uram} URAM' if (uram := hardware.get('uram')) else ''}"
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
    if hardware.get("exceeded"):
        board = smallest_board(hardware)
        err.print(f"nearest: {f'{board} has room for it' if board else 'no board has room for it'}", markup=False)


def smallest_board(hardware: dict[str, Any]) -> str | None:
    """The board with the fewest resources that has room for a design of report.json, None where none has."""
    masters = hardware["exceeded"].get("masters", {}).get("used", 0)  # of which every board has as many
    uram = hardware.get("uram", 0)

    def has_room(resources: Resources) -> bool:
        left = max(uram - limits(resources)["uram"], 0)  # what does not fit UltraRAM fits eight times as many BRAM36
        bram36 = hardware["bram36"] + 8 * left
        return not exceeded(Estimate(hardware["dsp"], bram36, hardware["lut"], masters=masters), resources)

    enough = [board for board in map(load_board, board_names()) if has_room(board.resources)]
    sizes = {one.name: rank(Estimate(one.resources.dsp, one.resources.bram36, one.resources.lut)) for one in enough}
    return min(sizes, key=lambda name: sizes[name], default=None)


def report_tables(report: dict[str, Any], out: Console) -> None:
    """The whole report: totals, the parts of `weights.bin`, then a line a layer."""
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
    if hardware.get("uram"):
        rows["URAM (modelled)"] = hardware["uram"]
    if traffic := hardware.get("weight_traffic_bytes"):
        rate = traffic * hardware["clock_mhz"] / hardware["interval_cycles"]
        rows["weights from DDR (modelled)"] = f"{traffic} bytes a frame, {rate:.0f} MB/s"
    for name, value in rows.items():
        totals.add_row(name, str(value))
    out.print(totals)
    heads, measured = vendor_table(report)
    if measured:
        out.print(_vendor_table(heads, measured))
    out.print(_parts_table(report))
    if "embedded" in report:
        out.print(footprint_table(report["embedded"]))
    weighted = weighted_layers(report)
    out.print(_table(weighted, "weights, coding", CODING))
    out.print(_table(weighted, "weights, multiplications", PRODUCTS))
    out.print(_table(report["layers"], "hardware (modelled)", HARDWARE))
    out.print(_table(report["layers"], "formats", FORMATS))


def _vendor_table(heads: list[str], rows: list[list[str]]) -> Table:
    table = Table(title=TITLE)
    for head in heads:
        table.add_column(printable(head), justify="right" if head else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(printable, row))
    return table


def weighted_layers(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The layers that have weights."""
    return [layer for layer in report["layers"] if layer["weight_type"]]


def file_parts(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Component, bytes and share of `weights.bin`, the largest first, and their sum, which is the file."""
    breakdown = {name: bits for name, bits in report["compression"]["breakdown"].items() if bits}
    total = sum(breakdown.values())
    ordered = sorted(breakdown.items(), key=lambda part: -part[1])
    parts = [(name.replace("_", " "), byte_count(bits), f"{100 * bits / total:.1f} %") for name, bits in ordered]
    return [*parts, ("weights.bin", byte_count(total), "100 %")]


def _parts_table(report: dict[str, Any]) -> Table:
    *parts, total = file_parts(report)
    table = Table(title="weights.bin", show_footer=True)
    for name, whole in zip(("component", "bytes", "share"), total, strict=True):
        table.add_column(name, whole, justify="left" if name == "component" else "right")
    for part in parts:
        table.add_row(*part)
    return table


def _coder(layer: dict[str, Any]) -> str:
    """`run 4, 2 streams`: zero runs up to 4 join the symbols, and two decoders can work at once."""
    storage = layer["storage"]
    if storage is None:
        return "-"
    streams = storage["substreams"]
    run = f" {storage['longest_run']}" if storage["coder"] == "run" else ""
    return f"{storage['coder']}{run}" + (f", {streams} streams" if streams > 1 else "")


def _weight_bits(layer: dict[str, Any]) -> str:
    storage = layer["storage"]
    if storage:
        return f"{storage['bits_per_weight']:.2f}"
    return str(layer["weight_type"]).partition("<")[2].partition(",")[0]


def _unit(layer: dict[str, Any]) -> str:
    """Where a layer's products are made: `spatial, sparse 16 x 2` has 16 lanes for 2 pixels each."""
    engine = layer["engine"]
    size = f" {engine['lanes']} x {engine['pixels']}" if "lanes" in engine else ""
    return f"{layer['execution']}, {engine['unit']}{size}" if engine["unit"] else "-"


def _rejected(layer: dict[str, Any]) -> str:
    """What else was tried: its error relative to that of the chosen coding, and its bytes or multiplications."""

    def size(one: dict[str, Any]) -> str:
        return f"{one['bits'] / 8:,.0f} bytes" if "bits" in one else f"{one['multiplications']:,} multiplications"

    return "; ".join(
        f"{one['coded']}: {one['relative_error']:.2f} x error, {size(one)}" for one in layer["alternatives"]
    )


CODING: dict[str, Callable[[dict[str, Any]], str]] = {
    "layer": lambda layer: str(layer["name"]),
    "coded": lambda layer: str(layer["coded"]),
    "coder": _coder,
    ">bits/weight": _weight_bits,
    ">bits/code": lambda layer: f"{layer['storage']['mean_code_length']:.2f}" if layer["storage"] else "-",
    ">density": lambda layer: f"{layer['density']:.3f}",
    "rejected": _rejected,
}

PRODUCTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "layer": lambda layer: str(layer["name"]),
    ">dense": lambda layer: f"{layer['multiplications']['dense']:,}",
    ">packed": lambda layer: f"{layer['multiplications']['packed']:,}",
    ">basis additions": lambda layer: f"{layer['multiplications']['basis_additions']:,}",
    "execution, unit": _unit,
    "bound by": lambda layer: str(layer["engine"].get("binds", "-")),
}


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


BOARDS: dict[str, Callable[[Board], str]] = {
    "board": lambda board: board.name,
    "part": lambda board: board.part,
    "flow": lambda board: board.flow,
    ">DSP": lambda board: str(board.resources.dsp),
    ">BRAM36": lambda board: str(board.resources.bram36),
    ">LUT": lambda board: str(board.resources.lut),
    ">MHz": lambda board: f"{board.clock_mhz:g}",
}


def board_list(out: Console) -> None:
    """All boards, a line each."""
    table = Table()
    for column in BOARDS:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    for board in map(load_board, board_names()):
        table.add_row(*(cell(board) for cell in BOARDS.values()))
    out.print(table)


def board_table(name: str, out: Console) -> None:
    """The facts of one board and where they stand. Numbers are plain integers: scripts search for them."""
    board = load_board(name)
    r = board.resources
    facts = {
        "name": board.name,
        "part": board.part,
        "family": board.family,
        "flow": board.flow,
        "board file": board.board_part,
        "platform": board.platform,
        "clock": f"{board.clock_mhz:g} MHz",
        "processor": board.processor and processor_text(board.processor),
        **{f"memory {number}": memory_text(memory) for number, memory in enumerate(board.memories, 1)},
        "DSP": r.dsp,
        "BRAM36": r.bram36,
        "URAM": r.uram,
        "LUT": r.lut,
        "FF": r.ff,
        "reserved": board.reserved,
        **{f"source, {key}": text for key, text in board.sources.items()},
    }
    table = Table(title=board.title, show_header=False)
    for key, value in facts.items():
        if value is not None:
            table.add_row(key, str(value))
    out.print(table)


def memory_text(memory: Memory) -> str:
    """`DDR4, 4096 MiB, 2 banks, 38.4 GB/s`, without what is unknown."""
    facts = [memory.kind.upper(), f"{memory.mib} MiB"]
    if memory.banks:
        facts.append(f"{memory.banks} bank{'s' * (memory.banks > 1)}")
    if memory.gbps:
        facts.append(f"{memory.gbps:g} GB/s")
    return ", ".join(facts)


def processor_text(processor: Processor) -> str:
    """`2 x Arm Cortex-A9, 32 bits`."""
    *words, core = processor.core.split("_")
    return f"{processor.count} x {' '.join(words).title()}-{core.upper()}, {processor.bits} bits"


def board_page() -> str:
    """The table of `docs/boards.md`, in Markdown."""
    columns: dict[str, Callable[[Board], str]] = {
        "board": lambda board: f"`{board.name}`",
        "title": lambda board: board.title,
        "part": lambda board: f"`{board.part}`",
        "flow": lambda board: f"`{board.flow}`",
        "DSP": lambda board: f"{board.resources.dsp:,}",
        "BRAM36": lambda board: f"{board.resources.bram36:,}",
        "URAM": lambda board: f"{board.resources.uram:,}",
        "LUT": lambda board: f"{board.resources.lut:,}",
        "FF": lambda board: f"{board.resources.ff:,}",
        "MHz": lambda board: f"{board.clock_mhz:g}",
        "memory": lambda board: "; ".join(map(memory_text, board.memories)),
        "processor": lambda board: processor_text(board.processor) if board.processor else "",
    }
    rows = [list(columns), ["---:" if name.isupper() or name == "MHz" else "---" for name in columns]]
    rows += [[cell(board) for cell in columns.values()] for board in map(load_board, board_names())]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
