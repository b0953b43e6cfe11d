"""All of ONNX's node cases for the operators that are imported, in floats and as a program of 16 bits.

Those that cannot pass are listed with the reason; what is not listed must pass, and what is listed must be refused.
"""

import re

import numpy as np
import pytest

from tests.ops.conformance import Form, forms, node_cases
from toolchain.errors import ToolchainError
from toolchain.frontends.importer import Importer
from toolchain.frontends.onnx import normalize
from toolchain.passes import pipeline
from toolchain.quantization.configuration import Configuration
from toolchain.quantization.lowering import lower
from toolchain.simulation import reference
from toolchain.simulation.simulator import Simulator

BITS = Configuration(weight_bits=16, activation_bits=16)
RELATIVE = 0.02
"""Declared for a program of 16 bits: the largest error over the largest output."""
JUMPS = {"ArgMax", "ArgMin", "TopK", "Sign"}
"""Equal or tiny inputs decide about an output as a whole."""

REASONS: dict[str, str] = {}

CASES = node_cases()


def reason(name: str) -> str | None:
    return next((why for pattern, why in REASONS.items() if re.fullmatch(pattern, name)), None)


def differences(form: Form) -> list[str]:
    """What is wrong with a form of a case. Raises ToolchainError when it is refused."""
    graph = pipeline.run(Importer(normalize(form.model), "case").run(), pipeline.REAL_PASSES)
    given = {i.name: i.from_model(form.inputs[i.name].astype(np.float64)) for i in graph.inputs}
    results = reference.evaluate(graph, given)
    wrong = []
    for output in graph.outputs:
        got, wanted = output.to_model(results[output.name]), form.outputs[output.name].astype(float)
        if got.shape != wanted.shape or not np.allclose(got, wanted, rtol=1e-3, atol=1e-4):
            wrong.append(f"{output.name} in floats")
    if wrong or any(i.dtype == np.float64 and abs(i).max(initial=0) > 1e30 for i in form.inputs.values()):
        return wrong
    calibration = {name: array.astype(np.float64) for name, array in form.inputs.items() if name in given}
    program = pipeline.run(lower(graph, calibration, BITS).graph, pipeline.EXACT_PASSES)
    simulator = Simulator(program, "reference")
    raw, fast = simulator.raw_outputs(calibration), Simulator(program, "fast").raw_outputs(calibration)
    for output in program.outputs:
        name = output.name
        if not np.array_equal(raw[name], fast[name]):
            wrong.append(f"{name} in the fast engine")
        wanted = form.outputs[name].astype(float)
        error = np.abs(simulator.scaled(name, raw[name]) - wanted)
        if (error > RELATIVE * np.abs(wanted).max(initial=1e-3)).mean() > 0:
            wrong.append(f"{name} as a program, by {error.max():.3g} of {np.abs(wanted).max():.3g}")
    return wrong


def outcome(case) -> str:
    """Empty when a form of the case passes, else what the last one says."""
    said = "has no form"
    for form in forms(case):
        try:
            wrong = differences(form)
        except ToolchainError as error:
            said = str(error)
            continue
        if not wrong:
            return ""
        said = "WRONG: " + "; ".join(wrong)
    return said


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_node_case(case):
    said, why = outcome(case), reason(case.name)
    if why is None:
        assert not said
    else:
        assert said, f"passes now, though it is listed: {why}"
        assert not said.startswith("WRONG")


def test_enough_operators_and_cases():
    operators = {case.model.graph.node[0].op_type for case in CASES}
    listed = [case.name for case in CASES if reason(case.name)]
    print(f"{len(operators)} operators, {len(CASES)} cases, {len(listed)} listed")
    assert len(operators) >= 60
    assert len(listed) <= 0.05 * len(CASES)
