"""A design with bounded FIFOs, run to the cycle: fill, drain and back-pressure, over any number of frames.

The rules, for a pipeline that flushes (`frp`: the tool adds FIFOs at its outputs, so that stages never stall; AMD
UG1448 [HLS 200-1550]), with I(s) and E(s) the cycles at which step s is issued and leaves, D = PIPELINE:

    I(s) >= I(s - 1) + 1                             one step a cycle
    I(s) >= E(of the word it reads) + 1              for each word it reads
    I(s) >= E(s - D)                                 no more than D steps are on their way
    E(s) >= I(s) + D,  E(s) >= E(s - 1) + 1
    E(s) >= I(of the word `depth` earlier) + 1       room in each FIFO it writes to
    I(first step) >= E(last step of the frame before) + 1

Everything happens as soon as that allows: the least solution, which is unique, and no later with any deeper FIFO
(a timed event graph; Baccelli, Cohen, Olsder, Quadrat, "Synchronization and Linearity", 1992). On one axis of steps,
with D empty ones behind each frame, the process's own rules collapse. With a(s) and r(s) what its words and its room
ask for, less its own clock,

    E(s) - s - D = max over t <= s of max(a(t), r(t)),    I(s) - s = max(max a(t <= s), max r(t <= s - D)).

So a process is two running maxima. They are repeated for whatever process has a neighbour that changed, from inputs to
outputs and back, until nothing changes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from toolchain.errors import PassError
from toolchain.hardware.dataflow_plan import PIPELINE, Plan, Times, make_plans, merged
from toolchain.hardware.network import Network

PATIENCE = 64
"""Rounds after which it is counted whether the design can finish at all."""
NEVER = -(1 << 60)


class Deadlock(PassError):
    """With these FIFO depths no process can move, and the frame is not done."""


def finished(
    network: Network,
    depths: Mapping[str, int],
    frames: int = 1,
    delays: Mapping[str, int] | None = None,
    budget: int | None = None,
) -> list[int] | None:
    """Cycles until each of `frames` frames has left every process, or None when that takes more than a `budget`.

    A stream that `depths` does not name never fills. `delays` are pipeline depths by process, else PIPELINE. Inputs
    are always there, outputs always taken. The `budget` is in words read and written, some 10^7 of them a second.

    Raises:
        Deadlock: with the depths given it never ends. Not with a `budget`, which that exceeds.
    """
    machines = _machines(network, depths, frames, delays)
    state = _State(machines)
    rounds = 0
    while state.waiting:
        order = range(len(machines)) if rounds % 2 == 0 else reversed(range(len(machines)))
        for position in order:
            if position in state.waiting:
                state.update(position)
        rounds += 1
        if rounds == PATIENCE and budget is None:
            _count(machines)
        if budget is not None and state.work > budget:
            return None
    return [max((int(machine.ends[frame]) for machine in machines), default=0) for frame in range(frames)]


def check_progress(
    network: Network, depths: Mapping[str, int], frames: int = 1, delays: Mapping[str, int] | None = None
) -> None:
    """Counts words and steps only, whatever the timing: with these depths, can so many frames be finished?

    Raises:
        Deadlock: no.
    """
    _count(_machines(network, depths, frames, delays))


def _machines(
    network: Network, depths: Mapping[str, int], frames: int, delays: Mapping[str, int] | None
) -> list[_Machine]:
    chosen = delays or {}
    return [
        _Machine(plan, network, depths, frames, chosen.get(plan.process.name, PIPELINE)) for plan in make_plans(network)
    ]


class _Machine:
    """A process over all frames: the steps of its events on one axis, and which maxima each of them asks for."""

    def __init__(self, plan: Plan, network: Network, depths: Mapping[str, int], frames: int, delay: int) -> None:
        inside = [(k, name) for k, name in enumerate(plan.process.inputs) if name in network.streams]
        starts = np.arange(frames, dtype=np.int64)[:, None] * (plan.steps + delay)

        def tiled(steps: Times) -> Times:
            return np.asarray((starts + steps).ravel())

        self.delay = delay
        self.inputs = [name for _, name in inside]
        self.outputs = [(name, depths.get(name)) for name in plan.process.outputs if name in network.streams]
        self.reads = [tiled(plan.reads(k)) for k, _ in inside]
        self.writes = tiled(plan.writes)
        self.last = starts[:, 0] + plan.steps - 1
        self.end = frames * (plan.steps + delay)
        self.ends = self.last
        every = np.sort(np.concatenate(self.reads)) if self.reads else np.zeros(0, np.int64)
        # Positions in the running maxima, which begin with that of no event.
        self.words_at_write = _until(every, self.writes)
        self.words_at_read = [_until(every, steps) for steps in self.reads]
        self.room_at_read = [_until(self.writes, steps - delay) for steps in self.reads]
        self.words_at_last, self.room_at_last = _until(every, self.last), _until(self.writes, self.last)
        self.events = len(every) + len(self.writes)


def _until(events: Times, steps: Times) -> npt.NDArray[np.int32]:
    """How many events there are up to each of these steps."""
    return np.searchsorted(events, steps, side="right").astype(np.int32)


def _running(values: Times) -> Times:
    """Running maxima, from 0 before the first value."""
    return np.maximum.accumulate(np.concatenate([np.zeros(1, np.int64), values]))


class _State:
    """When each word of each stream is written and read, so far; and the processes that have to look again."""

    def __init__(self, machines: list[_Machine]) -> None:
        self.machines = machines
        self.written = {name: one.writes + one.delay for one in machines for name, _ in one.outputs}
        self.read = {name: steps for one in machines for name, steps in zip(one.inputs, one.reads, strict=True)}
        self.writer = {name: k for k, one in enumerate(machines) for name, _ in one.outputs}
        self.reader = {name: k for k, one in enumerate(machines) for name in one.inputs}
        self.bounded = {name for one in machines for name, depth in one.outputs if depth is not None}
        self.waiting = set(range(len(machines)))
        self.work = 0

    def update(self, position: int) -> None:
        """Applies the rules to one process, and notes whom that concerns."""
        one = self.machines[position]
        self.waiting.discard(position)
        self.work += one.events
        words, room = _running(self._words(one)), _running(self._room(one))
        one.ends = one.last + one.delay + 1 + np.maximum(words[one.words_at_last], room[one.room_at_last])
        written = one.writes + one.delay + np.maximum(words[one.words_at_write], room[1:])
        for name, _ in one.outputs:
            if not np.array_equal(self.written[name], written):
                self.written[name] = written
                self.waiting.add(self.reader[name])
        for k, name in enumerate(one.inputs):
            read = one.reads[k] + np.maximum(words[one.words_at_read[k]], room[one.room_at_read[k]])
            if not np.array_equal(self.read[name], read):
                self.read[name] = read
                if name in self.bounded:
                    self.waiting.add(self.writer[name])

    def _words(self, one: _Machine) -> Times:
        """The lateness that arriving words ask for, in the order of the steps that read them."""
        if not one.inputs:
            return np.zeros(0, np.int64)
        late = [self.written[name] + 1 - steps for name, steps in zip(one.inputs, one.reads, strict=True)]
        return merged(one.reads, late)[1]

    def _room(self, one: _Machine) -> Times:
        """The lateness that room in the FIFOs asks for, a value a write."""
        late = np.full(len(one.writes), NEVER)
        for name, depth in one.outputs:
            if depth is not None and depth < len(late):
                asked = self.read[name][: len(late) - depth] + 1 - one.writes[depth:] - one.delay
                late[depth:] = np.maximum(late[depth:], asked)
        return late


def _count(machines: list[_Machine]) -> None:
    """Lets processes go on in any order, without clock, as far as they can.

    Raises:
        Deadlock: that is not to the end.
    """
    written: dict[str, int] = dict.fromkeys((name for one in machines for name, _ in one.outputs), 0)
    taken = dict.fromkeys(written, 0)
    left = [0] * len(machines)
    reads = [[steps.tolist() for steps in one.reads] for one in machines]
    writes = [one.writes.tolist() for one in machines]
    waiting = True
    while waiting:
        waiting = False
        for k, one in enumerate(machines):
            limits = [(writes[k], taken[name] + depth) for name, depth in one.outputs if depth is not None]
            room = min((_first(*limit, one.end) for limit in limits), default=one.end)
            begin = min(one.end, left[k] + one.delay if one.delay else room)
            for steps, name in zip(reads[k], one.inputs, strict=True):
                begin = min(begin, _first(steps, written[name], one.end))
            now = {name: bisect_left(steps, begin) for steps, name in zip(reads[k], one.inputs, strict=True)}
            waiting = waiting or min(begin, room) > left[k] or any(taken[name] < count for name, count in now.items())
            left[k] = min(begin, room)
            taken |= now
            written |= dict.fromkeys((name for name, _ in one.outputs), bisect_left(writes[k], left[k]))
    if any(done < one.end for done, one in zip(left, machines, strict=True)):
        full = [f"{name} with {written[name] - taken[name]} words" for name in written if written[name] > taken[name]]
        raise Deadlock(f"no process can move: {', '.join(full)}")


def _first(events: list[int], number: int, end: int) -> int:
    """The step of event `number`, or the end when there are fewer."""
    return events[number] if number < len(events) else end
