"""FIFO depths with which the slowest process never waits, and what they cost.

Proof by a schedule. Suppose that every process begins its frames `interval` cycles apart, and that each step of a frame
has a fixed cycle at which words are there before they are read and never more of them in a FIFO than it holds. Then the
design, which does everything as soon as it can, is at no time behind that schedule: it takes a frame every `interval`
cycles or faster. So depths are read off such a schedule, and the interval asked for is that of the slowest process on
its own, which no design can beat.

There are many such schedules. The first has every process run as soon as possible, and words pile up in front of slow
ones. A process may be delayed until its readers want its words, which moves what piles up to its inputs, where words
are fewer or narrower, or more and wider. First it is decided for all processes together which to delay, then one after
the other is looked at, from outputs to inputs and back, and takes whichever costs less.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from toolchain.hardware.dataflow_plan import (
    PIPELINE,
    Lateness,
    Plan,
    Times,
    as_late_as_possible,
    as_soon_as_possible,
)
from toolchain.hardware.dataflow_tokens import MINIMUM_DEPTH
from toolchain.hardware.network import Network
from toolchain.hardware.resources import fifo_estimate, rank

SMOOTHING = 32
"""A FIFO of this depth is a shift register of a LUT a bit. No less where words pile up: not all is modelled."""
LONG, COARSE = 1 << 18, 16
"""In streams of more words a frame one of so many is looked at, and depths are up to twice that more than needed."""
ENDLESS = 1 << 30
ROUNDS = 4
"""At most so many times every process is looked at alone."""
SHARES = (0.9, 0.5)
"""Processes with this share of the slowest one's steps set the pace of those in front of them."""


class Chooser:
    """A periodic schedule and the words that its FIFOs hold, improved process by process."""

    def __init__(self, network: Network, plans: list[Plan], interval: int, required: Mapping[str, int]) -> None:
        """The schedule of everything as soon as possible. No FIFO becomes less deep than `required`."""
        self.network, self.plans, self.interval = network, plans, interval
        self.writer = {name: k for k, plan in enumerate(plans) for name in plan.process.outputs}
        self.reader = {name: k for k, plan in enumerate(plans) for name in plan.process.inputs}
        self.schedule: list[Lateness] = []
        for plan in plans:
            self.schedule.append(as_soon_as_possible(plan, self._arrivals(plan), self._slack(plan)))
        self.occupancy = {name: self._occupancy(name, {}) for name in network.streams}
        # Depths that FIFOs have anyway, so that they cost nothing.
        self.floors = {
            name: max(MINIMUM_DEPTH, required.get(name, 0), min(words, SMOOTHING))
            for name, words in self.occupancy.items()
        }

    def depths(self) -> dict[str, int]:
        """The depth of each FIFO."""
        return {name: max(words, self.floors[name]) for name, words in self.occupancy.items()}

    def latency(self) -> int:
        """Cycles until the first frame is done in this schedule, of which the design is never behind."""
        ends = (
            int(late.at(np.array([plan.steps - 1]))[0]) + plan.steps
            for plan, late in zip(self.plans, self.schedule, strict=True)
        )
        return max(ends, default=0) + PIPELINE

    def improve(self, rounds: int = ROUNDS) -> None:
        """Makes it cheaper: all processes together, then one after the other, up to so many times each."""
        for share in SHARES:
            self.delay(share)
        for number in range(rounds):
            changed = False
            order = range(len(self.plans))
            for position in order if number % 2 else reversed(order):
                changed = self._reconsider(position, late=number % 2 == 0) or changed
            if not changed and number:
                return

    def delay(self, share: float) -> None:
        """Delays the processes that do better so, seen all together.

        Those that have at least this `share` of the slowest one's steps stay as they are, and the others are delayed
        until these, and the outputs, want their words. A process may only be delayed with its readers, and given that,
        what each saves or costs is a sum over processes: a closure of least weight, which is a cut in a graph
        (Picard, "Maximal closure of a graph", Management Science 22, 1976).
        """
        changes: dict[int, Lateness] = {}
        most = share * max((plan.steps for plan in self.plans), default=0)
        for position in reversed(range(len(self.plans))):
            plan = self.plans[position]
            if plan.steps < most and (due := self._due(plan, changes)) is not None:
                changes[position] = as_late_as_possible(plan, due, self.schedule[position], self._slack(plan))
        weights = dict.fromkeys(changes, 0.0)
        needs: list[tuple[int, int]] = []
        for name in self.network.streams:
            writer, reader = self.writer[name], self.reader[name]
            cost = self._cost({name: self.occupancy[name]})
            if reader in changes:
                later = self._cost({name: self._occupancy(name, {reader: changes[reader]})})
                weights[reader] += later - cost
                cost = later
            if writer in changes:
                weights[writer] += self._cost({name: self._occupancy(name, changes)}) - cost
                if reader in changes:
                    needs.append((writer, reader))
        chosen = {position: changes[position] for position in least_closure(weights, needs)}
        self.schedule = [chosen.get(k, late) for k, late in enumerate(self.schedule)]
        moved = [name for name in self.network.streams if self.writer[name] in chosen or self.reader[name] in chosen]
        self.occupancy.update({name: self._occupancy(name, {}) for name in moved})

    def _due(self, plan: Plan, changes: Mapping[int, Lateness]) -> Times | None:
        """When each word of a process has to be there at the latest, if it has readers in the design."""
        names = [name for name in plan.process.outputs if name in self.network.streams]
        return np.minimum.reduce([self._read(name, changes) for name in names]) - 1 if names else None

    def _slack(self, plan: Plan) -> int:
        return self.interval - plan.steps - PIPELINE

    def _arrivals(self, plan: Plan) -> list[Times | None]:
        return [self._written(name, {}) if name in self.network.streams else None for name in plan.process.inputs]

    def _written(self, name: str, changes: Mapping[int, Lateness], every: int = 1) -> Times:
        position = self.writer[name]
        writes = self.plans[position].writes_of(every)
        return writes + PIPELINE + changes.get(position, self.schedule[position]).at(writes)

    def _read(self, name: str, changes: Mapping[int, Lateness], every: int = 1) -> Times:
        position = self.reader[name]
        reads = self.plans[position].reads_of(name, every)
        return reads + changes.get(position, self.schedule[position]).at(reads)

    def _reconsider(self, position: int, late: bool) -> bool:
        """Delays a process, or hurries it, if that costs less; whether it did."""
        plan = self.plans[position]
        names = [name for name in plan.process.outputs if name in self.network.streams]
        if late:
            due = self._due(plan, {})
            if due is None:
                return False
            other = as_late_as_possible(plan, due, self.schedule[position], self._slack(plan))
        else:
            other = as_soon_as_possible(plan, self._arrivals(plan), self._slack(plan))
        names += [name for name in plan.process.inputs if name in self.network.streams]
        found = {name: self._occupancy(name, {position: other}) for name in names}
        if self._cost(found) >= self._cost({name: self.occupancy[name] for name in names}):
            return False
        self.schedule[position] = other
        self.occupancy.update(found)
        return True

    def _cost(self, occupancy: Mapping[str, int]) -> float:
        """Of FIFOs that hold so many words: resources, and bits as far as these are equal."""
        total = 0.0
        for name, words in occupancy.items():
            bits = self.network.streams[name].port.bits
            depth = max(words, self.floors[name])
            total += rank(fifo_estimate(depth, bits)) + 1e-3 * depth * bits
        return total

    def _occupancy(self, name: str, changes: Mapping[int, Lateness]) -> int:
        words = sum(loops.count for loops in self.plans[self.writer[name]].process.kernel.schedule.writes)
        every = COARSE if words > LONG else 1
        written, read = self._written(name, changes, every), self._read(name, changes, every)
        return occupancy(written, read, self.interval, words, every)


def occupancy(written: Times, read: Times, interval: int, words: int, every: int = 1) -> int:
    """The most words in a FIFO through which so many go in a frame of `interval` cycles.

    Words 0, `every`, 2 `every` ... are written and read at these cycles. A word written while another is read does not
    take its place yet. It may say up to 2 (`every` - 1) more.
    """
    if not len(written):
        return 0
    last = written - 1  # reads up to here have made room
    frames = np.minimum((last - read[0]) // interval, 0)
    known = np.searchsorted(read, last - frames * interval, side="right")
    gone = frames * words + np.where(known > 0, (known - 1) * every + 1, 0)
    return int((np.minimum(np.arange(len(last)) * every + every, words) - gone).max())


def least_closure(weights: Mapping[int, float], needs: list[tuple[int, int]]) -> list[int]:
    """Of the sets that hold b with every a of the pairs (a, b), one with the least sum of weights, rounded."""
    number = {key: k for k, key in enumerate(weights)}
    source, sink = len(number), len(number) + 1
    rounded = [round(weight) for weight in weights.values()]
    edges = [(source, k, -weight) for k, weight in enumerate(rounded) if weight < 0]
    edges += [(k, sink, weight) for k, weight in enumerate(rounded) if weight > 0]
    edges += [(number[a], number[b], ENDLESS) for a, b in set(needs)]
    if not edges:
        return []
    starts, stops, capacities = np.array(edges, dtype=np.int32).T
    graph = csr_array((capacities, (starts, stops)), shape=(sink + 1, sink + 1))
    left = graph - maximum_flow(graph, source, sink).flow
    left.eliminate_zeros()
    reached = breadth_first_order(left, source, return_predecessors=False)
    names = list(weights)
    return [names[k] for k in sorted(reached) if k < len(names)]
