"""Embedded C on the host with sanitizers, every layer compared."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from toolchain.codegen.embedded.render import render_embedded
from toolchain.codegen.project import write_files
from toolchain.ir import Graph
from toolchain.verification.compare import Agreement
from toolchain.verification.embedded import compare
from toolchain.verification.machines import MACHINES

SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-Wno-error=maybe-uninitialized")
CHECKED = replace(MACHINES["host"], compiler=("gcc", "-O1", *SANITIZERS))
"""The host with a compiler whose programs stop at every access outside an array and every overflow."""


def verify(graph: Graph, inputs: Mapping[str, np.ndarray], folder: Path, ram: int | None = None) -> Agreement:
    """Raises what `verify_embedded` raises, and PassError for a program that C has no integers for."""
    write_files(folder, render_embedded(graph, ram).files)
    return compare(graph, folder, inputs, CHECKED, traced=True)
