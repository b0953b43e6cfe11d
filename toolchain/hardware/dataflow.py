"""Cycle-approximate simulation of the dataflow design for one frame: latency, interval and FIFO depths.

Every process makes its steps in order, one a cycle, and a step waits for the words it reads. With FIFOs that never
fill, step s of a process happens at cycle s + max over its reads r up to s of (arrival of the word + 1 - r's step),
and never before. The largest number of words that lie in a FIFO at once is its depth: with it no process ever waits
for space, so the design runs as simulated and cannot deadlock, whatever the graph looks like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from toolchain.codegen.kernel import pattern_steps
from toolchain.hardware.network import Network

PIPELINE = 8
"""Cycles from a step to its word in the FIFO, an assumption about pipeline depth."""
MINIMUM_DEPTH = 2

Times = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Timing:
    """Cycles of one frame, cycles between frames, FIFO depths, and steps of each process."""

    latency: int
    interval: int
    depths: Mapping[str, int]
    steps: Mapping[str, int]


def simulate(network: Network) -> Timing:
    """Runs one frame through the design."""
    arrivals: dict[str, Times] = {}
    depths: dict[str, int] = {}
    steps: dict[str, int] = {}
    latency = 0
    for process in network.processes:
        schedule = process.kernel.schedule
        read_steps = [pattern_steps(pattern) for pattern in schedule.reads]
        given = [
            arrivals.pop(name, np.zeros(len(r), np.int64)) for name, r in zip(process.inputs, read_steps, strict=True)
        ]
        delay_steps, delays = _delays(read_steps, given)
        for name, arrived, r in zip(process.inputs, given, read_steps, strict=True):
            if name in depths:
                depths[name] = _occupancy(arrived, _times(r, delay_steps, delays))
        write_steps = pattern_steps(schedule.writes)
        written = _times(write_steps, delay_steps, delays) + PIPELINE
        for name in process.outputs:
            arrivals[name] = written
            depths[name] = MINIMUM_DEPTH
        steps[process.name] = schedule.steps
        latency = max(latency, int(written[-1]) if len(written) else 0)
    internal = {name: depths[name] for name in network.streams}
    interval = max(steps.values(), default=0) + PIPELINE
    return Timing(latency + 1, interval, internal, steps)


def _delays(reads: list[Times], arrivals: list[Times]) -> tuple[Times, Times]:
    """From which step on the process is how many cycles late."""
    steps = np.concatenate(reads) if reads else np.zeros(0, np.int64)
    late = np.concatenate([a + 1 - r for a, r in zip(arrivals, reads, strict=True)]) if reads else steps
    order = np.argsort(steps, kind="stable")
    return steps[order], np.maximum.accumulate(np.maximum(late[order], 0)) if len(late) else late


def _times(steps: Times, delay_steps: Times, delays: Times) -> Times:
    """The cycle of each step."""
    if not len(delays):
        return steps.copy()
    index = np.searchsorted(delay_steps, steps, side="right") - 1
    return np.asarray(steps + np.where(index >= 0, delays[np.maximum(index, 0)], 0))


def _occupancy(arrivals: Times, reads: Times) -> int:
    """The most words that are in a FIFO at once, a word counting from its arrival to its read."""
    gone = np.searchsorted(reads, arrivals, side="left")  # words read before each arrival
    most = int((np.arange(1, len(arrivals) + 1) - gone).max(initial=0))
    return max(MINIMUM_DEPTH, most)
