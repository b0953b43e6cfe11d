"""A step-by-step simulation of a dataflow design with bounded FIFOs: slow, simple, independent of the compiler's."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from toolchain.codegen.kernel import pattern_steps
from toolchain.hardware.network import Network


class Deadlock(Exception):
    """No process can move, and the frame is not done."""


@dataclass
class Run:
    """Cycles until each frame was done, cycles spent in front of a full FIFO, most words in each."""

    finished: list[int] = field(default_factory=list)
    blocked: int = 0
    most: dict[str, int] = field(default_factory=dict)


class Machine:
    """One process: issues at most one step a cycle; a step leaves `delay` cycles later or more, and writes then.

    No more than `delay` steps are on their way. Without any delay a step is issued and writes at once, or not at all.
    """

    def __init__(self, process, frames: int, delay: int) -> None:
        schedule = process.kernel.schedule
        self.process, self.delay, self.frames = process, delay, frames
        self.steps = schedule.steps
        reads = [np.bincount(pattern_steps(r), minlength=self.steps) for r in schedule.reads]
        self.reads = list(zip(process.inputs, reads, strict=True))
        self.writes = np.bincount(pattern_steps(schedule.writes), minlength=self.steps)
        assert all(len(r) == self.steps and r.max(initial=0) <= 1 for r in reads)
        assert self.writes.max(initial=0) <= 1
        self.at, self.frame, self.left = 0, 0, 0
        self.flight: deque[tuple[int, bool]] = deque()  # from which cycle on a step may leave, and whether it writes

    @property
    def done(self) -> bool:
        return self.left == self.frames * self.steps


def run(
    network: Network,
    depths: Mapping[str, int],
    frames: int = 1,
    delays: Mapping[str, int] | None = None,
    flushing: bool = True,
    pause=lambda: False,
) -> Run:
    """Runs frames through the design. Raises Deadlock when nothing moves any more.

    `flushing` pipelines go on writing while they wait for input; others freeze. `pause()` lets a process idle a cycle.
    """
    words = dict.fromkeys(network.streams, 0)
    machines = [Machine(p, frames, (delays or {}).get(p.name, 8)) for p in network.processes]
    result = Run(most=dict.fromkeys(network.streams, 0))
    cycle, idle = 0, 0
    while not all(machine.done for machine in machines):
        before = dict(words)
        moved = False
        for machine in machines:
            if machine.done or pause():
                moved = moved or not machine.done
                continue
            moved = _cycle(machine, cycle, words, before, depths, result, flushing) or moved
        cycle += 1
        idle = 0 if moved else idle + 1
        if idle > 2 + max(machine.delay for machine in machines):
            raise Deadlock(f"at cycle {cycle}: " + ", ".join(f"{k} {v}" for k, v in words.items() if v))
        while len(result.finished) < frames and all(m.left >= (len(result.finished) + 1) * m.steps for m in machines):
            result.finished.append(cycle)
    return result


def _cycle(machine: Machine, cycle: int, words, before, depths, result: Run, flushing: bool) -> bool:
    """What a process does in one cycle; whether it did anything. `before` are the words at its beginning."""
    outputs = [name for name in machine.process.outputs if name in words]
    full = any(before[name] >= depths.get(name, 1 << 60) for name in outputs)
    running = machine.frame < machine.frames
    # The next frame starts the cycle after the last step of this one has left the pipeline.
    ready = running and not (machine.at == 0 and machine.flight)
    wanted = [name for name, reads in machine.reads if running and reads[machine.at] and name in words]
    empty = any(before[name] == 0 for name in wanted)
    moved = False
    if not machine.delay:
        if ready and machine.writes[machine.at] and full:
            result.blocked += 1
        elif ready and not empty:
            moved = True
            _issue(machine, cycle, words, wanted)
            _leave(machine, words, before, outputs, result)
        return moved
    if empty and not flushing:  # the whole pipeline waits
        machine.flight = deque((due + 1, writes) for due, writes in machine.flight)
        return False
    if machine.flight and machine.flight[0][0] <= cycle:
        if machine.flight[0][1] and full:
            result.blocked += 1
        else:
            moved = True
            _leave(machine, words, before, outputs, result)
    if ready and not empty and len(machine.flight) < machine.delay:
        moved = True
        _issue(machine, cycle, words, wanted)
    return moved


def _issue(machine: Machine, cycle: int, words, wanted) -> None:
    for name in wanted:
        words[name] -= 1
    machine.flight.append((cycle + machine.delay, bool(machine.writes[machine.at])))
    machine.at += 1
    if machine.at == machine.steps:
        machine.at, machine.frame = 0, machine.frame + 1


def _leave(machine: Machine, words, before, outputs, result: Run) -> None:
    _, writes = machine.flight.popleft()
    machine.left += 1
    for name in outputs if writes else ():
        words[name] += 1
        result.most[name] = max(result.most[name], before[name] + 1)
