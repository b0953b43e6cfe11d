"""Runs `toolchain build` on a bench of stand-ins for the vendor's tools."""

import io
from pathlib import Path

from rich.console import Console

from tests.deployment import fakes
from tests.deployment.fakes import calls, install
from toolchain.deployment.build import build_project

OLD, NEW = "2022.1", "2024.2"


def build(path: Path, stage: str) -> str:
    """Runs the command and returns what it prints."""
    said = io.StringIO()
    build_project(path, stage, Console(file=said, width=200, markup=False, highlight=False))
    return said.getvalue()


def stages(folder: Path) -> list[str]:
    return [call["STAGE"] or call["MOVER"] or call["name"] for call in calls(folder)]


def equip(folder: Path, *names: str, version: str = OLD) -> None:
    for name in names:
        install(folder, name, version)


def patch(tool: Path, report: str, old: str, new: str) -> None:
    """Lets a stand-in leave another report."""
    assert old in getattr(fakes, report)
    change = f"import tests.deployment.fakes as f\nf.{report} = f.{report}.replace({old!r}, {new!r})\nmain("
    tool.write_text(tool.read_text().replace("main(", change, 1))
