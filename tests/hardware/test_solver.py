"""The foldings that CP-SAT chooses are those that trying all of them gives."""

import itertools

import numpy as np
import pytest

from toolchain.codegen.kernel import Folding
from toolchain.hardware.board import Resources
from toolchain.hardware.resources import Estimate, exceeded, excess, limits
from toolchain.hardware.solver import Option, solve

PART = Resources(dsp=60, bram36=20, uram=0, lut=5000, ff=10**6)


def table_of(seed, nodes=4, options=5):
    """Options that need less time the more they take, of one resource or another."""
    rng = np.random.default_rng(seed)
    table = {}
    for n in range(nodes):
        table[f"n{n}"] = [
            Option(
                Folding(lanes=k + 1),
                int(1000 / (k + 1)) + int(rng.integers(50)),
                Estimate(
                    int(rng.integers(0, 6 * k + 2)), float(rng.integers(0, 2 * k + 2)) / 2, int(rng.integers(900))
                ),
            )
            for k in range(options)
        ]
    return table


def share(cost):
    room = limits(PART)
    return cost.dsp / room["dsp"] + cost.bram36 / room["bram36"] + cost.lut / room["lut"]


def total(options, reserved=Estimate()):
    return sum((option.cost for option in options), reserved)


def tried(table, reserved):
    """(interval, options) by trying all."""
    fitting = [
        (max(o.steps for o in chosen), share(total(chosen)))
        for chosen in itertools.product(*table.values())
        if not exceeded(total(chosen, reserved), PART)
    ]
    fastest = min(fitting, default=(0, 0))[0]
    return fastest, min((cost for steps, cost in fitting if steps <= fastest), default=0)


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("reserved", [Estimate(), Estimate(20, 4, 1500)])
def test_the_answer_is_the_best_there_is(seed, reserved):
    table = table_of(seed)
    interval, least = tried(table, reserved)
    target, chosen = solve(table, PART, reserved)
    if not interval:
        assert exceeded(total(chosen.values(), reserved), PART)
        return
    assert max(option.steps for option in chosen.values()) <= target
    assert target == interval
    assert not exceeded(total(chosen.values(), reserved), PART)
    assert share(total(chosen.values())) == pytest.approx(least, abs=1e-5)


def test_slower_is_cheaper():
    table = table_of(3)
    fast, slow = solve(table, PART, Estimate()), solve(table, PART, Estimate(), 700)
    assert fast[0] < 700 == slow[0]
    assert share(total(slow[1].values())) < share(total(fast[1].values()))
    assert solve(table, PART, Estimate(), 10**6)[0] == 10**6


def test_no_nodes_need_nothing():
    assert solve({}, PART, Estimate()) == (1, {})


def test_the_excess_over_a_part():
    assert excess(Estimate(60, 18, 4100), PART) == Estimate(6, 0, 100)
    assert excess(Estimate(), PART) == Estimate()


@pytest.mark.parametrize("seed", range(10))
def test_where_nothing_fits_the_answer_comes_nearest(seed):
    """The largest share of a budget is the least possible, to a thousandth."""
    table = table_of(seed)
    reserved = Estimate(50, 17, 3900)
    small = {name: [o for o in choices if o.cost.dsp > 2 and o.cost.lut > 100] for name, choices in table.items()}
    table = {name: few or table[name] for name, few in small.items()}
    room = limits(PART)

    def worst(chosen):
        cost = total(chosen)
        left = {"dsp": room["dsp"] - 50, "bram36": room["bram36"] - 17, "lut": room["lut"] - 3900}
        used = {"dsp": cost.dsp, "bram36": cost.bram36, "lut": cost.lut}
        return max(used[name] / max(left[name], 1 if name != "bram36" else 0.5) for name in left)

    _, chosen = solve(table, PART, reserved)
    assert exceeded(total(chosen.values(), reserved), PART)
    assert worst(chosen.values()) <= min(worst(some) for some in itertools.product(*table.values())) + 0.001
