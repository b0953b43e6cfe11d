"""Foldings stay within HLS's limits and the board's budget; what a user asks for is honoured or refused."""

import itertools

import pytest

from tests.hardware.designs import DESIGNS, design_of, program_of, residual
from tests.small import Model
from toolchain.compiler import make_design
from toolchain.errors import ConfigurationError
from toolchain.hardware import folding
from toolchain.hardware.board import Resources, load_board
from toolchain.hardware.dataflow import simulate
from toolchain.hardware.foldings import UNROLL, divisors
from toolchain.hardware.network import WORD_BITS, build_network
from toolchain.hardware.resources import DSP_SHARE, exceeded, network_estimate
from toolchain.ops.conv import Conv
from toolchain.ops.gemm import Gemm
from toolchain.ops.quantize import Quantize
from toolchain.ops.reshape import Reshape
from toolchain.quantization.configuration import Configuration, LayerConfiguration


def wide() -> Model:
    """So wide that words and unrolling hit their limits."""
    m = Model()
    m.input("x", 1, 512)
    x = m.add("Gemm", "x", m.noise(512, 300), m.noise(300), name="a")
    m.output(m.add("Gemm", m.add("Relu", x, name="r"), m.noise(300, 97), name="b"))
    return m


def test_divisors():
    for number in range(1, 300):
        assert divisors(number) == [d for d in range(1, number + 1) if number % d == 0]


@pytest.mark.parametrize("name", [*DESIGNS, "wide"])
def test_limits_of_the_tool(tmp_path, name):
    graph = program_of((DESIGNS | {"wide": wide})[name](), tmp_path)
    for node in graph.nodes:
        if isinstance(node.operator, Quantize | Reshape):
            continue
        found = folding.options(graph, node, LayerConfiguration())
        assert len({o.folding for o in found}) == len(found)
        for option in found:
            if isinstance(node.operator, Conv | Gemm) and option.folding.engine == "dense":
                assert option.folding.lanes * option.folding.pe <= UNROLL
            assert option.folding.lanes * option.folding.macs * option.folding.pixels <= UNROLL
            kernels = node.operator.kernels(graph.input_types(node), graph.types[node.name], option.folding)
            for port in itertools.chain.from_iterable((*k.inputs, k.output) for k in kernels):
                assert port.bits <= WORD_BITS
                assert port.words * port.lanes == port.type.size
    everything = Resources(dsp=10**6, bram36=10**6, uram=0, lut=10**9, ff=10**9)
    network = build_network(graph, folding.fold(graph, everything, Configuration()))
    assert all(stream.port.bits <= WORD_BITS for stream in network.streams.values())
    for terminal in (*network.inputs, *network.outputs):
        bits = terminal.lanes * terminal.lane_bits
        assert bits & (bits - 1) == 0
        assert 8 <= bits <= 512


@pytest.mark.parametrize("board", ["pynq-z2", "zcu104", "u250"])
@pytest.mark.parametrize("name", ["skip", "wide"])
def test_budget_of_the_board(tmp_path, board, name):
    resources = load_board(board).resources
    design = design_of((DESIGNS | {"wide": wide})[name](), tmp_path, board=board)
    total = network_estimate(design.network)
    assert total.dsp <= DSP_SHARE * resources.dsp
    assert total.bram36 <= resources.bram36


def test_what_joins_the_kernels_counts_too(tmp_path):
    """With narrow weights LUTs bind, and FIFOs take a good part of them: the folding leaves room for these."""
    board = load_board("pynq-z2")
    graph = program_of(residual(2, 32), tmp_path, Configuration(weight_bits=2))
    design = make_design(graph, board, 100.0, Configuration())
    assert not exceeded(network_estimate(design.network), board.resources)
    alone = build_network(graph, folding.fold(graph, board.resources, Configuration()))
    alone = alone.with_depths(simulate(alone).depths)
    assert exceeded(network_estimate(alone), board.resources), "this network no longer shows what is tested"


def test_more_hardware_is_never_slower(tmp_path):
    graph = program_of(DESIGNS["skip"](), tmp_path)
    intervals = []
    for dsp in (4, 20, 60, 200, 1000):
        resources = Resources(dsp=dsp, bram36=200, uram=0, lut=5_000, ff=10**6)
        network = build_network(graph, folding.fold(graph, resources, Configuration()))
        intervals.append(max(p.kernel.schedule.steps for p in network.processes))
        assert network_estimate(network).dsp <= dsp
    assert intervals == sorted(intervals, reverse=True)
    assert intervals[0] > intervals[-1]


def test_a_rate_is_met_cheaply(tmp_path):
    fast, slow = (design_of(DESIGNS["skip"](), tmp_path, interval) for interval in (0, 3000))
    assert slow.timing.interval <= 3000 + 8
    assert network_estimate(slow.network).dsp < network_estimate(fast.network).dsp
    assert fast.timing.interval < slow.timing.interval


@pytest.mark.parametrize(("pe", "simd"), [(2, 4), (4, None), (None, 2), (1, 1)])
def test_forced_foldings(tmp_path, pe, simd):
    graph = program_of(DESIGNS["skip"](), tmp_path)
    forced = Configuration(layers={"c1": LayerConfiguration(pe=pe, simd=simd)})
    chosen = folding.fold(graph, load_board("zcu104").resources, forced)["c1"]
    assert pe in (None, chosen.pe)
    assert simd in (None, chosen.simd or chosen.lanes)


@pytest.mark.parametrize(("pe", "simd"), [(3, 1), (1, 5), (8, 1), (1, 8), (10**9, 10**9)])
def test_impossible_foldings_are_refused(tmp_path, pe, simd):
    graph = program_of(DESIGNS["skip"](), tmp_path)
    forced = Configuration(layers={"c1": LayerConfiguration(pe=pe, simd=simd)})
    with pytest.raises(ConfigurationError, match="c1"):
        folding.fold(graph, load_board("zcu104").resources, forced)
