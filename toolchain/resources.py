"""Where the package's data files lie: beside the package in a wheel, beside its folder in a source tree."""

from __future__ import annotations

from pathlib import Path

from toolchain.errors import ToolError

PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """`hls_templates` or `boards`. Raises ToolError when the installation lacks it."""
    for place in (PACKAGE / name, PACKAGE.parent / name):
        if place.is_dir():
            return place
    raise ToolError(f"the installation lacks the folder {name}", fix="Install dct-toolchain again.")
