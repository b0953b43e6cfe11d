"""What the embedded C takes once a compiler has seen it: bytes of code by file, and a bound of its stack."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolchain.errors import ToolError
from toolchain.verification.embedded import build, check_tools, read_manifest
from toolchain.verification.machines import Machine

CALL_GRAPH = ("-fcallgraph-info=su",)
"""GCC's option for the frames of all functions and who calls whom."""
LIBRARY = 64
"""Bytes of stack that a function of the compiler's or the C library is taken to need: memcpy, memset, divisions."""
NODE = re.compile(r'node: \{ title: "([^"]+)" label: "[^"]*?(?:\\n(\d+) bytes \((\w+)[^"]*)?"')
EDGE = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"')


@dataclass(frozen=True)
class Footprint:
    """`code`: bytes of machine code by file. `stack`: what `init` and `invoke` and all they call take of it at most."""

    code: Mapping[str, int]
    stack: int


@dataclass
class _Calls:
    """Frames by function, and whom each calls."""

    frames: dict[str, int] = field(default_factory=dict)
    called: dict[str, set[str]] = field(default_factory=dict)

    def read(self, text: str) -> None:
        """Adds a file of `-fcallgraph-info=su`. Raises ToolError for a frame whose size is not known."""
        for title, size, kind in NODE.findall(text):
            if size and kind != "static":
                raise ToolError(f"the stack has no bound: {title} has a frame that is {kind}")
            if size:
                self.frames[title] = int(size)
        for caller, callee in EDGE.findall(text):
            self.called.setdefault(caller, set()).add(callee)

    def depth(self, function: str, above: tuple[str, ...] = ()) -> int:
        """Bytes of the deepest path from a function on. Raises ToolError for recursion and calls through pointers."""
        if function in above or function == "__indirect_call":
            raise ToolError(f"the stack has no bound: {(*above, function)[-2]} calls {function}")
        if function not in self.frames:
            return LIBRARY
        below = (self.depth(callee, (*above, function)) for callee in self.called.get(function, ()))
        return self.frames[function] + max(below, default=0)


def footprint(folder: Path, graph: Any, machine: Machine) -> Footprint:
    """Compiles the C of a folder for a machine and looks at what came out.

    Raises ToolError when a tool is missing, the compiler is no GCC 10 or later, or the stack has no bound.
    """
    manifest = read_manifest(folder, graph)
    check_tools(machine)
    lister = re.sub("gcc$|cc$", "nm", machine.compiler[0])
    if shutil.which(lister) is None:
        raise ToolError(f"{lister} is not installed", fix="On Debian: apt-get install binutils")
    calls, code = _Calls(), {}
    with tempfile.TemporaryDirectory(prefix="toolchain-") as temporary:
        place = Path(temporary) / "built"
        build(folder, place, machine, manifest, flags=CALL_GRAPH)
        for graph_file in sorted(place.glob("*.ci")):
            if graph_file.stem not in ("runner", "example"):
                calls.read(graph_file.read_text())
                code[graph_file.stem] = _text_bytes(lister, graph_file.with_suffix(".o"))
    name = str(manifest["name"])
    if f"{name}_invoke" not in calls.frames:
        raise ToolError(f"{machine.compiler[0]} gives no frames of functions", fix="Use GCC 10 or later.")
    return Footprint(code, max(calls.depth(f"{name}_{entry}") for entry in ("init", "invoke")))


def _text_bytes(lister: str, path: Path) -> int:
    """Bytes of the functions of an object file."""
    done = subprocess.run([lister, "-S", str(path)], capture_output=True, text=True, check=True)
    rows = (line.split() for line in done.stdout.splitlines())
    return sum(int(row[1], 16) for row in rows if len(row) == 4 and row[2] in "tTwW")
