"""Chooses one folding a node within the budget of a part: a multiple-choice knapsack, solved by ortools' CP-SAT."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from toolchain.codegen.kernel import Folding
from toolchain.hardware.board import Resources
from toolchain.hardware.resources import Estimate, amounts, limits, rank

EFFORT = 20.0
"""CP-SAT's deterministic time for one answer, about seconds."""
SHARES = 10**7
"""Parts that a budget has in the objective."""
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
    found = {option.steps for choices in table.values() for option in choices if option.steps >= floor}
    targets = sorted({max(steps, least) for steps in found} | {max(floor, least)})
    low, high = 0, len(targets) - 1
    while low < high:
        middle = (low + high) // 2
        if any(_choose(few, resources, reserved, is_any=True) for few in _within(table, targets[middle])):
            high = middle
        else:
            low = middle + 1
    for choices in _within(table, targets[low]):
        best = _choose(choices, resources, reserved)
        if best:
            break
    else:
        best = _choose(choices, resources, reserved, is_over=True)
    return targets[low], best or {name: min(few, key=lambda o: rank(o.cost)) for name, few in choices.items()}


def _within(table: Table, target: int) -> Iterator[dict[str, list[Option]]]:
    """Each node's options that are fast enough, without those that another one beats in every resource.

    First without UltraRAM, then, where there are such options, with it.
    """
    fast = {name: [o for o in choices if o.steps <= target] for name, choices in table.items()}
    yield {name: _undominated(o for o in choices if not o.cost.uram) for name, choices in fast.items()}
    if any(o.cost.uram for choices in fast.values() for o in choices):
        yield {name: _undominated(choices) for name, choices in fast.items()}


def _undominated(options: Iterable[Option]) -> list[Option]:
    kept: list[Option] = []
    for option in sorted(options, key=lambda o: (o.cost.dsp, o.cost.bram36, o.cost.lut, o.cost.uram, o.steps)):
        if not any(
            k.cost.bram36 <= option.cost.bram36
            and k.cost.lut <= option.cost.lut
            and k.cost.masters <= option.cost.masters
            and k.cost.uram <= option.cost.uram
            for k in kept
        ):
            kept.append(option)
    return kept


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
