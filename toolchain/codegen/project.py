"""A generated project is data: file names and contents. Writing it is a job of its own."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

Files = dict[str, str | bytes]


def prefixed(folder: str, files: Mapping[str, str | bytes]) -> Files:
    """The same files inside a folder."""
    return {f"{folder}/{path}": content for path, content in files.items()}


def write_files(root: Path, files: Mapping[str, str | bytes]) -> None:
    """Writes every file below `root`, making folders as needed."""
    for path, content in sorted(files.items()):
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            target.write_text(content, newline="\n")
        else:
            target.write_bytes(content)


def remove_tree(path: Path) -> None:
    """Removes a folder, whatever is left of it."""
    shutil.rmtree(path, ignore_errors=True)
