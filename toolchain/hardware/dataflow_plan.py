"""When the processes of a design read and write: their static schedules, and how late they run.

A process makes its steps in order, at most one a cycle, in a pipeline of PIPELINE stages. On its own clock step s is
issued at cycle s and leaves at cycle s + PIPELINE; how many cycles later it really is, its lateness, never falls, for
no step overtakes another. Most of the time it does not change either, so that a lateness is kept as the steps at which
it rises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from toolchain.codegen.kernel import Pattern, pattern_steps, sampled_steps
from toolchain.hardware.network import Network, Process

PIPELINE = 8
"""Cycles from a step to its word in the FIFO, an assumption about pipeline depth."""
KEPT = 1 << 23
"""Designs with no more reads and writes a frame keep their step numbers; others make them again when asked."""

Times = npt.NDArray[np.int64]


class Plan:
    """The step numbers of a process's reads, per input, and of its writes, for one frame."""

    def __init__(self, process: Process, keep: bool = True) -> None:
        self.process = process
        self.steps = process.kernel.schedule.steps
        self._keep = keep
        self._kept: dict[int, Times] = {}

    def reads(self, position: int) -> Times:
        """The steps that read the input at `position`."""
        return self._made(position, self.process.kernel.schedule.reads[position])

    def reads_of(self, stream: str, every: int = 1) -> Times:
        """The steps that read `stream`, or every so manieth of them."""
        position = self.process.inputs.index(stream)
        return self._made(position, self.process.kernel.schedule.reads[position], every)

    @property
    def writes(self) -> Times:
        """The steps that write to every output."""
        return self._made(-1, self.process.kernel.schedule.writes)

    def writes_of(self, every: int) -> Times:
        """Every so manieth of the steps that write."""
        return self._made(-1, self.process.kernel.schedule.writes, every)

    def _made(self, key: int, pattern: Pattern, every: int = 1) -> Times:
        if key in self._kept:
            return self._kept[key][::every]
        if every > 1:
            return sampled_steps(pattern, every)
        steps = pattern_steps(pattern)
        if self._keep:
            self._kept[key] = steps
        return steps


def make_plans(network: Network) -> list[Plan]:
    """A plan of each process, in the network's order."""
    keep = events(network) <= KEPT
    return [Plan(process, keep) for process in network.processes]


def events(network: Network) -> int:
    """Reads and writes of a frame."""
    total = 0
    for process in network.processes:
        schedule = process.kernel.schedule
        for pattern in (*schedule.reads, schedule.writes):
            total += sum(int(np.prod([count for count, _ in loops.dims], dtype=np.int64)) for loops in pattern)
    return total


@dataclass(frozen=True)
class Lateness:
    """`values[j]` from step `steps[j]` on; `steps` begins with 0, and both rise."""

    steps: Times
    values: Times

    def at(self, steps: Times) -> Times:
        """The lateness of each of these steps, which rise."""
        before = np.searchsorted(steps, self.steps[1:], side="left")
        return np.repeat(self.values, np.diff(before, prepend=0, append=len(steps)))

    def since(self, step: int) -> Lateness:
        """The same from a step on, which it then begins with."""
        first = int(np.searchsorted(self.steps, step, side="right"))
        return Lateness(
            np.concatenate([[step], self.steps[first:]]),
            np.concatenate([self.values[first - 1 : first], self.values[first:]]),
        )


def rising(steps: Times, values: Times) -> Lateness:
    """From values that never fall, given at rising steps; the first value also holds before its step."""
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    kept = np.concatenate([[0], changes])
    found = steps[kept]
    found[0] = 0
    return Lateness(found, values[kept])


def merged(steps: Sequence[Times], values: Sequence[Times]) -> tuple[Times, Times]:
    """Several sequences as one, in the order of their steps."""
    if len(steps) == 1:
        return steps[0], values[0]
    joined = np.concatenate(steps)
    order = np.argsort(joined, kind="stable")
    return joined[order], np.concatenate(values)[order]


def as_soon_as_possible(plan: Plan, arrivals: Sequence[Times | None], slack: int) -> Lateness:
    """The least lateness when word k of an input arrives at its `arrivals[k]`, and None is always there.

    From the first step to the last it grows by `slack` at most: a process that would wait longer begins later.
    """
    known = [(plan.reads(position), given) for position, given in enumerate(arrivals) if given is not None]
    known = [(reads, given) for reads, given in known if len(reads)]
    if not known:
        return Lateness(np.zeros(1, np.int64), np.zeros(1, np.int64))
    steps, late = merged([reads for reads, _ in known], [given + 1 - reads for reads, given in known])
    late = np.maximum.accumulate(np.maximum(late, 0))
    begin = max(int(late[-1]) - slack, 0)
    return rising(np.concatenate([[0], steps]), np.maximum(np.concatenate([[0], late]), begin))


def as_late_as_possible(plan: Plan, due: Times, soonest: Lateness, slack: int) -> Lateness:
    """The greatest lateness when word k has to be written at its `due[k]`, with the same bound on its growth.

    Steps behind the last write are due at no time; there it is the `soonest` one, or what it was before.
    """
    writes = plan.writes
    if not len(writes):
        return soonest
    latest = np.minimum.accumulate((due - PIPELINE - writes)[::-1])[::-1]
    latest = np.minimum(latest, latest[0] + slack)
    steps = np.concatenate([[0], writes[:-1] + 1])
    end = int(writes[-1]) + 1
    if end < plan.steps:
        tail = soonest.since(end)
        steps = np.concatenate([steps, tail.steps])
        latest = np.concatenate([latest, np.maximum(tail.values, latest[-1])])
    return rising(steps, latest)
