"""Absence of deadlock, proved by counting words on the static schedules.

Where a process reads several streams (an addition behind a skip connection), one of them may have to hold all that a
common ancestor had to emit before the other stream's first word could exist. With W(k) the step of the ancestor that
word k of stream B needs, stream A holds at most |words of A that need no more than W(k)| - |words of A that were read
before| words when B's word k is awaited. A FIFO of the largest such depth can never be what the ancestor waits for
while B is empty, so the design cannot deadlock, whatever its timing. Streams from different inputs of the design have
no common ancestor, and the host may serve one input before the other: where they meet, each FIFO holds a whole frame,
so that nothing in front of it ever waits for space.
"""

from __future__ import annotations

import numpy as np

from toolchain.hardware.dataflow_plan import Plan, Times
from toolchain.hardware.network import Network

MINIMUM_DEPTH = 2


def required_depths(network: Network, plans: list[Plan]) -> dict[str, int]:
    """The words that each stream into a process of several inputs must be able to hold.

    Where no process stands between such a stream and what feeds both, that is exact: with a slot less, and pipelines
    that hold nothing, the design deadlocks. Elsewhere the FIFOs and memories in front of the stream hold some of them.
    """
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


def _count_from(plans: list[Plan], start: int, required: dict[str, int]) -> None:
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


def _surplus(plan: Plan, name: str, need: Times, other: str, other_need: Times) -> int:
    """The most words of `name` that exist while a word of `other` is awaited, less those already read."""
    reads = plan.reads_of(name)
    other_reads = plan.reads_of(other)
    existing = np.searchsorted(np.maximum.accumulate(need), np.maximum.accumulate(other_need), side="right")
    taken = np.searchsorted(reads, other_reads, side="left")
    return int((existing - taken).max(initial=0))


def _needed_by_writes(plan: Plan, given: list[Times | None]) -> Times:
    """For each word written, the ancestor's step that has to happen first."""
    writes = plan.writes
    result = np.full(len(writes), -1, dtype=np.int64)
    for position, need in enumerate(given):
        if need is None or not len(need):
            continue
        last = np.searchsorted(plan.reads(position), writes, side="right") - 1
        latest = np.maximum.accumulate(need)
        result = np.maximum(result, np.where(last >= 0, latest[np.maximum(last, 0)], -1))
    return result
