"""What the packers do with the layers that a lowering shows them."""

import dataclasses
from math import inf

import numpy as np
import pytest

from tests.packing.samples import samples
from tests.packing.test_search import smooth
from toolchain.ir import Constant
from toolchain.packing.packed import Coding
from toolchain.packing.packer import FEWEST_ROWS, HOLD, PIECE, VECTORS, Layer, Packer, Plan, Survey, is_held, mixture
from toolchain.packing.search import Candidate, code, transforms
from toolchain.packing.statistics import Moments


def layer_of(case, domain="auto", pixels=4, name="conv"):
    """Rows of so many pixels; vectors that are asked for are noted in `asked`."""
    rows = len(case.x) // pixels
    asked = []

    def vectors(chosen):
        asked.append(np.array(chosen))
        return case.x[chosen], case.y[chosen]

    layer = Layer(name, case.filters, domain, rows, pixels, -1024, vectors)
    return layer, asked


def same(a: Moments, b: Moments):
    return a.count == b.count and all(
        np.allclose(getattr(a, name), getattr(b, name), rtol=1e-5, atol=1e-3) for name in ("xx", "xy", "x", "y", "yy")
    )


def plan_of(price=1e-7, **options):
    return Plan(price, {"conv": 1.0}, 8, **options)


# Samples.


def test_held_out_rows():
    held = is_held(10 * HOLD)
    assert held.sum() == 10
    assert np.array_equal(np.flatnonzero(held), np.arange(10) * HOLD + HOLD - 1)
    assert not is_held(HOLD - 1).any()


def test_few_vectors_are_all_used():
    case = samples(0, rows=400)
    layer, asked = layer_of(case)
    found = layer.moments(np.arange(layer.rows))
    assert np.array_equal(np.concatenate(asked), np.arange(400))
    assert same(found, Moments.of(case.x, case.y))
    assert layer.moments(np.arange(0)) is None


def test_rows_that_are_asked_for():
    """All pixels of these rows and of no others; the two halves are the whole."""
    case = samples(1, rows=800)
    layer, asked = layer_of(case, pixels=8)
    held = is_held(layer.rows)
    hold = layer.moments(np.flatnonzero(held))
    assert {int(v) // 8 for part in asked for v in part} == set(np.flatnonzero(held).tolist())
    fit = layer.moments(np.flatnonzero(~held))
    assert same(fit + hold, layer.moments(np.arange(layer.rows)))


def test_many_vectors_are_thinned_evenly(monkeypatch):
    """In pieces, no vector twice, from all rows and all pixels of a row."""
    assert VECTORS > PIECE
    monkeypatch.setattr("toolchain.packing.packer.VECTORS", 300)
    monkeypatch.setattr("toolchain.packing.packer.PIECE", 64)
    case = samples(2, rows=3000)
    layer, asked = layer_of(case, pixels=10)
    found = layer.moments(np.arange(300))
    chosen = np.concatenate(asked)
    assert found.count == len(chosen) == len(set(chosen.tolist())) == 300
    assert max(map(len, asked)) == 64
    assert np.array_equal(chosen // 10, np.arange(300))


# Packers.


def test_the_protocol():
    layer, _ = layer_of(samples(0))
    with pytest.raises(NotImplementedError):
        Packer().code(layer)


def test_a_survey_changes_nothing_and_predicts():
    case = smooth(3)
    layer, _ = layer_of(case)
    survey = Survey(8)
    assert survey.code(layer) is None
    assert survey.code(dataclasses.replace(layer, name="other", domain="none")) is None
    assert list(survey.problems) == ["conv"]
    found = [survey.predict(price, {"conv": 2.0}) for price in (1e-7, 1e-6, 1e-5)]
    assert [rate for rate, _ in found] == sorted((rate for rate, _ in found), reverse=True)
    assert [error for _, error in found] == sorted(error for _, error in found)
    problem, transform = survey.problems["conv"]
    energy = float(problem.statistics.energy.sum())
    alone = code(problem, transform, 1e-6 * energy / 2.0, 0.1, 1, 1, polish=False)
    assert found[1] == (alone.rate, pytest.approx(2.0 * alone.error / energy))


@pytest.mark.parametrize("domain", ["auto", "dct", "spatial"])
def test_a_plan_keeps_its_candidates(domain):
    case = smooth(4)
    layer, _ = layer_of(case, domain)
    plan = plan_of()
    found = plan.code(layer)
    assert plan.chosen["conv"][0] is found
    kinds = [c.coding.transform.kind for c in plan.chosen["conv"] if not c.coding.clusters]
    assert sorted(kinds) == sorted(t.kind for t in transforms(case.filters, domain))
    clustered = [c for c in plan.chosen["conv"] if c.coding.clusters]
    assert len(clustered) == (found.coding.is_frequency and domain != "spatial")
    for other in clustered:
        assert np.array_equal(other.coding.weights(), found.coding.weights())
    assert found.damping == plan.dampings["conv"]
    assert plan_of().code(layer) == found


def test_none_is_left_alone():
    layer, asked = layer_of(smooth(4), "none")
    assert plan_of().code(layer) is None
    assert not asked


def test_a_price_is_relative_to_the_layer():
    """Scaling outputs and weights by 8 changes binary points only; an unimportant layer pays less for its errors."""
    case = smooth(5)
    larger = dataclasses.replace(case.filters, weights=8 * case.filters.weights)
    scaled = dataclasses.replace(case, filters=larger, y=8 * case.y)
    a, b = (plan_of().code(layer_of(one)[0]) for one in (case, scaled))
    assert a.coding == b.coding
    assert a.fraction == b.fraction + 3
    careless = Plan(1e-7, {"conv": 0.01}, 8).code(layer_of(case)[0])
    assert careless.rate < 0.9 * a.rate
    assert careless.error > 1.5 * a.error


def test_dampings_are_kept():
    layer, _ = layer_of(smooth(6))
    dampings = {"conv": 1.0}
    plan = plan_of(dampings=dampings)
    assert plan.code(layer).damping == 1.0
    fresh = plan_of(dampings={})
    fresh.code(layer)
    assert fresh.dampings["conv"] != 1.0


def test_few_rows_are_not_trusted():
    case = smooth(7)
    few = dataclasses.replace(case, x=case.x[: FEWEST_ROWS - 1], y=case.y[: FEWEST_ROWS - 1])
    assert plan_of().code(layer_of(few, pixels=1)[0]).damping == inf
    one = dataclasses.replace(case, x=case.x[:1], y=case.y[:1])
    assert plan_of().code(layer_of(one, pixels=1)[0]).damping == inf


@pytest.mark.parametrize("seed", range(3))
def test_multiplications_are_those_of_the_report(seed):
    """By nonzero coefficients where the kernel is their exact combination: it is not rounded, nor clustered."""
    case = smooth(seed)
    case = dataclasses.replace(case, y=case.y + np.random.default_rng(9).normal(0, 0.3, case.y.shape))
    layer, _ = layer_of(case)
    plan = plan_of(1e-5, unit="multiplications")
    found = plan.code(layer)
    assert found.coding.is_frequency
    assert found.coding.rounded == 0
    assert found.rate == layer.pixels * np.count_nonzero(found.coding.coefficients)
    assert not any(c.coding.clusters for c in plan.chosen["conv"])


def coded_plan(price, parts):
    """A plan that coded layers with these (rate, error)."""
    plan = Plan(price, {}, 8)
    for name, (rate, error) in parts.items():
        plan.chosen[name] = [Candidate(Coding(Constant(np.zeros((1, 1, 1), int))), 0, error, rate, 0.1)]
        plan.errors[name] = 2.0
    return plan


def test_a_mixture_takes_the_layers_that_pay_most():
    keep = coded_plan(2.0, {"a": (100, 0.5), "b": (100, 0.5), "c": (100, 0.5), "d": (100, 0.5)})
    other = coded_plan(1.0, {"a": (110, 0.2), "b": (130, 0.2), "c": (90, 0.4), "d": (120, 0.6)})
    assert mixture(keep, other, 15, "rate") == {"a": 1.0, "c": 1.0}
    assert mixture(keep, other, 31, "rate") == {"a": 1.0, "b": 1.0, "c": 1.0}, "c makes room for b"
    assert mixture(keep, other, 0, "rate") == {"c": 1.0, "a": 1.0}
    assert mixture(keep, keep, 1000, "rate") == {}


def test_a_mixture_within_an_error():
    keep = coded_plan(1.0, {"a": (100, 0.1), "b": (100, 0.1)})
    other = coded_plan(2.0, {"a": (50, 0.2), "b": (90, 0.2)})
    assert mixture(keep, other, 0.25, "error") == {"a": 2.0}
    assert mixture(keep, other, 0.1, "error") == {}
    assert mixture(keep, other, 0.5, "error") == {"a": 2.0, "b": 2.0}
