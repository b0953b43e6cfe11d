"""The search for the price of a bit: the coding of a whole network within a budget, or within an error."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Protocol

from threadpoolctl import threadpool_limits

from toolchain.errors import ConfigurationError
from toolchain.ir import Array, Graph
from toolchain.ops.linear import LinearOperator
from toolchain.packing.importance import measure_importance
from toolchain.packing.packer import Plan, Survey, Unit, mixture
from toolchain.progress import Progress, no_progress
from toolchain.quantization.carried import check_own_weights, is_program, keep_integers
from toolchain.quantization.configuration import Configuration
from toolchain.quantization.entry import quantizes_itself
from toolchain.quantization.lowering import PACKING_ROWS, Lowered, chosen_rows, lower

PATTERN = re.compile(r"(\d+(?:\.\d+)?)(x|B|kMAC)")
ERROR_RATIO = 2.0
"""Without a budget: output error over that of plain quantization."""
CLOSE, QUICK_CLOSE, ERROR_CLOSE = 0.9, 0.85, 0.8
"""A result within so much of what is allowed is good enough: a size, one to begin with, an error."""
MANY_ROWS, QUICK_ROWS = 192, 96
"""With so many calibration rows the search begins on fewer of them."""
FULL, BEYOND = 0.97, 1.05
"""A budget of which less is used is filled: by some layers of a run that was too large, and sought at so much more."""
SAFE = 0.99
"""Share of a limit up to which it is filled: what a layer takes depends a little on those in front of it."""
ATTEMPTS = 5
"""Prices that a search tries at most."""
PRICES = (1e-13, 1e-2)
TYPICAL_SLOPE = {"bits": -0.3, "multiplications": -0.4, "error": 0.4}
"""d log(quantity) / d log(price), where two runs have not told it yet."""
FLATTEST = 0.1
"""Share of the typical slope that is believed at least: sizes stand still between two powers of two of the steps."""
DEARER = (2.0, 8.0)
"""Where no price was high enough, so many times the highest is tried before the last resort; in search of an error, the
lowest by the square of it."""
START = 1e-7
LAYER_BYTES = 40
"""What a coded layer takes beyond its levels and what a plain one takes beyond its weights."""


@dataclass(frozen=True)
class Budget:
    """What the packed weights may take: `ratio` times less than float32, bytes of `weights.bin`, or multiplications."""

    kind: Literal["ratio", "bytes", "multiplications"]
    amount: float

    @classmethod
    def parse(cls, text: str) -> Budget:
        """`28x`, `450000B` or `300kMAC`. Raises ConfigurationError for anything else."""
        match = PATTERN.fullmatch(text.strip())
        if not match or float(match[1]) <= 0:
            raise ConfigurationError(f"--budget {text!r} is no budget", fix="Write 28x, 450000B or 300kMAC.")
        kinds: dict[str, tuple[Literal["ratio", "bytes", "multiplications"], float]] = {
            "x": ("ratio", 1.0),
            "B": ("bytes", 1.0),
            "kMAC": ("multiplications", 1000.0),
        }
        kind, scale = kinds[match[2]]
        return cls(kind, float(match[1]) * scale)

    @property
    def unit(self) -> Unit:
        return "multiplications" if self.kind == "multiplications" else "bits"

    def limit(self, parameters: int) -> float:
        """In bytes, or in multiplications."""
        return 4 * parameters / self.amount if self.kind == "ratio" else self.amount


@dataclass(frozen=True)
class Packing:
    """A network lowered with coded weights: the program, the plan that coded it, and the error of plain quantization.

    `plan` is None when nothing was to be coded.
    """

    lowered: Lowered
    plan: Plan | None
    plain_error: float


@dataclass(frozen=True)
class _Run:
    price: float
    lowered: Lowered
    plan: Plan | None
    amount: float
    """Bytes or multiplications."""


class _Runner(Protocol):
    """Codes the network at a price, some layers at their own."""

    def __call__(self, price: float, layers: Mapping[str, float] = ..., /) -> _Run: ...


def lower_packed(
    graph: Graph,
    calibration: Mapping[str, Array],
    configuration: Configuration,
    size: Callable[[Graph], int],
    budget: Budget | None = None,
    progress: Progress | None = None,
    invented: bool = False,
) -> Packing:
    """Lowers a real graph as `lower` does, the weights coded as the configuration's `pack` says.

    `size` gives the bytes of `weights.bin` for an integer program. With a budget the least error within it is sought,
    without one the smallest coding whose output error on held-out rows is at most ERROR_RATIO that of plain
    quantization. Raises ConfigurationError for a budget that cannot be met, naming the nearest possible.

    Matrix products run on one thread: their sums, and with them the levels, must not depend on the number of cores.
    A graph that is an integer program already stays what it is, and where a model brings quantized weights none are
    coded. `invented` calibration data is there for the test bench only.
    """
    if is_program(graph):
        return Packing(keep_integers(graph, configuration, has_budget=budget is not None), None, 0.0)
    check_own_weights(graph, configuration, has_budget=budget is not None)
    with threadpool_limits(limits=1, user_api="blas"):
        if quantizes_itself(graph) and not budget:
            own = lower(graph, calibration, configuration, progress or no_progress, invented=invented)
            return Packing(own, None, own.output_error)
        return _lower_packed(graph, calibration, configuration, size, budget, progress or no_progress)


def _lower_packed(
    graph: Graph,
    calibration: Mapping[str, Array],
    configuration: Configuration,
    size: Callable[[Graph], int],
    budget: Budget | None,
    report: Progress,
) -> Packing:
    packs = {configuration.pack, *(layer.pack for layer in configuration.layers.values())} - {None}
    if packs == {"none"}:
        if budget:
            raise ConfigurationError("--budget needs weights that may be coded", fix="Leave out --pack none.")
        plain = lower(graph, calibration, configuration, report)
        return Packing(plain, None, plain.output_error)
    unit = budget.unit if budget else "bits"
    if unit == "multiplications":
        configuration = configuration.coded_as_executed()  # what is executed is what counts
    survey = Survey(configuration.weight_bits, unit)
    plain = lower(graph, calibration, configuration, report, survey)
    if not survey.problems:
        return Packing(plain, None, plain.output_error)
    rows = chosen_rows(graph, calibration, PACKING_ROWS)
    importance = measure_importance(graph, {one.name: one.from_model(rows[one.name]) for one in graph.inputs}, report)

    uncoded = _uncoded(graph, survey)
    loaded = configuration.decodes_on_chip  # then what is coded is what is executed

    numbers = itertools.count(1)

    def runner(data: Mapping[str, Array]) -> _Runner:
        dampings: dict[str, float] = {}

        def run(price: float, layers: Mapping[str, float] = MappingProxyType({})) -> _Run:
            plan = Plan(
                price, importance, configuration.weight_bits, unit, dampings, layer_prices=layers, executable=loaded
            )
            number = next(numbers)
            lowered = lower(graph, data, configuration, lambda what, *p: report(f"coding {number}, {what}", *p), plan)
            rate = uncoded + sum(found[0].rate for found in plan.chosen.values())
            return _Run(price, lowered, plan, rate if unit == "multiplications" else float(size(lowered.graph)))

        return run

    run, quick = runner(calibration), None
    count = len(next(iter(rows.values())))
    if count >= MANY_ROWS:
        quick = runner({name: array[:: max(count // QUICK_ROWS, 2)] for name, array in rows.items()})
    # Plain weights are a candidate too, where nobody asked for coded ones.
    plain_size = size(plain.graph)
    free = not loaded and packs == {"auto"} and unit == "bits"
    others = [_Run(0.0, plain, None, float(plain_size))] if free else []
    if budget:
        parameters = sum(node.operator.parameters() for node in graph.nodes)
        levels = sum(problem.filters.weights.size for problem, _ in survey.problems.values())
        overhead = plain_size - levels * configuration.weight_bits / 8 + LAYER_BYTES * len(survey.problems)
        limit = budget.limit(parameters)
        coded = limit - uncoded if unit == "multiplications" else 8 * (limit - overhead)
        wanted = max(coded, 0.3 * limit * (1 if unit == "multiplications" else 8))
        predict = _Search(TYPICAL_SLOPE[unit], START)
        price = predict.solve(lambda p: survey.predict(p, importance)[0], wanted * QUICK_CLOSE, wanted)
        best = _within_budget(price, quick, run, runner(calibration), unit, limit, others)
    else:
        limit = ERROR_RATIO * plain.output_error
        extra = max(limit**2 - plain.output_error**2, 1e-30)
        predict = _Search(2 * TYPICAL_SLOPE["error"], START)
        price = predict.solve(lambda p: survey.predict(p, importance)[1], extra * QUICK_CLOSE, extra)
        found = _within_error(price, quick, run, limit)
        if found is None and not loaded:
            return Packing(plain, None, plain.output_error)
        best = min([*others, found or run(PRICES[0])], key=lambda one: one.amount)
    return Packing(best.lowered, best.plan, plain.output_error)


def _uncoded(graph: Graph, survey: Survey) -> int:
    """Multiplications of the layers that are not to be coded."""
    return sum(
        node.operator.multiplications(*(t.shape for t in graph.input_types(node)))
        for node in graph.nodes
        if isinstance(node.operator, LinearOperator) and node.name not in survey.problems
    )


def _within_budget(
    price: float,
    quick: _Runner | None,
    run: _Runner,
    fresh: _Runner,
    unit: Unit,
    limit: float,
    others: list[_Run],
) -> _Run:
    """The run of the least error whose amount is within the limit, one of the `others` perhaps.

    `quick` runs on few rows, to find the place. `fresh` has chosen no dampings yet: what it gives at the highest price
    is the same whatever the limit is.
    """
    slope = TYPICAL_SLOPE[unit]
    if quick:
        price = _Search(slope, price).solve(lambda p: quick(p).amount, QUICK_CLOSE * limit, limit)
    runs: list[_Run] = []

    def amount(price: float) -> float:
        runs.append(run(price))
        return runs[-1].amount

    _Search(slope, price).solve(amount, CLOSE * limit, limit)
    highest = max(one.price for one in runs)
    for factor in DEARER:
        if not any(one.amount <= limit for one in runs) and highest * factor < PRICES[1]:
            amount(highest * factor)
    if not any(one.amount <= limit for one in runs):
        runs.append(fresh(PRICES[1]))
    within = [one for one in runs + others if one.amount <= limit]
    if not within:
        name = "multiplications" if unit == "multiplications" else "bytes"
        least = min(one.amount for one in [runs[-1], *others])
        raise ConfigurationError(
            f"--budget: {limit:.0f} {name} cannot be reached, the least that is possible is {least:.0f}",
            fix="Give a larger budget.",
        )
    best = min(within, key=lambda one: one.lowered.output_error)
    if best.plan and 0 < best.amount < FULL * limit:
        cheaper = best.price * (BEYOND * limit / best.amount) ** (1 / slope)
        if not any(one.amount > limit for one in runs) and cheaper > PRICES[0]:
            amount(cheaper)
        beyond = [one for one in runs if one.amount > limit]
        if beyond:
            other = min(beyond, key=lambda one: one.amount)
            room = (SAFE * limit - best.amount) * (1 if unit == "multiplications" else 8)
            runs.append(_mixed(run, best, other, room, "rate"))
        within = [one for one in runs + others if one.amount <= limit]
    return min(within, key=lambda one: one.lowered.output_error)


def _mixed(run: _Runner, keep: _Run, other: _Run, room: float, limited: Literal["rate", "error"]) -> _Run:
    """A run between two, `keep` itself where there is nothing between them."""
    assert keep.plan is not None
    assert other.plan is not None
    layers = mixture(keep.plan, other.plan, room, limited)
    return run(keep.price, layers) if layers else keep


def _within_error(price: float, quick: _Runner | None, run: _Runner, limit: float) -> _Run | None:
    """The smallest run whose output error stays within the limit, None where there is none."""
    if not limit:
        return None
    slope = TYPICAL_SLOPE["error"]
    if quick:
        price = _Search(slope, price).solve(lambda p: quick(p).lowered.output_error, ERROR_CLOSE * limit, limit)
    runs: list[_Run] = []

    def error(price: float) -> float:
        runs.append(run(price))
        return runs[-1].lowered.output_error

    _Search(slope, price).solve(error, ERROR_CLOSE * limit, limit)
    lowest = min(one.price for one in runs)
    for factor in DEARER:
        if not any(one.lowered.output_error <= limit for one in runs) and lowest / factor**2 > PRICES[0]:
            error(lowest / factor**2)
    within = [one for one in runs if one.lowered.output_error <= limit]
    beyond = [one for one in runs if one.lowered.output_error > limit]
    if within and beyond:
        best = min(within, key=lambda one: one.amount)
        other = min(beyond, key=lambda one: one.lowered.output_error)
        room = (SAFE * limit) ** 2 - best.lowered.output_error**2
        if other.amount < best.amount and room > 0:
            runs.append(_mixed(run, best, other, room, "error"))
    within = [one for one in runs if one.lowered.output_error <= limit]
    return min(within, key=lambda one: one.amount) if within else None


@dataclass
class _Search:
    """Looks for the price at which a quantity of expected slope d log(quantity) / d log(price) is within bounds."""

    slope: float
    start: float

    def solve(self, quantity: Callable[[float], float], least: float, most: float) -> float:
        """The last price tried: the first one with least <= quantity(price) <= most, or after ATTEMPTS any."""
        aim = math.log(max((least + most) / 2, 1e-300))
        above: tuple[float, float] | None = None
        below: tuple[float, float] | None = None
        previous: tuple[float, float] | None = None
        at = math.log(self.start)
        ends = [math.log(price) for price in PRICES]
        for attempt in range(ATTEMPTS):
            found = quantity(math.exp(at))
            if least <= found <= most or attempt == ATTEMPTS - 1:
                break
            point = (at, math.log(max(found, 1e-300)))
            above, below = (point, below) if found > most else (above, point)
            if above and below:
                share = (aim - below[1]) / (above[1] - below[1])
                at = below[0] + min(max(share, 0.15), 0.85) * (above[0] - below[0])
                continue
            slope = self.slope
            if previous and at != previous[0]:  # two runs on one side tell how flat it is there
                measured = (point[1] - previous[1]) / (at - previous[0]) / self.slope
                slope *= min(max(measured, FLATTEST), 1.0)
            previous, beyond = point, at in ends
            at = min(max(at + min(max((aim - point[1]) / slope, -3.0), 3.0), ends[0]), ends[1])
            if beyond and at in ends:
                break
        return math.exp(at)
