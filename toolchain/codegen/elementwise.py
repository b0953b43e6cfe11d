"""The kernel description that operators working element by element share."""

from __future__ import annotations

from collections.abc import Mapping

from toolchain.codegen.kernel import Cost, Folding, Kernel, KernelArray, Port, Schedule
from toolchain.ir import TensorType


def elementwise(
    function: str,
    inputs: tuple[TensorType, ...],
    output: TensorType,
    folding: Folding,
    config: Mapping[str, int | str],
    arrays: Mapping[str, KernelArray] | None = None,
    cost: Cost = Cost(),
) -> Kernel:
    """A kernel `ops/<function>.h` that reads one word of every input and writes one word a step."""
    lanes = folding.lanes
    words = output.size // lanes
    names = ("input_t",) if len(inputs) == 1 else ("a_t", "b_t")
    types: dict[str, int | str] = dict(zip(names, (t.cpp for t in inputs), strict=True))
    return Kernel(
        function,
        f"ops/{function}.h",
        {"COUNT": words, "LANES": lanes, **config, **types, "output_t": output.cpp},
        tuple(Port(t, lanes) for t in inputs),
        Port(output, lanes),
        Schedule.streaming(words, len(inputs)),
        arrays or {},
        cost,
    )
