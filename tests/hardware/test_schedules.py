"""Whole generated designs: in which step of which loop each word is read and written, against the schedules.

The C++ runs over streams that remember the step of each access, and steps are counted through the kernels' pragma
macro (`tests/ops/probe`). `tests/ops` does the same for each operator alone. So the simulation of `test_dataflow` is
given what the C++ does.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.cpp import compile_and_run
from tests.hardware.designs import program_of
from tests.hardware.tokens import run
from tests.small import Model
from toolchain.codegen.hls import render_hls
from toolchain.codegen.kernel import Loops, pattern_steps
from toolchain.compiler import make_design
from toolchain.frontends import read_graph
from toolchain.hardware.board import load_board
from toolchain.hardware.dataflow_bounded import finished
from toolchain.passes import pipeline
from toolchain.quantization.configuration import Configuration
from toolchain.quantization.lowering import lower

ROOT = Path(__file__).parents[2]
FRAMES = 2


def digits(folder):
    """The example, as `make demo` compiles it. Program, board, and interval asked for."""
    real = pipeline.run(read_graph(ROOT / "examples/digits/digits.onnx"), pipeline.REAL_PASSES)
    with np.load(ROOT / "examples/digits/digits.npz") as arrays:
        pictures = next(arrays[name] for name in arrays if arrays[name][0].size == np.prod(real.inputs[0].model_shape))
    data = {real.inputs[0].name: pictures[:16].reshape(-1, *real.inputs[0].model_shape).astype(float)}
    return pipeline.run(lower(real, data, Configuration()).graph, pipeline.EXACT_PASSES), "pynq-z2", 0


def mixed(folder):
    """A skip connection, a concatenation, pools, a convolution of few nonzeros, and two outputs."""
    m = Model()
    x = m.input("x", 1, 3, 9, 8)
    same = {"pads": [1, 1, 1, 1]}
    a = m.add("Relu", m.add("Conv", x, m.noise(8, 3, 3, 3), name="stem", **same), name="a")
    sparse = m.rng.normal(size=(8, 8, 3, 3)) * (m.rng.random((8, 8, 3, 3)) < 0.04)
    b = m.add("Conv", a, m.constant(sparse), name="thin", **same)
    c = m.add("Relu", m.add("Add", a, b, name="sum"), name="c")
    d = m.add("MaxPool", c, kernel_shape=[3, 3], strides=[2, 2], name="most", **same)
    e = m.add("AveragePool", c, kernel_shape=[3, 3], strides=[2, 2], name="mean", **same)
    f = m.add("Concat", d, e, axis=1, name="both")
    g = m.add("Conv", f, m.noise(16, 1, 3, 3), name="deep", group=16, **same)
    m.output(m.add("Softmax", m.add("Flatten", m.add("GlobalAveragePool", g, name="gap")), name="soft"))
    m.output(m.add("Conv", f, m.noise(6, 16, 1, 1), name="point"))
    return program_of(m, folder), "zcu104", 4000


WANTED = {
    digits: {"sliding_window", "matrix_vector", "requantize", "fork", "add"},
    mixed: {"sliding_window", "sparse_matrix_vector", "max_pool", "average_pool", "concat", "add", "fork", "depthwise"},
}


@pytest.fixture(scope="module", params=WANTED, ids=lambda make: make.__name__)
def logged(request, tmp_path_factory):
    """A network, and what its C++ did: lines of words by their first two."""
    folder = tmp_path_factory.mktemp(request.param.__name__)
    graph, board, interval = request.param(folder)
    network = make_design(graph, load_board(board), 100.0, Configuration(), interval).network
    assert WANTED[request.param] <= {process.kernel.function for process in network.processes}
    return network, run_probed(network, load_board(board), folder)


def run_probed(network, board, folder):
    """Runs the generated C++ for FRAMES frames; (kind, process, stream) -> a list of step numbers for each frame."""
    frame = {t.name: np.zeros((1, t.type.size), np.int64) for t in (*network.inputs, *network.outputs)}
    for path, text in render_hls(network, board, 100.0, frame, frame).items():
        place = folder / "hls" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    top = folder / f"hls/src/{network.name}.cpp"
    text, count = re.subn(r"(?m)^ +dct::\w+<(\w+)_config>\(.*\);$", probes(network), top.read_text())
    assert count == len(network.processes)
    top.write_text(text)
    terminals = (*network.inputs, *network.outputs)
    main = ['#include "probe.h"', f'#include "{network.name}.cpp"', "int main() {", "unsigned build_id;"]
    main += [f"hls::stream<{t.identifier}_beat> {t.identifier};" for t in terminals]
    main += [
        f"for (int k = 0; k < {FRAMES * t.type.size // t.lanes}; ++k) {t.identifier}.write({t.identifier}_beat());"
        for t in network.inputs
    ]
    main += [f"{network.name}({', '.join(t.identifier for t in terminals)}, {FRAMES}, build_id);", "}"]
    include = [
        f"-I{ROOT / 'tests/ops/probe'}",
        *(f"-I{folder / 'hls' / part}" for part in ("sim", "src", "src/kernels")),
    ]
    said = compile_and_run("\n".join(main), folder, flags=("-O0", "-w", *include)).decode()
    found: dict[tuple[str, ...], list[list[int]]] = {}
    for line in said.splitlines():
        words = line.split()
        head = 2 if words[0] == "steps" else 3
        found.setdefault(tuple(words[:head]), []).append([int(word) for word in words[head:]])
    return found


def probes(network):
    """Behind the call of each process: prints its steps, and those of its reads and writes so far."""
    processes = {process.name: process for process in network.processes}

    def behind(match: re.Match) -> str:
        process = processes[match[1]]
        calls = [f'probe::steps("{process.name}");']
        calls += [f'probe::words("read", "{process.name}", "{s}", {s}.reads);' for s in process.inputs]
        calls += [f'probe::words("write", "{process.name}", "{s}", {s}.writes);' for s in process.outputs]
        return f"{match[0]} {' '.join(calls)}"

    return behind


def differences(network, found):
    """Where the C++ does not do what the schedules say, in any frame."""
    wrong = []
    for process in network.processes:
        schedule = process.kernel.schedule
        if found["steps", process.name] != [[schedule.steps]] * FRAMES:
            wrong.append(f"{process.name} makes {found['steps', process.name]} steps, not {schedule.steps}")
        sides = [("read", *pair) for pair in zip(process.inputs, schedule.reads, strict=True)]
        sides += [("write", stream, schedule.writes) for stream in process.outputs]
        for kind, stream, pattern in sides:
            steps = pattern_steps(pattern).tolist()
            # A terminal outlives the frame, and remembers.
            expected = [steps * (1 if stream in network.streams else k + 1) for k in range(FRAMES)]
            if found[kind, process.name, stream] != expected:
                wrong.append(f"{process.name}: {kind} of {stream}")
    return wrong


def test_the_cpp_reads_and_writes_in_the_steps_of_the_schedules(logged):
    network, found = logged
    assert differences(network, found) == []


def test_these_designs_run_as_stepping_says(logged):
    """With the depths that the generated C++ has."""
    network, _ = logged
    depths = {name: stream.depth for name, stream in network.streams.items()}
    assert run(network, depths, frames=FRAMES).finished == finished(network, depths, FRAMES)


def test_a_wrong_schedule_is_noticed(logged):
    """One word a step later than the C++ writes or reads it, or one step more, of any process."""
    network, found = logged
    for number, process in enumerate(network.processes):
        schedule = process.kernel.schedule
        late = [
            replace(schedule, steps=schedule.steps + 1),
            replace(schedule, writes=moved(schedule.writes)),
            replace(schedule, reads=(*schedule.reads[:-1], moved(schedule.reads[-1]))),
        ]
        for other in late:
            changed = replace(process, kernel=replace(process.kernel, schedule=other))
            processes = (*network.processes[:number], changed, *network.processes[number + 1 :])
            wrong = differences(replace(network, processes=processes), found)
            assert wrong
            assert all(line.startswith(process.name) for line in wrong)


def moved(pattern):
    steps = pattern_steps(pattern)
    return tuple(Loops(int(step), ()) for step in (*steps[:-1], steps[-1] + 1))
