"""The search for the price of a bit: the coding of a whole network within a budget, or within an error."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from toolchain.errors import ConfigurationError
from toolchain.ir import Array, Graph
from toolchain.packing.importance import measure_importance
from toolchain.packing.packer import Plan, Survey, Unit
from toolchain.progress import Progress, no_progress
from toolchain.quantization.configuration import Configuration
from toolchain.quantization.lowering import PACKING_ROWS, Lowered, chosen_rows, lower

PATTERN = re.compile(r"(\d+(?:\.\d+)?)(x|B|kMAC)")
ERROR_RATIO = 2.0
"""Without a budget: output error over that of plain quantization."""
CLOSE = 0.97
"""A result within so much of what is allowed is good enough."""
ATTEMPTS = 6
"""Runs over the calibration data at most."""
PRICES = (1e-13, 1e-2)
TYPICAL_SLOPE = {"bits": -0.3, "multiplications": -0.4, "error": 0.4}
"""d log(quantity) / d log(price), where two runs have not told it yet."""
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
    plan: Plan
    amount: float
    """Bytes or multiplications."""


def lower_packed(
    graph: Graph,
    calibration: Mapping[str, Array],
    configuration: Configuration,
    size: Callable[[Graph], int],
    budget: Budget | None = None,
    progress: Progress | None = None,
) -> Packing:
    """Lowers a real graph as `lower` does, the weights coded as the configuration's `pack` says.

    `size` gives the bytes of `weights.bin` for an integer program. With a budget the least error within it is sought,
    without one the smallest coding whose output error on held-out rows is at most ERROR_RATIO that of plain
    quantization. Raises ConfigurationError for a budget that cannot be met, naming the nearest possible.
    """
    report = progress or no_progress
    packs = {configuration.pack, *(layer.pack for layer in configuration.layers.values())} - {None}
    if packs == {"none"}:
        if budget:
            raise ConfigurationError("--budget needs weights that may be coded", fix="Leave out --pack none.")
        plain = lower(graph, calibration, configuration, progress)
        return Packing(plain, None, plain.output_error)
    unit = budget.unit if budget else "bits"
    survey = Survey(configuration.weight_bits, unit)
    plain = lower(graph, calibration, configuration, progress, survey)
    if not survey.problems:
        return Packing(plain, None, plain.output_error)
    rows = chosen_rows(graph, calibration, PACKING_ROWS)
    inputs = {one.name: one.from_model(rows[one.name]) for one in graph.inputs}
    importance = measure_importance(graph, inputs, report)

    dampings: dict[str, float] = {}

    def run(price: float) -> _Run:
        plan = Plan(price, importance, configuration.weight_bits, unit, dampings)
        lowered = lower(graph, calibration, configuration, progress, plan)
        rate = sum(found[0].rate for found in plan.chosen.values())
        return _Run(price, lowered, plan, rate if unit == "multiplications" else float(size(lowered.graph)))

    if budget:
        parameters = sum(node.operator.parameters() for node in graph.nodes)
        levels = sum(problem.filters.weights.size for problem, _ in survey.problems.values())
        overhead = size(plain.graph) - levels * configuration.weight_bits / 8 + LAYER_BYTES * len(survey.problems)
        best = _within_budget(survey, importance, run, budget, budget.limit(parameters), overhead)
    else:
        best = _within_error(survey, importance, run, plain.output_error) or _Run(0.0, plain, Plan(0.0, {}, 0), 0.0)
    return Packing(best.lowered, best.plan if best.price else None, plain.output_error)


def _within_budget(
    survey: Survey,
    importance: Mapping[str, float],
    run: Callable[[float], _Run],
    budget: Budget,
    limit: float,
    overhead: float,
) -> _Run:
    """The run of the least error whose amount is within the limit; `overhead` bytes are not levels."""
    wanted = limit if budget.unit == "multiplications" else max(8 * (limit - overhead), 0.3 * 8 * limit)
    falling = _Search(TYPICAL_SLOPE[budget.unit], START)
    price = falling.solve(lambda p: survey.predict(p, importance)[0], wanted * CLOSE, wanted)
    runs: list[_Run] = []

    def amount(price: float) -> float:
        runs.append(run(price))
        return runs[-1].amount

    _Search(TYPICAL_SLOPE[budget.unit], price).solve(amount, CLOSE * limit, limit)
    if not any(one.amount <= limit for one in runs):
        amount(PRICES[1])
    within = [one for one in runs if one.amount <= limit]
    if not within:
        unit = "multiplications" if budget.unit == "multiplications" else "bytes"
        least = min(one.amount for one in runs)
        raise ConfigurationError(
            f"--budget: {limit:.0f} {unit} cannot be reached, the least that is possible is {least:.0f}",
            fix="Give a larger budget.",
        )
    return min(within, key=lambda one: one.lowered.output_error)


def _within_error(
    survey: Survey, importance: Mapping[str, float], run: Callable[[float], _Run], plain: float
) -> _Run | None:
    """The smallest run whose output error stays within ERROR_RATIO of the plain one's."""
    limit = ERROR_RATIO * plain
    if not limit:
        return None
    extra = limit * limit - plain * plain
    rising = _Search(2 * TYPICAL_SLOPE["error"], START)
    price = rising.solve(lambda p: survey.predict(p, importance)[1], extra * CLOSE, extra)
    runs: list[_Run] = []

    def error(price: float) -> float:
        runs.append(run(price))
        return runs[-1].lowered.output_error

    _Search(TYPICAL_SLOPE["error"], price).solve(error, CLOSE * CLOSE * limit, limit)
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
            beyond = at in ends
            at = min(max(at + min(max((aim - point[1]) / self.slope, -3.0), 3.0), ends[0]), ends[1])
            if beyond and at in ends:
                break
        return math.exp(at)
