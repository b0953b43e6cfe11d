"""HLS scripts and configurations of every board, as `compile` writes them; those of each flow with loaded weights."""

import re

import numpy as np
import pytest

from tests.hardware.designs import program_of
from tests.small import Model, rows
from tests.tcl.harness import check_configuration, needs_tclsh, run
from toolchain.codegen.hls import render_hls
from toolchain.codegen.project import write_files
from toolchain.compiler import compile_model, make_design
from toolchain.hardware.board import board_names, load_board
from toolchain.quantization.configuration import Configuration

pytestmark = [pytest.mark.tcl, needs_tclsh]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """One dense layer."""
    m = Model()
    m.input("x", 1, 4)
    m.output(m.add("Gemm", "x", m.noise(4, 3), name="g"))
    return program_of(m, tmp_path_factory.mktemp("program"))


@pytest.fixture(params=board_names())
def rendered(request, program, tmp_path):
    board = load_board(request.param)
    design = make_design(program, board, board.clock_mhz, Configuration())
    frame = np.zeros((1, 4), np.int64)
    sides = ({t.name: frame for t in side} for side in (design.network.inputs, design.network.outputs))
    folder = tmp_path / "hls"
    write_files(folder, render_hls(design.network, board, board.clock_mhz, *sides))
    return board, design.network.name, folder


def test_scripts_and_configuration(rendered, tmp_path):
    board, name, folder = rendered
    form = "xo" if board.flow == "vitis" else "ip_catalog"
    for stage in ("csim", "csynth", "cosim", "ip"):
        done = run(folder / "run_hls.tcl", "hls", tmp_path, {"STAGE": stage})
        assert (done.status, done.errors, done.problems) == (0, "", ())
        words = {call.name: call.words for call in done.calls}
        assert words["set_part"] == (board.part,)
        assert words["set_top"] == (name,)
        period = float(re.fullmatch(r"-period ([\d.]+) -name default", " ".join(words["create_clock"]))[1])
        assert period == pytest.approx(1000 / board.clock_mhz, abs=0.001)
    assert words["export_design"][:2] == ("-format", form)
    assert check_configuration(folder / "hls_config.cfg") == []
    assert (folder / "flow/flow.json").is_file()


@pytest.mark.parametrize("board", ["pynq-z2", "kv260", "u250", "vck190", "arty-a7-100t"])
def test_scripts_of_loaded_weights(board, tmp_path):
    """One board of each flow: the test bench is told where the weights are, in both simulations and both flows."""
    m = Model()
    m.input("x", 1, 4)
    m.output(m.add("Gemm", "x", m.noise(4, 3), name="g"))
    compile_model(
        m.save(tmp_path / "m.onnx"), tmp_path / "p", calibrate=rows(8, 4), board=board, weight_memory="loaded"
    )
    folder = tmp_path / "p/hls"
    for stage in ("csim", "csynth", "cosim", "ip"):
        done = run(folder / "run_hls.tcl", "hls", tmp_path, {"STAGE": stage})
        assert (done.status, done.errors, done.problems) == (0, "", ())
        told = [word for call in done.calls for word in call.words if "--inputs" in word]
        assert [f"--weights {folder}/tb_data/weights.bin" in word for word in told] == [True] * (
            stage in ("csim", "cosim")
        )
    assert check_configuration(folder / "hls_config.cfg") == []
    text = (folder / "hls_config.cfg").read_text()
    assert len(re.findall(r"^c(?:o?)sim\.argv=.* --weights tb_data/weights\.bin$", text, re.MULTILINE)) == 2
    assert (folder / "tb_data/weights.bin").read_bytes() == (tmp_path / "p/weights.bin").read_bytes()
