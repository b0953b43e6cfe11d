"""What the report says about the unit that executes a layer."""

import pytest

from tests.hardware.test_execution import clustered_layer, layer
from tests.ops.designs import HUGE
from toolchain.codegen.kernel import Folding
from toolchain.hardware.folding import fold
from toolchain.hardware.network import build_network
from toolchain.quantization.configuration import Configuration
from toolchain.report.packing import engine_entry


def engine(graph, folding):
    network = build_network(graph, {**fold(graph, HUGE, Configuration()), "y": folding})
    return engine_entry(process for process in network.processes if process.node == "y")


@pytest.mark.parametrize(
    ("shape", "folding", "binds"),
    [
        ((32, 8, 8), Folding(8, 8, "sparse", "spatial", 4, 8), "nonzeros"),
        ((8, 8, 8), Folding(8, 8, "sparse", "spatial", 7, 8), "first and last rounds"),
        ((32, 8, 8), Folding(1, 8, "sparse", "spatial", 16, 8), "fill"),
        ((32, 2, 16), Folding(2, 1, "sparse", "spatial", 16, 8), "drain"),
    ],
)
def test_the_report_says_what_a_sparse_unit_waits_for(shape, folding, binds):
    assert engine(layer(*shape), folding)["binds"] == binds


def test_the_units_have_names():
    graph = clustered_layer(0.05)
    for folding, unit in (
        (Folding(1, 1), "dense"),
        (Folding(1, 4, "sparse", "frequency"), "sparse"),
        (Folding(1, 4, "sparse", "frequency", centres=2), "clustered"),
    ):
        found = engine(graph, folding)
        assert found["unit"] == unit
        assert found["execution"] == folding.domain
