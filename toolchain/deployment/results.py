"""What the vendor's tools found, beside our estimates: `vendor` of `report.json`, and `hls/out/vendor.json`."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from toolchain.deployment.site import Site
from toolchain.deployment.vendor_reports import (
    check_registers,
    find_driver_header,
    read_cosimulation,
    read_implementation,
    read_synthesis,
)
from toolchain.errors import ToolError
from toolchain.project import PROGRAM, REPORT, read_report, sealed

Reader = Callable[[], dict[str, Any] | None]
COMPARED = (("interval_cycles", "cycles a frame"), ("latency_cycles", "cycles of latency"))
RESOURCES = (("dsp", "DSP"), ("bram36", "BRAM36"), ("lut", "LUT"), ("ff", "FF"))


class Results:
    """The results of a project's build, read after each step and written into its report."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def synthesis(self, site: Site) -> Reader:
        """Reads csynth.xml, after the registers were compared with our map."""

        def read() -> dict[str, Any]:
            project = site.hls / "vitis_hls"
            header = find_driver_header(project)
            if header is not None:
                check_registers(header, site.decoders)
            return {**read_synthesis(project / "solution/syn/report"), "registers_checked": header is not None}

        return read

    def cosimulation(self, site: Site, path: str) -> Reader:
        """Reads the co-simulation's report. Its reader raises ToolError when it did not pass."""

        def read() -> dict[str, Any]:
            found = read_cosimulation(site.hls / path)
            if found["status"].lower() != "pass":
                raise ToolError(
                    f"the co-simulation ended with {found['status']}",
                    where=str(site.logs / "cosim.log"),
                    fix="The hardware that was synthesized differs from the program: report it, please.",
                )
            return found

        return read

    def implementation(self, site: Site, tool: str) -> Reader:
        """Reads utilization and timing of the placed and routed design. Its reader raises ToolError when it is late.

        On Alveo a late setup is no fault of the result: `v++` scales the kernel clock down to what was reached.
        """
        scaled = site.flow == "vitis" and site.family != "versal"
        keys = ("hold_slack_ns",) if scaled else ("setup_slack_ns", "hold_slack_ns")

        def read() -> dict[str, Any]:
            found = read_implementation(site.hls / "out/reports")
            slacks = [found[key] for key in keys if found[key] is not None]
            if slacks and min(slacks) < 0:
                raise ToolError(
                    f"{tool}: timing is not met, the worst slack is {min(slacks)} ns",
                    where=str(site.hls / "out/reports"),
                    fix="Compile it with a lower --clock, or with a lower --target-fps.",
                )
            return found

        return read

    def store(self, step: str, found: Mapping[str, Any]) -> None:
        """Adds a step's results to `report.json` and `hls/out/vendor.json`. A new synthesis voids all others."""
        report = read_report(self._root)
        before = {} if step == "csynth" else report.get("vendor", {})
        report["vendor"] = {**before, step: dict(found)}
        files = sealed(
            {REPORT: json.dumps(report, indent=1) + "\n", PROGRAM: (self._root / PROGRAM).read_text(encoding="utf-8")}
        )
        content = {name: files[name] for name in (REPORT, PROGRAM)}
        _replace(self._root, {**content, "hls/out/vendor.json": json.dumps(report["vendor"], indent=1) + "\n"})

    def lines(self, step: str) -> Iterator[str]:
        """A step's results beside the estimates, for people."""
        report = read_report(self._root)
        found, modelled = report.get("vendor", {}).get(step, {}), report["hardware"]
        # An implementation has engines and switches beside the core, which is what was modelled.
        whole, core = (" in the whole system", " for the core") if step == "implementation" else ("", "")
        for key, what in (*COMPARED, *RESOURCES):
            if found.get(key) is not None:
                yield f"{what}: {found[key]:g}{whole}, modelled {modelled[key]:g}{core}"
        if found.get("setup_slack_ns") is not None:
            late = " at the clock that was asked for; it is scaled down" if found["setup_slack_ns"] < 0 else ""
            yield f"worst setup slack: {found['setup_slack_ns']:g} ns{late}"


def _replace(root: Path, files: Mapping[str, str | bytes]) -> None:
    """Replaces files that belong together: all are written beside the old ones first; then no signal comes between."""
    new = []
    try:
        for name, content in files.items():
            path = root / f"{name}.new"
            new.append((path, root / name))
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            for path, target in new:
                path.replace(target)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    finally:
        for path, _ in new:
            path.unlink(missing_ok=True)
