"""Embedded C on the host with sanitizers, every layer compared."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from toolchain.codegen.embedded.render import render_embedded
from toolchain.codegen.project import write_files
from toolchain.ir import Graph
from toolchain.verification.compare import Agreement
from toolchain.verification.embedded import compare
from toolchain.verification.machines import MACHINES, Machine

STOP = "-fno-sanitize-recover=all"
# Unsigned left shifts drop bits on purpose: they are the left shifts of two's complement numbers.
CLANG = ("clang", "-O1", "-fsanitize=address,undefined,integer", "-fno-sanitize=unsigned-shift-base", STOP)
GCC = ("gcc", "-O1", "-fsanitize=address,undefined", STOP, "-Wno-error=maybe-uninitialized")
CHECKED = replace(MACHINES["host"], compiler=GCC)
"""The host with a compiler whose programs stop at every access outside an array and every overflow."""
STRICTEST = replace(MACHINES["host"], compiler=CLANG) if shutil.which("clang") else CHECKED
"""Clang's also stop at unsigned overflows and where a conversion loses bits; it compiles slowly."""


def verify(
    graph: Graph, inputs: Mapping[str, np.ndarray], folder: Path, ram: int | None = None, machine: Machine = CHECKED
) -> Agreement:
    """Raises what `verify_embedded` raises, and PassError for a program that C has no integers for."""
    write_files(folder, render_embedded(graph, ram).files)
    return compare(graph, folder, inputs, machine, traced=True)
