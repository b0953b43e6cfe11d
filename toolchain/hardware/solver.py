"""Chooses one folding a node within the budget of a part: a multiple-choice knapsack, solved by ortools' CP-SAT."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from toolchain.codegen.kernel import Folding
from toolchain.hardware.board import Resources
from toolchain.hardware.resources import Estimate, amounts, limits, rank

EFFORT = 20.0
"""CP-SAT's deterministic time for one answer, about seconds."""
SHARES = 10**7
"""Parts that a budget has in the objective."""
NEVER = 2**63 - 1
"""Later than any target."""
PARTS, MOST_OVER, OUTWEIGHS = 1000, 10**9, 10**5
"""Of a budget, where the largest share counts; its bound; and how much more that counts than all shares together."""


@dataclass(frozen=True)
class Option:
    """One folding of a node: its cycles a frame and its modelled cost."""

    folding: Folding
    steps: int
    cost: Estimate


Table = Mapping[str, Sequence[Option]]


def solve(table: Table, resources: Resources, reserved: Estimate, least: int = 0) -> tuple[int, dict[str, Option]]:
    """The smallest cycles a frame that fit, not below `least`, and the options that do it with the least of the part.

    `reserved` is taken by the rest of the design. Where nothing fits, the options that come nearest: the resource of
    which most is missing, as a share of its budget, is missing as little as can be. Memories lie in UltraRAM only
    where block RAM does not do.
    """
    floor = max((min(option.steps for option in choices) for choices in table.values()), default=1)
    plain = {name: _Choices(o for o in few if not o.cost.uram) for name, few in table.items()}
    tables = [plain]
    if any(o.cost.uram for few in table.values() for o in few):
        tables.append({name: _Choices(few) for name, few in table.items()})
    found = {option.steps for choices in table.values() for option in choices if option.steps >= floor}
    targets = sorted({max(steps, least) for steps in found} | {max(floor, least)})
    low, high = 0, len(targets) - 1
    while low < high:
        middle = (low + high) // 2
        if any(_choose(few, resources, reserved, is_any=True) for few in _within(tables, targets[middle])):
            high = middle
        else:
            low = middle + 1
    for choices in _within(tables, targets[low]):
        best = _choose(choices, resources, reserved)
        if best:
            break
    else:
        best = _choose(choices, resources, reserved, is_over=True)
    return targets[low], best or {name: min(few, key=lambda o: rank(o.cost)) for name, few in choices.items()}


class _Choices:
    """A node's options, and below which target each is worth a look: then another one that takes no more is in time."""

    def __init__(self, options: Iterable[Option]) -> None:
        def taken(option: Option) -> tuple[float, ...]:
            cost = option.cost
            return cost.dsp, cost.bram36, cost.lut, cost.uram, cost.masters

        self.options = sorted(options, key=lambda o: (*taken(o)[:4], o.steps))
        costs = np.array([taken(o) for o in self.options], dtype=np.float64).reshape(-1, 5)
        self.steps = np.array([o.steps for o in self.options], dtype=np.int64)
        self.until = np.full(len(self.options), NEVER)
        for k in range(1, len(self.options)):
            beats = (costs[:k] <= costs[k]).all(axis=1)
            self.until[k] = self.steps[:k][beats].min(initial=NEVER)

    def within(self, target: int) -> list[Option]:
        """Those that are fast enough, without those that another one beats in every resource."""
        return [self.options[k] for k in np.flatnonzero((self.steps <= target) & (target < self.until))]


def _within(tables: Iterable[Mapping[str, _Choices]], target: int) -> Iterator[dict[str, list[Option]]]:
    """What each node may take, first without UltraRAM, then, where there are such options, with it."""
    for table in tables:
        yield {name: choices.within(target) for name, choices in table.items()}


def _share(cost: Estimate, resources: Resources) -> int:
    """What a cost takes of the budgets, in SHARES of each, summed."""
    used = amounts(cost)
    return sum(round(SHARES * used[name] / limit) for name, limit in limits(resources).items() if limit)


def _choose(
    table: Mapping[str, list[Option]],
    resources: Resources,
    reserved: Estimate,
    *,
    is_any: bool = False,
    is_over: bool = False,
) -> dict[str, Option] | None:
    """The options with the least share of the budgets, or any that fit; None where none do.

    With `is_over` no budget limits anything: the largest share of one is the least possible.
    """
    from ortools.sat.python import cp_model  # takes half a second, which only this needs

    room = limits(resources)
    columns: dict[str, tuple[Callable[[Estimate], int], int]] = {
        "dsp": (lambda cost: cost.dsp, int(room["dsp"]) - reserved.dsp),
        "bram36": (lambda cost: int(2 * cost.bram36), int(2 * room["bram36"]) - int(2 * reserved.bram36)),
        "lut": (lambda cost: cost.lut, int(room["lut"]) - reserved.lut),
        "masters": (lambda cost: cost.masters, int(room["masters"])),
    }
    if resources.uram:
        columns["uram"] = (lambda cost: cost.uram, int(room["uram"]) - reserved.uram)
    least = {k: sum(min(of(o.cost) for o in few) for few in table.values()) for k, (of, _) in columns.items()}
    if not is_over and any(least[k] > limit for k, (_, limit) in columns.items()):
        return None
    model = cp_model.CpModel()
    taken = {name: [model.new_bool_var(f"{name}/{k}") for k in range(len(few))] for name, few in table.items()}
    for variables in taken.values():
        model.add_exactly_one(variables)
    pairs = [(v, o.cost) for name, few in table.items() for v, o in zip(taken[name], few, strict=True)]
    share = sum(_share(cost, resources) * variable for variable, cost in pairs)
    if is_over:
        worst = model.new_int_var(0, MOST_OVER, "worst")
        for of, limit in columns.values():
            model.add(PARTS * sum(of(cost) * variable for variable, cost in pairs) <= max(limit, 1) * worst)
        model.minimize(worst * OUTWEIGHS + share)
    else:
        for of, limit in columns.values():
            model.add(sum(of(cost) * variable for variable, cost in pairs) <= limit)
        if not is_any:
            model.minimize(share)
    solver = cp_model.CpSolver()
    # One worker and no clock: the same answer on every machine.
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.max_deterministic_time = EFFORT / 4 if is_over else EFFORT
    solver.parameters.catch_sigint_signal = False  # it would leave no handler behind
    if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    return {
        name: next(o for v, o in zip(variables, table[name], strict=True) if solver.boolean_value(v))
        for name, variables in taken.items()
    }
