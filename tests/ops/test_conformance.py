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

OUTSIDE = {
    r"test_training_dropout(_default)?(_mask)?|test_batchnorm_\w+_training_mode": "training",
    r"test_reduce_\w+_empty_set\w*|test_split_zero_size_splits_\w+": "empty tensors",
    r"test_slice_start_out_of_bounds|test_reshape_allowzero_reordered": "empty tensors",
    r"test_reduce_(max|min)_bool_inputs": "logic",
    r"test_identity_sequence": "a list of tensors",
    r"test_div_(u?int\d+)(_trunc)?": "division of integers, which cuts fractions off",
    r"test_(de)?quantizelinear_(e\dm\d|float4)\w*": "floating-point numbers of 4 and 8 bits",
}
"""What no network of real numbers computes when it is used. These do not count."""
REASONS = {
    r"test_flatten_(axis0|negative_axis4)": "one sample: the batch is flattened too, which is taken as a batch of one",
    r"test_flatten_(axis[23]|negative_axis[12])": "moves elements into the batch",
    r"test_gemm_(transposeA|all_attributes)": "mixes the samples of a batch",
    r"test_gemm_default_matrix_bias": "a bias for each sample of a batch",
    r"test_matmul_1d_[13]d": "a vector without a batch, from the left",
    r"test_maxpool_with_argmax_2d_precomputed_(pads|strides)": "indices of maxima, which MaxUnpool would need",
    r"test_convtranspose_3d": "three dimensions",
    r"test_(de)?quantizelinear_blocked\w*": "a scale for each block of a channel",
    r"test_quantizelinear_axis": "zero points that differ between the channels of a computed value",
    r"test_qlinearmatmul_3D\w*": "a matrix for each sample of a batch",
    r"test_resize_downsample_scales_(linear|cubic)_align_corners": "evaluators disagree about the length",
    r"test_resize_tf_crop_and_resize_extrapolation_value": "a number for what lies outside",
}
CASES = node_cases()


def reason(name: str, reasons: dict[str, str]) -> str | None:
    """Why a case is listed, None when it is not."""
    return next((why for pattern, why in reasons.items() if re.fullmatch(pattern, name)), None)


def differences(form: Form) -> list[str]:
    """What is wrong with a form of a case. Raises ToolchainError when it is refused."""
    graph = pipeline.run(Importer(normalize(form.model), "case").run(), pipeline.REAL_PASSES)
    given = {i.name: i.from_model(form.inputs[i.name].astype(np.float64)) for i in graph.inputs}
    results = reference.evaluate(graph, given)
    wrong = []
    for output in graph.outputs:
        got, wanted = output.to_model(results[output.name]), form.outputs[output.name].astype(float)
        tolerance = 1e-3 if form.outputs[output.name].itemsize > 2 else 1e-2
        if got.shape != wanted.shape or not np.allclose(got, wanted, rtol=tolerance, atol=tolerance / 10):
            wrong.append(f"{output.name} in floats")
    if wrong:
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
        if (error > RELATIVE * np.abs(wanted).max(initial=1e-3)).any():
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
    said, why = outcome(case), reason(case.name, OUTSIDE | REASONS)
    if why is None:
        assert not said
    else:
        assert said, f"passes now, though it is listed: {why}"
        assert not said.startswith("WRONG") or why.startswith("one sample")


def test_enough_operators_and_cases():
    operators = {case.model.graph.node[0].op_type for case in CASES}
    inside = [case.name for case in CASES if not reason(case.name, OUTSIDE)]
    listed = [name for name in inside if reason(name, REASONS)]
    print(f"{len(operators)} operators, {len(CASES)} cases, {len(inside)} of them to pass, {len(listed)} listed")
    assert len(operators) >= 60
    assert len(listed) <= 0.05 * len(inside)
