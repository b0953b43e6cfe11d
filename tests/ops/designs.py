"""One-operator programs as hardware: many generated designs in one C++ program, their integers and their steps.

Every design is what `build_network` and `render_hls` make of a graph, test bench included. The designs of one program
lie in folders of their own and share the kernels, so the vendor's headers are compiled once. A stand-in for the stream
records in which step of its process each word is read and written; steps are counted through the pragma macro.
"""

import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tests.cpp import compile_and_run
from tests.hls_templates.harness import TEMPLATES, WARNINGS
from toolchain.codegen.hls import render_hls
from toolchain.codegen.kernel import Folding, Kernel, pattern_steps
from toolchain.hardware.board import Resources, load_board
from toolchain.hardware.folding import fold, options
from toolchain.hardware.network import Network, build_network
from toolchain.ir import FixedType, Graph, Input, Node, Output, RealType, TensorType
from toolchain.ops import OPERATORS, Operator, Sample
from toolchain.ops.conv import Conv
from toolchain.ops.gemm import Gemm
from toolchain.ops.quantize import Quantize
from toolchain.quantization.configuration import Configuration, LayerConfiguration
from toolchain.simulation import reference

HUGE = Resources(dsp=10**6, bram36=10**6, uram=10**6, lut=10**8, ff=10**8)
PROBE = Path(__file__).parent / "probe"
_ENDS = "#include <ap_axi_sdata.h>\n#include <ap_fixed.h>"
BOARD = load_board("zcu104")
IGNORED = ("-Wno-unknown-pragmas", "-Wno-maybe-uninitialized", "-Wno-uninitialized", "-Wno-unused-variable")


# ---------------------------------------------------------------------------------------------- programs


@dataclass(frozen=True)
class Entry(Quantize):
    """Where integers of any type enter, those with several binary points too; the type's modes have no meaning."""

    given: TensorType | None = None

    def infer(self, inputs):
        return self.given

    def evaluate(self, *inputs):
        return np.asarray(inputs[0]).astype(np.int64)


def integer_operators() -> dict[str, type[Operator]]:
    """The registered operators that have an integer form."""
    return {name: cls for name, cls in sorted(OPERATORS.items()) if cls.ranges is not Operator.ranges}


def all_samples(seed: int) -> Iterator[tuple[str, Sample]]:
    """Every sample of every operator under its name."""
    for number, (name, cls) in enumerate(integer_operators().items()):
        for index, sample in enumerate(cls.samples(np.random.default_rng([seed, number]))):
            yield f"{name}_{index}", sample


def random_values(rng: np.random.Generator, given: TensorType, rows: int) -> np.ndarray:
    """Integers in the type's range: a row of each end, a row of ends mixed, then the whole range and around zero."""
    shape = (rows, *given.shape)
    values = rng.integers(given.low, given.high, shape, dtype=np.int64, endpoint=True)
    ends = np.array([given.low, given.high])
    values[:1], values[1:2] = given.low, given.high
    values[2:3] = rng.choice(ends, values[2:3].shape)
    near = np.clip(rng.integers(-3, 4, values[3:4].shape), given.low, given.high)
    values[3:4] = np.where(rng.integers(2, size=near.shape), near, values[3:4])
    return values


def program(name: str, operator: Operator, types: Sequence[TensorType], *behind: Operator) -> Graph:
    """A graph of one operator, its inputs x0, x1, ... entering as integers, with unary operators behind it."""
    inputs = tuple(Input(f"x{k}", RealType(t.shape), tuple(range(len(t.shape)))) for k, t in enumerate(types))
    nodes = [
        Node(f"x{k}/quantize", Entry(FixedType(t.width, t.width, t.signed), given=t), (f"x{k}",), f"x{k}")
        for k, t in enumerate(types)
    ]
    nodes.append(Node("y", operator, tuple(f"x{k}/quantize" for k in range(len(types))), "y"))
    for number, following in enumerate(behind):
        nodes.append(Node(f"y{number}", following, (nodes[-1].name,), f"y{number}"))
    graph = Graph(name, inputs, tuple(nodes), ())
    rank = len(graph.types[nodes[-1].name].shape)
    return replace(graph, outputs=(Output("y", nodes[-1].name, tuple(range(rank))),))


def program_inputs(graph: Graph, seed: int, rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {given.name: random_values(rng, graph.types[f"{given.name}/quantize"], rows) for given in graph.inputs}


def expected_outputs(graph: Graph, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    return reference.evaluate(graph, inputs)["y"]


# ---------------------------------------------------------------------------------------------- hardware


@dataclass(frozen=True)
class Design:
    """A network to be compiled, with the inputs it gets and the integers it has to give."""

    name: str
    network: Network
    inputs: Mapping[str, np.ndarray]
    expected: np.ndarray


@dataclass(frozen=True)
class Run:
    """What a design did: its outputs, what its test bench said, and the steps of the first frame.

    `steps` has the count of each process; `reads` and `writes` the step of every word by (process, stream).
    """

    outputs: np.ndarray
    passed: bool
    said: str
    steps: Mapping[str, int]
    reads: Mapping[tuple[str, str], list[int]]
    writes: Mapping[tuple[str, str], list[int]]


def foldings(graph: Graph) -> list[dict[str, LayerConfiguration]]:
    """Several foldings of a program's operator: one lane, all of them, something between, and PE against SIMD."""
    node = graph.by_name["y"]
    if not node.operator.kernels(*_kernel_types(graph, node), Folding()):
        return [{}]
    found = [o.folding for o in options(graph, node, LayerConfiguration(), "spatial")]
    legal = sorted({(f.simd or f.lanes, f.pe) for f in found if f.engine == "dense"})
    few = {legal[0], legal[-1], legal[len(legal) // 2]}
    few.add(min(legal, key=lambda f: (f[0], -f[1])))
    few.add(min(legal, key=lambda f: (-f[0], f[1])))
    over_taps = [(f.simd, f.pe) for f in found if f.simd and f.engine == "dense"]
    few.update(over_taps[len(over_taps) // 2 :][:1])
    return [{"y": LayerConfiguration(simd=lanes, pe=pe)} for lanes, pe in sorted(few)]


def sparse_foldings(graph: Graph) -> list[Folding]:
    """Foldings for the sparse engine in both domains, on copies of rows, and the clustered unit: few lanes and many,
    narrow and wide words.

    Words that the compiler would not choose are among them: one element a word in, all outputs a word out.
    """
    node = graph.by_name["y"]
    if not isinstance(node.operator, Conv | Gemm):
        return []
    kinds: dict[tuple[str, str, bool], list[Folding]] = {}
    for option in options(graph, node, LayerConfiguration()):
        if option.folding.engine == "sparse":
            f = option.folding
            kinds.setdefault((f.domain, f.copies, f.centres > 0), []).append(f)
    few: list[Folding] = []
    outputs = graph.types["y"].shape[-1]
    for found in kinds.values():
        found.sort(key=lambda f: (f.macs, f.units, f.pixels, f.lanes, f.pe))
        chosen = [found[0], found[len(found) // 2], max(found, key=lambda f: (f.pixels, f.macs))]
        narrow = min(found, key=lambda f: (f.lanes, -f.macs))
        chosen.append(replace(narrow, macs=7, units=1 if narrow.units == 1 else 7, pe=outputs))
        few += dict.fromkeys(chosen)
    return few


def folded(graph: Graph, wanted: Sequence[Folding]) -> list[Network]:
    """The dataflow network with each of these foldings of the program's operator; the rest is folded once for all."""
    others = fold(graph, HUGE, Configuration()) if wanted else {}
    return [build_network(graph, {**others, "y": folding}) for folding in wanted]


def _kernel_types(graph: Graph, node: Node) -> tuple[tuple[TensorType, ...], TensorType]:
    return graph.input_types(node), graph.types[node.name]


def network_of(graph: Graph, layers: Mapping[str, LayerConfiguration]) -> Network:
    """The dataflow network as the compiler makes it, with forced foldings."""
    return build_network(graph, fold(graph, HUGE, Configuration(layers=dict(layers))))


def with_config(network: Network, function: str, **changes: int | str) -> Network:
    """The network with entries of one kernel's config changed: what a mistake in the generator would give."""

    def changed(kernel: Kernel) -> Kernel:
        assert changes.keys() <= kernel.config.keys(), f"{function} has no {changes.keys() - kernel.config.keys()}"
        return replace(kernel, config={**kernel.config, **changes})

    assert any(p.kernel.function == function for p in network.processes), f"no kernel {function}"
    return replace(
        network,
        processes=tuple(
            replace(p, kernel=changed(p.kernel)) if p.kernel.function == function else p for p in network.processes
        ),
    )


def run_designs(designs: Sequence[Design], folder: Path, optimize: str = "-O0") -> dict[str, Run]:
    """Compiles all designs into one program and runs each in a process of its own."""
    (folder / "shared").mkdir()
    (folder / "shared" / "kernels").symlink_to(TEMPLATES)
    headers = sorted({process.kernel.header for design in designs for process in design.network.processes})
    source = ['#include "probe.h"', *(f'#include "kernels/{h}"' for h in ("testbench.h", *headers)), _ENDS]
    for design in designs:
        _write(design, folder / design.name)
    for design in designs:
        name = design.name
        source += [
            f"namespace {name}_all {{",  # the names of beats and the orders of the test bench are not a design's own
            f'#include "{name}/{name}.cpp"',
            "#define main run",
            f'#include "{name}/testbench.cpp"',
            "#undef main",
            "}",
        ]
    source += ["int main(int argc, char** argv) {", 'const std::string which = argc > 1 ? argv[1] : "";']
    source += [f'if (which == "{d.name}") return {d.name}_all::run(argc - 1, argv + 1);' for d in designs]
    source += ["return argc > 1 ? 3 : 0;", "}"]
    include = [f"-I{path}" for path in (PROBE, folder, folder / "shared", TEMPLATES / "sim", TEMPLATES)]
    compile_and_run("\n".join(source), folder, flags=(optimize, *WARNINGS, *IGNORED, *include))
    return {design.name: _run(design, folder) for design in designs}


def _write(design: Design, folder: Path) -> None:
    folder.mkdir()
    name, network = design.network.name, design.network
    assert name == design.name, f"{design.name} became {name}"
    files = render_hls(network, BOARD, 200.0, design.inputs, {network.outputs[0].name: design.expected})
    headers = (f"src/{name}.h", "src/build_id.h", "src/configs.h", "src/constants.h")
    for path in (*headers, f"src/{name}.cpp", "tb/testbench.cpp"):
        text = files[path]
        if path == f"src/{name}.cpp":
            text, count = re.subn(r"(?m)^ +dct::\w+<(\w+)_config>\(.*\);$", _probed(network), text)
            assert count == len(network.processes)
        (folder / Path(path).name).write_text(text)
    (folder / "inputs.dat").write_text(files["tb_data/inputs.dat"])
    (folder / "outputs.dat").write_text(files["tb_data/outputs.dat"])


def _probed(network: Network):
    """Reports steps, reads and writes behind the call of each process."""
    processes = {process.name: process for process in network.processes}

    def report(match: re.Match) -> str:
        process = processes[match[1]]
        calls = [f'probe::steps("{process.name}");']
        calls += [f'probe::words("read", "{process.name}", "{s}", {s}.reads);' for s in process.inputs]
        calls += [f'probe::words("write", "{process.name}", "{s}", {s}.writes);' for s in process.outputs]
        return f"{match[0]} {' '.join(calls)}"

    return report


def _run(design: Design, folder: Path) -> Run:
    place = folder / design.name
    dump = place / "dump.txt"
    command = [str(folder / "main"), design.name, "--inputs", str(place / "inputs.dat")]
    command += ["--outputs", str(place / "outputs.dat"), "--dump", str(dump)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    said = done.stdout.decode(errors="replace")
    steps: dict[str, int] = {}
    events: dict[str, dict[tuple[str, str], list[int]]] = {"read": {}, "write": {}}
    for line in said.splitlines():
        words = line.split()
        if words[:1] == ["steps"] and words[1] not in steps:
            steps[words[1]] = int(words[2])
        elif words[:1] in (["read"], ["write"]):
            events[words[0]].setdefault((words[1], words[2]), [int(w) for w in words[3:]])
    spoken = " ".join(line for line in said.splitlines() if line.startswith(("PASS", "FAIL")))
    spoken = spoken or f"exit {done.returncode} {done.stderr.decode(errors='replace')[:500]}"
    got = np.array([int(v) for v in dump.read_text().split()] if dump.exists() else [], dtype=np.int64)
    shape = design.expected.shape
    outputs = got.reshape(shape) if got.size == design.expected.size else got
    return Run(outputs, done.returncode == 0, spoken, steps, events["read"], events["write"])


def first_difference(expected: np.ndarray, got: np.ndarray) -> str | None:
    """The comparison that all tests of this folder use: None where all integers are equal, else what differs."""
    expected, got = np.asarray(expected), np.asarray(got)
    if expected.shape != got.shape:
        return f"shape {got.shape}, expected {expected.shape}"
    for array in (expected, got):
        if array.dtype.kind == "f" and not (array == np.floor(array)).all():
            return "not all values are integers"
    if np.array_equal(expected.astype(object), got.astype(object)):
        return None
    index = tuple(int(k) for k in np.argwhere(np.asarray(expected != got))[0])
    return f"index {index}: expected {expected[index]}, got {got[index]}"


def schedule_differences(network: Network, run: Run) -> list[str]:
    """Where the steps of the C++ are not those that the kernels tell the dataflow simulation."""
    wrong = []
    for process in network.processes:
        schedule = process.kernel.schedule
        if run.steps.get(process.name) != schedule.steps:
            wrong.append(f"{process.name} makes {run.steps.get(process.name)} steps, not {schedule.steps}")
        for stream, pattern in zip(process.inputs, schedule.reads, strict=True):
            if run.reads.get((process.name, stream)) != pattern_steps(pattern).tolist():
                wrong.append(f"{process.name} reads {stream} in other steps than its schedule says")
        wrong += [
            f"{process.name} writes {stream} in other steps than its schedule says"
            for stream in process.outputs
            if run.writes.get((process.name, stream)) != pattern_steps(schedule.writes).tolist()
        ]
    return wrong


def chunks(designs: Iterable[Design], size: int) -> list[list[Design]]:
    designs = list(designs)
    return [designs[start : start + size] for start in range(0, len(designs), size)]
