"""Runs the vendor's HLS tool, or g++ for the C simulation, on a generated project."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from rich.console import Console

from toolchain.errors import ConfigurationError, ModelError, ToolError
from toolchain.project import load
from toolchain.verification.csim import ap_types

LAUNCHERS = {
    "vitis-run": ("--mode", "hls", "--tcl", "run_hls.tcl"),
    "vitis_hls": ("-f", "run_hls.tcl"),
}
"""Newest tool first, each with what makes it run a Tcl script."""


def build_project(path: Path, stage: str, out: Console) -> None:
    """Runs one stage: `csim` by the vendor's tool or else by g++, `csynth`, `cosim` and `ip` by the vendor's tool.

    Raises ConfigurationError for a design that does not fit its board, ToolError when a tool is missing or fails.
    """
    project = load(path)
    folder = project.path / "hls"
    if not (folder / "run_hls.tcl").is_file():
        raise ModelError("the project has no hls/", where=str(path), fix="Compile it with --target hls.")
    if stage == "bitstream":
        raise ConfigurationError("--stage bitstream is not available in this version", fix="Use ip.")
    hardware = project.report["hardware"]
    if stage != "csim" and not hardware["fits"]:
        excess = ", ".join(f"{k} {v['used']:g} of {v['limit']:g}" for k, v in hardware["exceeded"].items())
        raise ConfigurationError(
            f"the design does not fit {project.report['board']}: {excess}",
            where=str(path),
            fix="Compile it for a larger board or with --target-fps.",
        )
    name, argv, environment = _command(stage)
    out.print(f"{name}: {stage}")
    done = subprocess.run(argv, cwd=folder, env=environment, check=False)
    if done.returncode:
        raise ToolError(
            f"{name} failed with exit code {done.returncode}", where=str(folder), fix="Its output is above."
        )


def _command(stage: str) -> tuple[str, list[str], dict[str, str]]:
    """The tool's name, its argv and its environment."""
    for name, options in LAUNCHERS.items():
        tool = shutil.which(name)
        if tool:
            return name, [tool, *options], {**os.environ, "STAGE": stage}
    if stage == "csim":
        for tool in ("make", "g++"):
            if shutil.which(tool) is None:
                raise ToolError(f"{tool} is not installed", fix="On Debian: apt-get install make g++")
        return "g++", ["make", "csim", f"AP_TYPES={ap_types()}"], dict(os.environ)
    raise ToolError(
        "neither vitis-run nor vitis_hls is on PATH", fix="Source the settings64.sh of your Vitis installation."
    )
