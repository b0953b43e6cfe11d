"""Finds the vendor's tools on PATH, asks their version, and knows what each version is called with.

Nothing here has run with the real tools; the commands are those of AMD UG1399, UG1702, UG835 and UG1283.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from toolchain.errors import ToolError

Version = tuple[int, int]
"""Year and number: (2024, 2)."""

BANNER = re.compile(r"\bv?(20\d\d)\.(\d)(?:\.\d+)*\b")
INSTALLED = re.compile(r"/(20\d\d)\.(\d)(?:\.\d+)*/")
PLATFORM = re.compile(r"(?P<stem>\w+)_(?P<release>\d{6})_(?P<revision>\d{1,4})", re.ASCII)
VERSION_SECONDS = 180
"""The vendor's launchers are slow to start on a cold file system."""
SETTINGS = "Source the settings64.sh of your Vitis installation."


@dataclass(frozen=True)
class Program:
    """How a tool is asked for its version, and from which version on it can be used here."""

    name: str
    question: tuple[str, ...]
    oldest: Version
    why: str = "older ones were never looked at"


@dataclass(frozen=True)
class Tool:
    """A tool that is there: its name, its path, its version."""

    name: str
    path: str
    version: Version

    def __str__(self) -> str:
        return f"{self.name} {self.version[0]}.{self.version[1]}"


VIVADO = Program("vivado", ("-version",), (2020, 2), "its block design commands are those of later versions")
LINKER = Program("v++", ("--version",), (2020, 2), "kernels come from Vitis HLS")
VERSAL_LINKER = Program("v++", ("--version",), (2022, 1), "it links Versal designs into no .xsa before")
HLS_PROGRAMS = (
    Program("vitis-run", ("--version",), (2023, 2), "it takes no Tcl before"),
    Program("vitis_hls", ("-version",), (2020, 2), "open_solution has no -flow_target before"),
)
"""Vitis HLS: `vitis_hls` is gone from 2024.2 on, `vitis-run` came with 2023.2."""
OLD_HLS = "vivado_hls"


def find(program: Program) -> Tool | None:
    """The tool, or None when it is not on PATH. Raises ToolError when it does not tell a version or is too old."""
    path = shutil.which(program.name)
    if path is None:
        return None
    tool = Tool(program.name, path, read_version(program.name, [path, *program.question]))
    if tool.version < program.oldest:
        year, number = program.oldest
        raise ToolError(f"{tool} is too old: {program.why}", where=path, fix=f"Use {year}.{number} or later.")
    return tool


def require(program: Program) -> Tool:
    """The tool. Raises ToolError when it is not there."""
    tool = find(program)
    if tool is None:
        raise ToolError(f"{program.name} is not on PATH", fix=SETTINGS)
    return tool


def read_version(name: str, argv: Sequence[str]) -> Version:
    """What a tool says its version is, or else its installation folder. Raises ToolError when neither does.

    Not every launcher is documented to answer: the vendor installs into `Vitis/2024.1/` or `2025.1/Vitis/`.
    """
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
            timeout=VERSION_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"{name} cannot be asked for its version: {error}", where=argv[0]) from None
    said = done.stdout + done.stderr
    found = BANNER.search(said) or INSTALLED.search(str(Path(argv[0]).resolve()))
    if found is None:
        first = next((line.strip() for line in said.splitlines() if line.strip()), "nothing")
        raise ToolError(
            f"{name} does not tell its version, but says: {first[:200]}", where=argv[0],
            fix="Its licence or installation may be at fault.",
        )  # fmt: skip
    return int(found[1]), int(found[2])


def find_hls() -> Tool | None:
    """The newest Vitis HLS on PATH, or None. Raises ToolError when all there are cannot be used."""
    found: list[Tool] = []
    refused: list[ToolError] = []
    for program in HLS_PROGRAMS:
        try:
            tool = find(program)
        except ToolError as error:
            refused.append(error)
        else:
            found += [tool] if tool else []
    if found:  # of one version, vitis-run, which comes first
        return max(found, key=lambda tool: tool.version)
    if refused:
        raise refused[0]
    return None


def require_hls() -> Tool:
    """Vitis HLS. Raises ToolError when it is not there, and says why Vivado HLS is none."""
    tool = find_hls()
    if tool is not None:
        return tool
    if shutil.which(OLD_HLS):
        raise ToolError(
            "Vivado HLS cannot compile this design: its ap_axis takes no channels of width 0, and its pragmas have no "
            "named mode",
            where=OLD_HLS,
            fix="Use Vitis HLS 2020.2 or later; the exported IP also goes into an older Vivado as Verilog.",
        )
    raise ToolError("neither vitis-run nor vitis_hls is on PATH", fix=SETTINGS)


def hls_command(tool: Tool, script: str) -> list[str]:
    """What makes Vitis HLS run a Tcl script."""
    if tool.name == "vitis-run":
        return [tool.path, "--mode", "hls", "--tcl", script]
    return [tool.path, "-f", script]


def vivado_command(tool: Tool, script: str, log: str) -> list[str]:
    """What makes Vivado run a Tcl script without a window."""
    return [tool.path, "-mode", "batch", "-nojournal", "-log", log, "-source", script]


def link_command(tool: Tool, objects: Sequence[str], output: str, platform: Sequence[str] = ()) -> list[str]:
    """What makes `v++` join kernels and platform, that of `flow/link.cfg` unless `platform_options` name another."""
    folders = ["--temp_dir", "out/vitis", "--log_dir", "out/logs/vitis", "--report_dir", "out/reports"]
    return [tool.path, "--link", "-t", "hw", "--config", "flow/link.cfg", *platform, *folders, "-o", output, *objects]


def package_command(tool: Tool, linked: str, output: str, platform: Sequence[str] = ()) -> list[str]:
    """What makes `v++` an xclbin of a linked Versal design. From 2026.1 on that design is the platform (AMD UG1702)."""
    if tool.version >= (2026, 1):
        return [tool.path, "--package", "--config", "flow/package.cfg", "--platform", linked, "-o", output]
    return [tool.path, "--package", "-t", "hw", "--config", "flow/package.cfg", *platform, linked, "-o", output]


def platform_options(tool: Tool, wanted: str | None) -> list[str]:
    """What tells `v++` another version of a platform, when that one is not installed and another is.

    The command line has precedence over the configuration. A platform's name ends with year, release and revision.
    """
    found = PLATFORM.fullmatch(wanted or "")
    if found is None:
        return []
    places = [*os.environ.get("PLATFORM_REPO_PATHS", "").split(os.pathsep), "/opt/xilinx/platforms"]
    places.append(str(Path(tool.path).resolve().parent.parent / "base_platforms"))
    names = [path.name for place in places if place for path in Path(place).glob(f"{found['stem']}_*") if path.is_dir()]
    others = [one for name in names if (one := PLATFORM.fullmatch(name)) and one["stem"] == found["stem"]]
    if wanted in names or not others:
        return []
    return ["--platform", max(others, key=lambda one: (int(one["release"]), int(one["revision"])))[0]]


def check_together(maker: Tool, taker: Tool) -> None:
    """Raises ToolError when a tool is older than the one whose results it has to take."""
    if taker.version < maker.version:
        raise ToolError(
            f"{taker} cannot take what {maker} makes", where=taker.path,
            fix="Source the settings64.sh of one installation that has both.",
        )  # fmt: skip


def plain(name: str, package: str | None = None) -> str:
    """The path of a tool whose version does not matter. Raises ToolError when it is not there."""
    path = shutil.which(name)
    if path is None:
        fix = f"On Debian: apt-get install {package}" if package else SETTINGS
        raise ToolError(f"{name} is not on PATH", fix=fix)
    return path


def processes() -> int:
    """How many processes Vivado may start: one a processor, at most 8, each of which takes gigabytes."""
    return max(1, min(8, len(os.sched_getaffinity(0))))
