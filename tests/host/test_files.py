"""The files of host/, for every board: the same bytes each time, and what they say is what the hardware is."""

import ast
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.small import rows, run, two_ports
from toolchain.codegen.flow import render_flow
from toolchain.codegen.hls import hls_build_id
from toolchain.codegen.host import model_shape, render_host
from toolchain.codegen.project import write_files
from toolchain.codegen.registers import registers
from toolchain.compiler import compile_model
from toolchain.hardware.board import board_names, load_board
from toolchain.hardware.folding import fold
from toolchain.hardware.network import build_network
from toolchain.project import load
from toolchain.quantization.configuration import Configuration

NAMES = {
    *("README.md", "accelerator.json", "dct_accelerator.py", "dct_pynq.py", "dct_xrt.py", "run.py"),
    *(f"c/{name}" for name in ("accelerator.c", "accelerator.h", "design.c", "design.h", "linux.c", "Makefile")),
    *("c/numbers.c", "c/numbers.h", "c/registers.h", "xrt/Makefile", "xrt/host.cpp", "xrt/npy.hpp"),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    data = {"a": rows(8, 2, 6, 6), "b": rows(8, 4, 3, 3)}
    compile_model(two_ports(folder / "two.onnx"), folder / "project", calibrate=data)
    return load(folder / "project")


@pytest.fixture(scope="module")
def network(project):
    board = load_board("zcu104")
    return build_network(project.graph, fold(project.graph, board.resources, Configuration(), 0))


@pytest.mark.parametrize("name", board_names())
def test_every_board_has_hosts(network, name, tmp_path):
    board = load_board(name)
    files = render_host(network, board, board.clock_mhz, 0x12345678, decoders=0)
    assert set(files) == NAMES
    assert files == render_host(network, board, board.clock_mhz, 0x12345678, decoders=0)
    description = json.loads(files["accelerator.json"])
    assert (description["board"], description["flow"]) == (name, board.flow)
    assert (description["build_id"], description["clock_mhz"]) == (0x12345678, board.clock_mhz)
    assert "0x12345678U" in files["c/design.c"]
    for path, content in files.items():
        assert isinstance(content, str)
        assert content.endswith("\n")
        assert not content.endswith("\n\n")
        assert str(Path(__file__).parents[2]) not in content
        if path.endswith(".py"):
            ast.parse(content, feature_version=(3, 8))
    write_files(tmp_path, files)
    for part in ("c", "xrt"):
        done = subprocess.run(["make", "-n", "-C", tmp_path / part], capture_output=True, text=True, check=True)
        assert "numbers.c" in done.stdout
    compiler = re.search(r"make CC=(\S+)", files["c/Makefile"])[1]
    bits = board.processor.bits if board.processor else 64
    assert compiler == {32: "arm-linux-gnueabihf-gcc", 64: "aarch64-linux-gnu-gcc"}[bits]


def test_a_project_describes_its_own_hardware(project):
    description = json.loads((project.path / "host/accelerator.json").read_text())
    assert {path.relative_to(project.path / "host").as_posix() for path in (project.path / "host").rglob("*.*")} | {
        "c/Makefile",
        "xrt/Makefile",
    } == NAMES
    header = (project.path / "hls/src/build_id.h").read_text()
    assert description["build_id"] == hls_build_id({"src/build_id.h": header})
    assert f"{description['build_id']:#010x}" in header
    top = (project.path / f"hls/src/{description['name']}.cpp").read_text()
    for name, one in description["registers"].items():
        assert f"port={name} offset={one['offset']:#04x}" in top
    for kind, terminals in (("inputs", project.graph.inputs), ("outputs", project.graph.outputs)):
        assert [one["name"] for one in description[kind]] == [one.name for one in terminals]
        for one in description[kind]:
            assert f"mode=axis port={one['identifier']} " in top
            assert one["dma"] == f"dma_{one['identifier']}"
    assert [one["shape"] for one in description["inputs"]] == [list(one.model_shape) for one in project.graph.inputs]


ADDRESSES = {"pynq-z2": 0x43C00000, "zcu104": 0xA0000000, "kv260": 0xA0000000}


@pytest.mark.parametrize("name", ["pynq-z2", "zcu104", "kv260", "u250", "vck190", "arty-a7-100t"])
def test_the_addresses_of_the_block_design(network, name):
    """Those that system.tcl assigns: in the description, in design.h and in the README's command."""
    board = load_board(name)
    files = render_host(network, board, board.clock_mhz, 5, decoders=0)
    found = json.loads(files["accelerator.json"])["addresses"]
    if name not in ADDRESSES:
        assert found == {}
        assert "ADDRESS" not in files["c/design.h"]
        return
    script = render_flow(network, board, board.clock_mhz, decoders=0)["flow/system.tcl"]
    assigned = {
        cell: int(at, 16) for cell, at in re.findall(r"^ +(\w+)/\w+/Reg (0x[0-9A-F]{8})$", script, re.MULTILINE)
    }
    assert assigned.pop("interrupt_controller")
    assert found == assigned
    assert found["accelerator_0"] == ADDRESSES[name]
    ordered = [f"0x{at:08X}" for at in found.values()]
    assert f"#define ACCELERATOR_ADDRESS {ordered[0]}U\n" in files["c/design.h"]
    assert f"#define ACCELERATOR_INPUT_ADDRESSES {{{ordered[1]}U, {ordered[2]}U}}\n" in files["c/design.h"]
    assert f"#define ACCELERATOR_OUTPUT_ADDRESSES {{{ordered[3]}U, {ordered[4]}U}}\n" in files["c/design.h"]
    assert f"./example {' '.join(ordered)} udmabuf0" in files["README.md"]


@pytest.mark.parametrize("decoders", [0, 1, 5])
def test_one_register_map(network, decoders):
    files = render_host(network, load_board("pynq-z2"), 100.0, 5, decoders)
    described = json.loads(files["accelerator.json"])["registers"]
    assert list(described) == [one.name for one in registers(decoders)]
    for one in registers(decoders):
        assert described[one.name] == {"offset": one.offset, "bits": one.bits, "direction": one.direction}
        assert f"#define ACCELERATOR_{one.name.upper()} {one.offset:#04x}U\n" in files["c/registers.h"]
    ends = [one.offset + (8 if one.bits == 64 else 4) for one in registers(True)]
    starts = [one.offset for one in registers(True)]
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))


@pytest.mark.parametrize("model", [(), (7,), (1, 8), (8, 1), (2, 3, 4), (3, 1, 5), (1, 1, 1), (4, 1, 1)])
def test_shapes_come_back_from_sizes_and_strides(network, model):
    strides = [int(np.prod(model[k + 1 :])) for k in range(len(model))]
    for turn in range(max(1, len(model))):
        axes = [*range(turn, len(model)), *range(turn)]
        missing = 5 - len(model)
        sizes = (1,) * missing + tuple(model[a] for a in axes)
        walk = (0,) * missing + tuple(strides[a] for a in axes)
        assert model_shape(replace(network.inputs[0], sizes=sizes, strides=walk)) == model


def test_names_of_a_model_cannot_break_out(network, tmp_path):
    """Titles come from the model; they are data in JSON and C."""
    hostile = 'x"; */ int main(void){return 1;} /* \\\n#error \u2028 "'
    named = replace(network, inputs=tuple(replace(one, name=hostile) for one in network.inputs))
    files = render_host(named, load_board("pynq-z2"), 100.0, 5, decoders=0)
    assert json.loads(files["accelerator.json"])["inputs"][0]["name"] == hostile
    write_files(tmp_path, files)
    strict = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only")
    subprocess.run(["gcc", *strict, tmp_path / "c/design.c", tmp_path / "c/linux.c"], check=True)


def test_the_programs_explain_themselves(project):
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    argv = [sys.executable, "run.py", "--help"]
    done = subprocess.run(argv, cwd=project.path / "host", capture_output=True, text=True, check=True, env=environment)
    for option in ("--image", "--inputs", "--outputs", "--raw", "--weights", "--repeat", "--batch", "--timeout"):
        assert option in done.stdout


def test_the_command_line_writes_them(tmp_path):
    two_ports(tmp_path / "two.onnx")
    np.savez(tmp_path / "x.npz", a=rows(8, 2, 6, 6), b=rows(8, 4, 3, 3))
    code = run("compile", tmp_path / "two.onnx", "--calibrate", tmp_path / "x.npz", "-o", tmp_path / "p", "--clock", 77)
    assert code == 0
    assert json.loads((tmp_path / "p/host/accelerator.json").read_text())["clock_mhz"] == 77
