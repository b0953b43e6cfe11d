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
    """One process: a pipelined loop that issues at most one step a cycle and writes `delay` cycles later."""

    def __init__(self, process, frames: int, delay: int) -> None:
        schedule = process.kernel.schedule
        self.process, self.delay, self.frames = process, delay, frames
        self.steps = schedule.steps
        reads = [np.bincount(pattern_steps(r), minlength=self.steps) for r in schedule.reads]
        self.reads = list(zip(process.inputs, reads, strict=True))
        self.writes = np.bincount(pattern_steps(schedule.writes), minlength=self.steps)
        assert all(len(r) == self.steps and r.max(initial=0) <= 1 for r in reads)
        self.at, self.frame = 0, 0
        self.flight: deque[int] = deque()  # cycles at which words are due

    @property
    def done(self) -> bool:
        return self.frame == self.frames and not self.flight


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
                machine.flight = deque(due + 1 for due in machine.flight)
                continue
            outputs = [name for name in machine.process.outputs if name in words]
            due = bool(machine.flight) and machine.flight[0] <= cycle
            full = due and any(before[name] >= depths.get(name, 1 << 60) for name in outputs)
            # The next frame starts when the last word of this one has left the pipeline.
            ready = machine.frame < frames and not (machine.at == 0 and machine.frame and len(machine.flight) > due)
            wanted = [name for name, reads in machine.reads if ready and reads[machine.at] and name in words]
            empty = any(before[name] == 0 for name in wanted)
            if full or (empty and not flushing):
                result.blocked += full
                machine.flight = deque(due + 1 for due in machine.flight)
                continue
            if due:
                machine.flight.popleft()
                for name in outputs:
                    words[name] += 1
                    result.most[name] = max(result.most[name], before[name] + 1)
                moved = True
            moved = moved or bool(machine.flight)
            if ready and not empty:
                for name in wanted:
                    words[name] -= 1
                if machine.writes[machine.at]:
                    machine.flight.append(cycle + machine.delay)
                machine.at += 1
                if machine.at == machine.steps:
                    machine.at, machine.frame = 0, machine.frame + 1
                moved = True
        cycle += 1
        idle = 0 if moved else idle + 1
        if idle > 2:
            raise Deadlock(f"at cycle {cycle}: " + ", ".join(f"{k} {v}" for k, v in words.items() if v))
        while len(result.finished) < frames and all(
            m.frame > len(result.finished) and (m.frame > len(result.finished) + 1 or not m.flight) for m in machines
        ):
            result.finished.append(cycle)
    return result
