"""Weight containers against the C++ of a project whose hardware reads them."""

import dataclasses
import subprocess

import pytest

from toolchain.codegen.hls import decimal_rows
from toolchain.compiler import raw_frames
from toolchain.packing.packed import Packed
from toolchain.project import store_program
from toolchain.verification import csim


def changed(graph, name, change):
    """The graph with other levels of one layer."""
    node = graph.by_name[name]
    weights = node.operator.weights
    packed = Packed(dataclasses.replace(weights.coding, **change(weights.coding)), weights.shape)
    other = dataclasses.replace(node, operator=dataclasses.replace(node.operator, weights=packed))
    return graph.with_nodes(tuple(other if one is node else one for one in graph.nodes))


def container_of(graph) -> bytes:
    return store_program(graph, shared=False).weights


def build_bench(hls, folder, cxxflags):
    """The test bench of a project and the objects it was linked from; returns their folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXXFLAGS", cxxflags)
        csim._build(hls, folder)
    return folder


def run_driver(source, hls, built, containers, graph, arrays, folder, cxxflags) -> str:
    """What a C++ program says that drives the accelerator: it gets inputs, outputs and a file of each container."""
    files = []
    for code, content in containers.items():
        files.append(folder / f"{code}.bin")
        files[-1].write_bytes(content)
    inputs, outputs = raw_frames(graph, arrays)
    (folder / "in.dat").write_text(decimal_rows(list(inputs.values())))
    (folder / "out.dat").write_text(decimal_rows(list(outputs.values())))
    (folder / "driver.cpp").write_text(source)
    flags = [*cxxflags.split(), "-w", f"-I{hls}", f"-I{hls}/sim", f"-I{hls}/src", f"-I{hls}/src/kernels"]
    command = ["g++", *flags, "-isystem", csim.ap_types(), folder / "driver.cpp", built / "accelerator.o"]
    done = subprocess.run([*command, "-o", folder / "driver"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    argv = [folder / "driver", folder / "in.dat", folder / "out.dat", *files]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout
