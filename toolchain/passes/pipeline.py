"""Every pass, in order. Real passes keep the real function, exact passes keep every integer."""

from __future__ import annotations

from collections.abc import Callable

from toolchain.ir import Graph
from toolchain.passes.absorb_limits import absorb_limits
from toolchain.passes.fold_affine import fold_affine
from toolchain.passes.fuse_requantize import fuse_requantize
from toolchain.passes.permute_gemm import permute_gemm
from toolchain.passes.quantize_early import quantize_early
from toolchain.passes.sink_transposes import sink_transposes
from toolchain.passes.tabulate import tabulate

Pass = Callable[[Graph], Graph]

REAL_PASSES: tuple[Pass, ...] = (
    sink_transposes,
    fold_affine,
    permute_gemm,
    fold_affine,
    quantize_early,
    absorb_limits,
    tabulate,
)
"""On the real graph. The second folding reaches what a reshape hid from the first."""

EXACT_PASSES: tuple[Pass, ...] = (fuse_requantize,)
"""On the integer program: evaluate(before) == evaluate(after), tested on random graphs."""


def run(graph: Graph, passes: tuple[Pass, ...]) -> Graph:
    """Applies passes one after the other."""
    for apply in passes:
        graph = apply(graph)
    return graph
