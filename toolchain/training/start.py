"""Where fine-tuning starts: the float network packed without training, its real coefficients in those steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from toolchain.ir import Array, Graph
from toolchain.ops.linear import LinearOperator
from toolchain.packing.importance import measure_importance
from toolchain.packing.packed import Packed
from toolchain.packing.packer import Plan, Survey
from toolchain.progress import Progress
from toolchain.quantization.budget import PRICES
from toolchain.quantization.configuration import Configuration
from toolchain.quantization.lowering import PACKING_ROWS, Lowered, chosen_rows, lower
from toolchain.training.network import Latent

BISECTIONS = 24


@dataclass(frozen=True)
class Start:
    """A packed program, the real coefficients of its layers by name, and the output error of plain quantization."""

    lowered: Lowered
    latents: Mapping[str, Latent]
    plain_error: float


def start(real: Graph, data: Mapping[str, Array], configuration: Configuration, bits: float, report: Progress) -> Start:
    """Packs a real graph to about so many bits of levels; their steps and transforms are what training keeps.

    Formats are chosen on calibration `data`, as `lower` does it.
    """
    with threadpool_limits(limits=1, user_api="blas"):
        survey = Survey(configuration.weight_bits)
        plain = lower(real, data, configuration, report, survey)
        rows = chosen_rows(real, data, PACKING_ROWS)
        importance = measure_importance(real, {one.name: one.from_model(rows[one.name]) for one in real.inputs}, report)
        low, high = (math.log(price) for price in PRICES)
        for step in range(BISECTIONS):
            report("choosing steps", step, BISECTIONS)
            middle = (low + high) / 2
            if survey.predict(math.exp(middle), importance)[0] > bits:
                low = middle
            else:
                high = middle
        plan = Plan(math.exp(high), importance, configuration.weight_bits, executable=True)
        lowered = lower(real, data, configuration, report, plan)
    latents = {}
    for node in lowered.graph.nodes:
        operator = node.operator
        if not isinstance(operator, LinearOperator) or not isinstance(operator.weights, Packed):
            continue
        origin = real.by_name[node.name].operator
        assert isinstance(origin, LinearOperator)
        coding, weights = operator.weights.coding, origin.filters.weights
        taps, channels, _ = weights.shape
        steps = np.ldexp(1.0, np.array(coding.shifts) - operator.fractions[0])
        coefficients = coding.transform.forward(weights) / steps[coding.transform.frequency(taps, channels)][..., None]
        limit = (1 << configuration.weight_bits - 1) - 1
        bias = np.ldexp(operator.bias.array.astype(np.float64), -_points(lowered.graph, node.inputs[0], operator))
        latents[node.name] = Latent(coefficients, bias, limit)
    return Start(lowered, latents, plain.output_error)


def _points(graph: Graph, value: str, operator: LinearOperator) -> int:
    return int(operator.fractions[0] + getattr(graph.types[value], "fraction", 0))
