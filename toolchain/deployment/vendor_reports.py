"""Reads the reports that the vendor's tools write: what `report.json` shows beside our estimates.

Formats as printed by Vitis HLS (`csynth.xml`, co-simulation report) and Vivado (`report_utilization`,
`report_timing_summary`), AMD UG1399 and UG906. A number that a report does not hold is null.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from toolchain.codegen.registers import registers
from toolchain.errors import ToolError

REPORT_BYTES = 64 << 20
"""No report is larger; what is was not written by the tool."""
PER_FRAME = "*dataflow*loop*_csynth.xml"
"""The loop over frames runs as often as a register says, so the top function has no latency; its body has."""


def read_text(path: Path) -> str:
    """A report. Raises ToolError when it cannot be read."""
    try:
        if path.stat().st_size > REPORT_BYTES:
            raise ToolError("is no report: too large", where=str(path))
        return path.read_text(errors="replace")
    except OSError as error:
        raise ToolError(f"cannot be read: {error.strerror}", where=str(path)) from None


# ------------------------------------------------------------------------------------------------------- synthesis


def read_synthesis(folder: Path) -> dict[str, Any]:
    """Figures of C synthesis from `solution/syn/report`: ns, cycles of a frame, resources.

    Raises ToolError when `csynth.xml` is missing or is none.
    """
    root = _xml(folder / "csynth.xml")
    timing = _estimates(root)
    if timing["interval_cycles"] is None:
        for path in sorted(folder.glob(PER_FRAME)):
            body = _estimates(_xml(path))
            if body["interval_cycles"] is not None:
                timing |= {key: body[key] for key in ("latency_cycles", "interval_cycles")}
                break
    used = root.find("AreaEstimates/Resources")
    if used is None:
        raise ToolError("holds no resources", where=str(folder / "csynth.xml"))
    return {
        "clock_ns": _number(root, "UserAssignments/TargetClockPeriod"),
        **timing,
        **_resources({child.tag: child.text or "" for child in used}),
    }


def _xml(path: Path) -> ET.Element:
    text = read_text(path)
    if "<!" in text.replace("<!--", ""):  # entities: no report has them
        raise ToolError("is no report of Vitis HLS", where=str(path))
    try:
        return ET.fromstring(text)  # noqa: S314 - there are no entities in it
    except ET.ParseError as error:
        raise ToolError(f"is damaged: {error}", where=str(path), fix="Run the stage csynth again.") from None


def _estimates(root: ET.Element) -> dict[str, Any]:
    place = "PerformanceEstimates/SummaryOfOverallLatency/"
    return {
        "estimated_clock_ns": _number(root, "PerformanceEstimates/SummaryOfTimingAnalysis/EstimatedClockPeriod"),
        "latency_cycles": _whole(root, place + "Worst-caseLatency"),
        "interval_cycles": _whole(root, place + "Interval-max"),
    }


def _number(root: ET.Element, place: str) -> float | None:
    return _float(root.findtext(place) or "")


def _whole(root: ET.Element, place: str) -> int | None:
    text = (root.findtext(place) or "").strip()
    return int(text) if re.fullmatch(r"\d{1,18}", text) else None  # else `undef` or `?`


def _float(text: str) -> float | None:
    found = re.fullmatch(r"\s*(-?\d{1,15}(?:\.\d{1,15})?)\s*", text)
    return float(found[1]) if found else None


def _resources(tags: dict[str, str]) -> dict[str, Any]:
    """The tool counts block RAMs of 18 Kib; older versions say DSP48E."""

    def count(*names: str) -> float | None:
        return next((value for name in names if (value := _float(tags.get(name, ""))) is not None), None)

    bram18 = count("BRAM_18K")
    return {
        "dsp": count("DSP", "DSP48E"),
        "bram36": None if bram18 is None else bram18 / 2,
        "uram": count("URAM"),
        "lut": count("LUT"),
        "ff": count("FF"),
    }


COSIM_ROW = re.compile(r"^\|\s*(Verilog|VHDL)\s*\|\s*(\w+)\s*\|(.*)\|\s*$", re.MULTILINE)


def read_cosimulation(path: Path) -> dict[str, Any]:
    """Status and the longest latency in cycles of `NAME_cosim.rpt`. Raises ToolError when nothing was simulated."""
    for language, status, numbers in COSIM_ROW.findall(read_text(path)):
        if status != "NA":
            values = [int(text) for text in re.findall(r"\d{1,18}", numbers)]
            latency = values[2] if len(values) > 2 else None  # min, avg, max
            return {"language": language, "status": status, "latency_cycles": latency}
    raise ToolError("holds no result", where=str(path))


# -------------------------------------------------------------------------------------------------- implementation

SITES = {
    "lut": ("Slice LUTs", "CLB LUTs"),
    "ff": ("Slice Registers", "CLB Registers", "Registers"),
    "bram36": ("Block RAM Tile",),
    "uram": ("URAM",),
    "dsp": ("DSPs", "DSP Slices"),
}
"""Names that families give to the same thing in the table of report_utilization."""


def read_utilization(text: str) -> dict[str, float | None]:
    """Resources of a placed design, from `report_utilization`. The first row of a name is the total."""
    rows: dict[str, float] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) >= 2 and (used := _float(cells[1])) is not None:
            rows.setdefault(cells[0].rstrip("*"), used)
    return {key: next((rows[name] for name in names if name in rows), None) for key, names in SITES.items()}


SLACKS = re.compile(
    r"WNS\(ns\)\s+TNS\(ns\).*?WHS\(ns\).*?\n[\s-]+\n\s*(?P<wns>\S+)\s+\S+\s+\S+\s+\S+\s+(?P<whs>\S+)", re.DOTALL
)


def read_timing(text: str) -> dict[str, float | None]:
    """Worst setup and hold slack in ns, from the `Design Timing Summary` of `report_timing_summary`."""
    found = SLACKS.search(text)
    return {
        "setup_slack_ns": _float(found["wns"]) if found else None,
        "hold_slack_ns": _float(found["whs"]) if found else None,
    }


def read_implementation(folder: Path) -> dict[str, Any]:
    """Figures of the reports of Vivado, or of those that `v++` leaves in folders below. What is missing is null."""
    utilization = _first(folder, ("utilization.rpt", "**/*full_util_routed*.rpt", "**/*util*routed*.rpt"))
    timing = _first(folder, ("timing.rpt", "**/*timing_summary*routed*.rpt", "**/*timing_summary*.rpt"))
    return {
        **read_utilization(read_text(utilization) if utilization else ""),
        **read_timing(read_text(timing) if timing else ""),
    }


def _first(folder: Path, patterns: Iterable[str]) -> Path | None:
    return next((path for pattern in patterns for path in sorted(folder.glob(pattern)) if path.is_file()), None)


# -------------------------------------------------------------------------------------------------------- registers

DEFINE = re.compile(r"^#define\s+X\w+?_CONTROL_ADDR_(\w+)\s+0x([0-9a-fA-F]+)\s*$", re.MULTILINE)


def check_registers(header: Path, decoders: int) -> None:
    """Compares the offsets in the driver header that Vitis HLS writes (`xNAME_hw.h`) with our register map.

    Raises ToolError with the first register that lies elsewhere: hosts would write into the wrong one.
    """
    found = {name: int(offset, 16) for name, offset in DEFINE.findall(read_text(header))}
    expected = {"AP_CTRL": 0x00, **{f"{one.name.upper()}_DATA": one.offset for one in registers(decoders)}}
    for name, offset in expected.items():
        if found.get(name) != offset:
            there = f"lies at {found[name]:#04x}" if name in found else "is missing"
            raise ToolError(
                f"the register {name} {there}, hosts expect it at {offset:#04x}",
                where=str(header),
                fix="This version of Vitis HLS ignores offset= in the interface pragmas: use another one.",
            )


def find_driver_header(project: Path) -> Path | None:
    """The `xNAME_hw.h` of a Vitis HLS project."""
    return _first(project, ("solution/impl/*/drivers/*/src/x*_hw.h", "**/x*_hw.h"))
