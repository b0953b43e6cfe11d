"""Cycle-approximate simulation of the dataflow design for one frame: latency, interval and FIFO depths.

Timing. Every process makes its steps in order, one a cycle, and a step waits for the words it reads. With FIFOs that
never fill, step s happens at cycle s + max over the reads r up to s of (arrival of the word + 1 - r's step). The most
words that lie in a FIFO at once is its occupancy.

Depths. A FIFO whose reader has no other input gets its occupancy, at most SMOOTHING words: if it fills, its writer
waits, which costs cycles and nothing else. Where a process reads several streams (an addition behind a skip
connection), one of them may have to hold all that a common ancestor had to emit before the other stream's first word
could exist. Counting words on the static schedules gives that number exactly and without timing: with W(k) the steps
of the ancestor that word k of stream B needs, stream A holds at most max over k of |words of A that need no more than
W(k)| - k words when B's word k is awaited. A FIFO of that depth can never be what the ancestor waits for while B is
empty, so the design cannot deadlock. These FIFOs get the larger of that number and their occupancy. Streams from
different inputs of the design have no common ancestor, and the host may serve one input before the other: where they
meet, each FIFO holds a whole frame, so that nothing in front of it ever waits for space.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from toolchain.codegen.kernel import pattern_steps
from toolchain.hardware.network import Network, Process

PIPELINE = 8
"""Cycles from a step to its word in the FIFO, an assumption about pipeline depth."""
MINIMUM_DEPTH = 2
SMOOTHING = 32
"""A FIFO of this depth is a shift register of one LUT a bit."""

Times = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Timing:
    """Cycles of one frame, cycles between frames, FIFO depths, and steps of each process.

    `required` holds, for the streams that meet others in one process, the depth below which the design can deadlock.
    """

    latency: int
    interval: int
    depths: Mapping[str, int]
    steps: Mapping[str, int]
    required: Mapping[str, int]


@dataclass(frozen=True)
class _Plan:
    """The step numbers of a process's reads, per input, and of its writes."""

    process: Process
    reads: tuple[Times, ...]
    writes: Times


def simulate(network: Network) -> Timing:
    """Runs one frame through the design and chooses the FIFO depths."""
    plans = [_plan(process) for process in network.processes]
    latency, occupancy = _run(network, plans)
    required = _required_depths(network, plans)
    depths = {
        name: max(MINIMUM_DEPTH, required[name], words)
        if name in required
        else max(MINIMUM_DEPTH, min(words, SMOOTHING))
        for name, words in occupancy.items()
    }
    steps = {plan.process.name: plan.process.kernel.schedule.steps for plan in plans}
    return Timing(latency, max(steps.values(), default=0) + PIPELINE, depths, steps, required)


def _plan(process: Process) -> _Plan:
    schedule = process.kernel.schedule
    return _Plan(process, tuple(pattern_steps(reads) for reads in schedule.reads), pattern_steps(schedule.writes))


def _run(network: Network, plans: list[_Plan]) -> tuple[int, dict[str, int]]:
    """Latency, and the occupancy of each stream, when no FIFO ever fills."""
    arrivals: dict[str, Times] = {}
    occupancy: dict[str, int] = {}
    latency = 0
    for plan in plans:
        names = plan.process.inputs
        given = [arrivals.pop(name, np.zeros(len(r), np.int64)) for name, r in zip(names, plan.reads, strict=True)]
        delay_steps, delays = _delays(plan.reads, given)
        for name, arrived, r in zip(names, given, plan.reads, strict=True):
            if name in network.streams:
                occupancy[name] = _occupancy(arrived, _times(r, delay_steps, delays))
        written = _times(plan.writes, delay_steps, delays) + PIPELINE
        arrivals.update(dict.fromkeys(plan.process.outputs, written))
        latency = max(latency, int(written.max(initial=0)) + 1)
    return latency, occupancy


def _delays(reads: tuple[Times, ...], arrivals: list[Times]) -> tuple[Times, Times]:
    """From which step on the process is how many cycles late."""
    steps = np.concatenate(reads)
    late = np.concatenate([a + 1 - r for a, r in zip(arrivals, reads, strict=True)])
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
    return int((np.arange(1, len(arrivals) + 1) - gone).max(initial=0))


def _required_depths(network: Network, plans: list[_Plan]) -> dict[str, int]:
    """The words that each stream into a process of several inputs must be able to hold."""
    required = {name: MINIMUM_DEPTH for plan in plans if len(plan.process.inputs) > 1 for name in plan.process.inputs}
    sources: dict[str, frozenset[str]] = {}
    for plan in plans:
        names = plan.process.inputs
        met = frozenset[str]().union(*(sources.get(name, frozenset([name])) for name in names))
        sources.update(dict.fromkeys(plan.process.outputs, met))
        if len(names) > 1 and len(met) > 1:
            required.update({name: network.streams[name].port.words for name in names})
    for position, plan in enumerate(plans):
        if len(plan.process.outputs) > 1:
            _count_from(plans, position, required)
    return required


def _count_from(plans: list[_Plan], start: int, required: dict[str, int]) -> None:
    """Raises the required depths by what the process at `start`, which feeds several streams, asks for.

    `needs` holds, for the streams in use, the step of that process that each word needs. Once a single stream is left,
    nothing behind it can meet another one.
    """
    ancestor = plans[start]
    needs: dict[str, Times] = dict.fromkeys(ancestor.process.outputs, ancestor.writes)
    for plan in plans[start + 1 :]:
        names = plan.process.inputs
        if len(needs) < 2 and not any(name in needs for name in names):
            return
        given = [needs.pop(name, None) for name in names]
        found = [(name, need) for name, need in zip(names, given, strict=True) if need is not None]
        if not found:
            continue
        for name, need in found:
            for other, other_need in found:
                if other != name:
                    required[name] = max(required[name], _surplus(plan, name, need, other, other_need))
        if not needs:
            return
        needs.update(dict.fromkeys(plan.process.outputs, _needed_by_writes(plan, given)))


def _surplus(plan: _Plan, name: str, need: Times, other: str, other_need: Times) -> int:
    """The most words of `name` that exist while a word of `other` is awaited, less those already read."""
    reads = plan.reads[plan.process.inputs.index(name)]
    other_reads = plan.reads[plan.process.inputs.index(other)]
    existing = np.searchsorted(np.maximum.accumulate(need), np.maximum.accumulate(other_need), side="right")
    taken = np.searchsorted(reads, other_reads, side="left")
    return int((existing - taken).max(initial=0)) + 1


def _needed_by_writes(plan: _Plan, given: list[Times | None]) -> Times:
    """For each word written, the ancestor's step that has to happen first."""
    result = np.full(len(plan.writes), -1, dtype=np.int64)
    for reads, need in zip(plan.reads, given, strict=True):
        if need is None or not len(reads):
            continue
        last = np.searchsorted(reads, plan.writes, side="right") - 1
        latest = np.maximum.accumulate(need)
        result = np.maximum(result, np.where(last >= 0, latest[np.maximum(last, 0)], -1))
    return result
