"""Latency, interval and FIFO depths of a dataflow design, from a simulation of it beat by beat.

The interval is that of the slowest process: its steps, and what its pipeline takes to drain before the next frame.
The FIFOs are made deep enough for that (`dataflow_depths`), and so that nothing can deadlock (`dataflow_tokens`). The
latency is that of the first frame, with these depths, to the cycle (`dataflow_bounded`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from toolchain.hardware.dataflow_bounded import finished
from toolchain.hardware.dataflow_depths import ROUNDS, SMOOTHING, Chooser
from toolchain.hardware.dataflow_plan import KEPT, PIPELINE, events, make_plans
from toolchain.hardware.dataflow_tokens import MINIMUM_DEPTH, required_depths
from toolchain.hardware.network import Network

__all__ = ["MINIMUM_DEPTH", "PIPELINE", "SMOOTHING", "Timing", "simulate"]

WORK = 1 << 25
"""Reads and writes to simulate before the latency is taken from the schedule that the depths were chosen for."""


@dataclass(frozen=True)
class Timing:
    """Cycles of the first frame, cycles between frames, FIFO depths, and steps of each process.

    A frame is done when the last process is done with it. `required` holds, for the streams that meet others in one
    process, the depth below which the design can deadlock. With the `depths` the design takes a frame every `interval`
    cycles, once FIFOs have filled. Its latency is the one given where that is `exact`, else no more than that.
    """

    latency: int
    interval: int
    depths: Mapping[str, int]
    steps: Mapping[str, int]
    required: Mapping[str, int]
    exact: bool = True


def simulate(network: Network) -> Timing:
    """Chooses the FIFO depths, and runs the design with them."""
    plans = make_plans(network)
    steps = {plan.process.name: plan.steps for plan in plans}
    interval = max(steps.values(), default=0) + PIPELINE
    required = required_depths(network, plans)
    small = events(network) <= KEPT
    chooser = Chooser(network, plans, interval, required)
    chooser.improve(ROUNDS if small else 1)
    depths = chooser.depths()
    latency = finished(network, depths, budget=WORK) if small else None
    if latency is None:
        return Timing(chooser.latency(), interval, depths, steps, required, exact=False)
    return Timing(latency[0], interval, depths, steps, required)
