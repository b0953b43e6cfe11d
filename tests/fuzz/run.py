"""Runs random cases through every rendering and compares all integers, of all values, with zero tolerance.

    model file  --import-->  real graph  --lower-->  program  --exact passes-->  program  --fold, render-->  C++
       |                         |                      |                           |                         |
    ONNX Runtime   (close)   evaluated  .............  reference  (equal)  reference, fast   (equal)    C simulation

Many designs share a translation unit, each in a namespace of its own, behind one precompiled header: the vendor's
headers cost more than any of these networks.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from tests.cpp import ap_types_path, compile_once
from tests.embedded.checked import STRICTEST
from tests.embedded.checked import verify as verify_c
from tests.fuzz.generate import Case
from toolchain.codegen import hls
from toolchain.codegen.kernel import Folding, pattern_steps
from toolchain.compiler import container_size
from toolchain.errors import PassError, ToolchainError
from toolchain.frontends.importer import Importer
from toolchain.frontends.onnx import normalize
from toolchain.hardware import board, dataflow, folding, network, terminals
from toolchain.hardware.foldings import divisors
from toolchain.ir import Graph, TensorType
from toolchain.ops.quantize import Quantize
from toolchain.ops.reshape import Reshape
from toolchain.passes import pipeline
from toolchain.quantization.budget import lower_packed
from toolchain.simulation import reference
from toolchain.simulation.simulator import Simulator

TEMPLATES = Path(__file__).parents[2] / "hls_templates"
BOARD = "zcu104"
TOLERANCE = 2e-4
"""Relative, of float32 arithmetic in ONNX Runtime against float64 here. The only comparison that is not of integers."""
DESIGNS = 32
"""In one translation unit: 16 compile in little more time than 8, since they share the vendor's templates."""
JOBS = 2
FLAGS = ("-std=c++17", "-O0", "-w", "--param", "ggc-min-expand=1000", "--param", "ggc-min-heapsize=2000000")
"""Not optimized: 8 designs compile in 15 s and run in 0.3 s."""
CHOSEN_SEPARATELY = 7  # a stream of random numbers for foldings


@dataclass(frozen=True)
class Failure:
    """What went wrong with a case. `kind` and `error` stay the same while the case is reduced."""

    kind: str
    message: str
    error: str = ""

    def same(self, other: Failure | None) -> bool:
        return other is not None and (self.kind, self.error) == (other.kind, other.error)

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


class Failed(Exception):
    def __init__(self, kind: str, message: str, error: str = "") -> None:
        super().__init__(message)
        self.failure = Failure(kind, message, error)


@dataclass
class Built:
    """A compiled case: its program, its design, and what every value has to be."""

    case: Case
    program: Graph
    design: network.Network
    files: dict[str, Any]
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    trace: dict[str, np.ndarray]
    rows: int


@dataclass
class Summary:
    """Figures of a campaign."""

    networks: int = 0
    inputs: int = 0
    values: int = 0
    differing_bits: int = 0
    failures: list[tuple[Case, Failure]] = field(default_factory=list)
    invalid: list[tuple[Case, Failure]] = field(default_factory=list)
    """Cases that ONNX Runtime itself does not run; they count for nothing."""
    without_c: int = 0
    """Programs that need integers of more than 64 bits, which C has not."""

    def __str__(self) -> str:
        return (
            f"networks {self.networks}, inputs {self.inputs}, values compared {self.values}, "
            f"differing bits {self.differing_bits}, failures {len(self.failures)}, without C {self.without_c}"
        )


# Python: import, lowering, exact passes, both engines.


def build(case: Case, rows: int, summary: Summary | None = None) -> Built:
    """Compiles a case and compares everything that needs no C++. Raises Failed."""
    summary = summary if summary is not None else Summary()
    tests = case.arrays(rows, 1)
    model, expected = guarded("onnxruntime", lambda: run_onnx(case, tests))
    real = guarded("import", lambda: Importer(normalize(model), case.name).run())
    compare_real("import", real, tests, expected)
    optimized = guarded("real pass", lambda: pipeline.run(real, pipeline.REAL_PASSES))
    compare_real("real pass", optimized, tests, expected)
    calibration = case.arrays(case.settings.rows, 0)
    configuration = case.settings.configuration
    lowered = guarded(
        "lower", lambda: lower_packed(optimized, calibration, configuration, container_size)
    ).lowered.graph
    program = guarded("exact pass", lambda: pipeline.run(lowered, pipeline.EXACT_PASSES))
    trace: dict[str, np.ndarray] = {}
    outputs = guarded("reference", lambda: evaluate(program, tests, trace))
    check_ranges(program, trace)
    for name, values in guarded("reference", lambda: evaluate(lowered, tests, {})).items():
        compare(f"exact pass: output {name}", outputs[name], values, summary)
    fast = guarded("fast", lambda: Simulator(program, "fast"))
    for name, values in guarded("fast", lambda: fast.raw_outputs(tests)).items():
        compare(f"fast: output {name}", outputs[name], values, summary)
    for name, values in guarded("fast", lambda: dict(fast.trace(tests))).items():
        compare(f"fast: value {name}", trace[name], values, summary)
    for name, values in guarded("fast", lambda: Simulator(program, "reference").raw_outputs(tests)).items():
        compare(f"reference engine: output {name}", outputs[name], values, summary)
    check_c(program, tests, summary)
    design, files = guarded("codegen", lambda: render(case, program, tests, outputs))
    check_fifos(design)
    inputs = {
        given.name: Quantize.evaluate(entry(program, given.name).operator, np.asarray(tests[given.name], np.float64))
        for given in program.inputs
    }
    return Built(case, program, design, files, inputs, outputs, trace, rows)


def guarded(kind: str, step: Callable[[], Any]) -> Any:
    """Turns any exception of a step into a failure."""
    try:
        return step()
    except Failed:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.name}"
        raise Failed(kind, f"{type(error).__name__} in {where}: {error}", f"{type(error).__name__} {where}") from error


def run_onnx(case: Case, tests: dict[str, np.ndarray]) -> tuple[Any, dict[str, np.ndarray]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # its optimizer has bugs
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(case.model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in case.model.graph.output]
    free = bool(case.model.graph.input[0].type.tensor_type.shape.dim[0].dim_param)
    rows = len(next(iter(tests.values())))
    batches = [slice(None)] if free else [slice(k, k + 1) for k in range(rows)]
    parts = [session.run(names, {name: values[batch] for name, values in tests.items()}) for batch in batches]
    return case.model, {name: np.concatenate([part[k] for part in parts]) for k, name in enumerate(names)}


def compare_real(kind: str, graph: Graph, tests: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    got = guarded(kind, lambda: evaluate(graph, {name: values.astype(float) for name, values in tests.items()}, {}))
    for name, values in expected.items():
        if got[name].shape != values.shape:
            raise Failed(kind, f"output {name} has the shape {got[name].shape}, not {values.shape}", "shape")
        scale = max(1.0, float(np.abs(values).max()))
        difference = np.abs(got[name] - values).max()
        if not difference <= TOLERANCE * scale:
            raise Failed(
                kind, f"output {name} differs by {difference} from ONNX Runtime (largest value {scale})", "value"
            )


def evaluate(graph: Graph, tests: dict[str, np.ndarray], trace: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs in the model's layout; every value goes to `trace`, channels-last."""
    values = {given.name: given.from_model(tests[given.name]) for given in graph.inputs}
    results = reference.evaluate(graph, values, trace.__setitem__)
    return {output.name: output.to_model(results[output.name]) for output in graph.outputs}


def check_ranges(program: Graph, trace: dict[str, np.ndarray]) -> None:
    """Does every value stay in the range that its type promises?"""
    for name, values in trace.items():
        type = program.types[name]
        assert isinstance(type, TensorType)
        if values.shape[1:] != type.shape:
            raise Failed("range", f"value {name} has the shape {values.shape[1:]}, not {type.shape}", "shape")
        if values.min() < type.low or values.max() > type.high:
            raise Failed("range", f"value {name} reaches [{values.min()}, {values.max()}], its type is {type}", "value")


def compare(what: str, expected: np.ndarray, got: np.ndarray, summary: Summary) -> None:
    """Counts, and raises Failed at a difference; its kind is the part of `what` before the colon."""
    kind, _, place = what.partition(": ")
    if expected.shape != got.shape:
        raise Failed(kind, f"{place} has the shape {got.shape}, not {expected.shape}", "shape")
    summary.values += expected.size
    differing = expected != got
    if differing.any():
        first = np.unravel_index(int(np.argmax(differing)), expected.shape)
        pairs = zip(expected[differing], got[differing], strict=True)
        wrong = sum(((int(a) ^ int(b)) & ((1 << 64) - 1)).bit_count() for a, b in pairs)
        summary.differing_bits += wrong
        index = [int(k) for k in first]
        raise Failed(
            kind,
            f"{place} {index}: expected {expected[first]}, got {got[first]}; {differing.sum()} values differ",
            "value",
        )


def check_c(program: Graph, tests: dict[str, np.ndarray], summary: Summary) -> None:
    """The embedded C under sanitizers, every layer. Programs of more than 64 bits have none."""
    with tempfile.TemporaryDirectory(prefix="fuzz-c-") as folder:
        try:
            agreement = verify_c(program, tests, Path(folder) / "c", machine=STRICTEST)
        except PassError:
            summary.without_c += 1
            return
        except ToolchainError as error:
            raise Failed("embedded", str(error), type(error).__name__) from error
        summary.values += agreement.values


def entry(program: Graph, name: str) -> Any:
    return next(node for node in program.nodes if node.inputs == (name,) and isinstance(node.operator, Quantize))


def render(
    case: Case, program: Graph, tests: Any, outputs: dict[str, np.ndarray]
) -> tuple[network.Network, dict[str, Any]]:
    """The design with random foldings, and the files of its project."""
    zcu = board.load_board(BOARD)
    configuration = case.settings.configuration
    if case.settings.foldings == "solver":
        foldings = folding.fold(program, zcu.resources, configuration)
    else:
        foldings = random_foldings(case, program)
    design = network.build_network(program, foldings)
    design = design.with_depths(dataflow.simulate(design).depths)
    few = {name: np.asarray(values[:1], dtype=np.int64) for name, values in outputs.items()}
    zeros = {t.name: np.zeros((1, t.type.size), np.int64) for t in design.inputs}
    return design, dict(hls.render_hls(design, zcu, 200, zeros, few))


def check_fifos(design: network.Network, frames: int = 2) -> None:
    """Runs the design with FIFOs of the chosen depths. Whether that ends does not depend on timing (Kahn networks)."""
    held = dict.fromkeys(design.streams, 0)
    waiting = {process.name: events(process) * frames for process in design.processes}
    progress = True
    while waiting and progress:
        progress = False
        for name, order in list(waiting.items()):
            done = 0
            for reads, stream in order:
                if stream in held:
                    if held[stream] == (0 if reads else design.streams[stream].depth):
                        break
                    held[stream] += -1 if reads else 1
                done += 1
            progress = progress or done > 0
            waiting[name] = order[done:]
            if not waiting[name]:
                del waiting[name]
    if waiting:
        raise Failed("fifo", f"the design stops: {', '.join(waiting)} wait", "deadlock")
    if any(held.values()):
        raise Failed("fifo", f"words are left: { {name: n for name, n in held.items() if n} }", "left over")


def events(process: network.Process) -> list[tuple[bool, str]]:
    """What a process does in a frame, in order: (reads?, stream)."""
    steps: list[tuple[int, int, int, str]] = []
    for name, pattern in zip(process.inputs, process.kernel.schedule.reads, strict=True):
        steps += [(int(step), 0, k, name) for k, step in enumerate(pattern_steps(pattern))]
    for name in process.outputs:
        steps += [(int(step), 1, k, name) for k, step in enumerate(pattern_steps(process.kernel.schedule.writes))]
    return [(kind == 0, name) for _, kind, _, name in sorted(steps)]


def random_foldings(case: Case, program: Graph) -> dict[str, Folding]:
    rng = np.random.default_rng([case.settings.seed, CHOSEN_SEPARATELY])
    foldings = {}
    for node in program.nodes:
        if isinstance(node.operator, Quantize):
            type = program.types[node.name]
            assert isinstance(type, TensorType)
            bits = terminals.lane_bits(type.width)
            legal = [n for n in divisors(type.size) if n * bits <= 512 and n * bits & (n * bits - 1) == 0]
            foldings[node.name] = Folding(legal[int(rng.integers(len(legal)))])
        elif not isinstance(node.operator, Reshape):
            configuration = case.settings.configuration
            options = folding.options(program, node, configuration.layer(node.layer), configuration.execute)
            foldings[node.name] = options[int(rng.integers(len(options)))].folding
    return foldings


# C++: many designs in a program that reads beats and writes beats and traces.

HARNESS = """
#include <cstdio>
#include <cstdint>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace fuzz {

typedef std::vector<std::uint64_t> limbs;

struct record { long words = 0; limbs data; };

// All streams of a design in the order in which they were first declared.
struct log {
    std::vector<std::string> names;
    std::map<std::string, std::shared_ptr<record> > records;
    std::shared_ptr<record> of(const std::string& name) {
        std::shared_ptr<record>& found = records[name];
        if (!found) { found = std::make_shared<record>(); names.push_back(name); }
        return found;
    }
};

inline log& current() { static log l; return l; }

template <int N>
std::uint64_t limb(const ap_int<N>& word, int k) {
    if constexpr (N <= 64) return word.to_uint64();
    else return word.V.get_pVal(k);
}

template <int N>
void append(record& r, const ap_int<N>& word) {
    ++r.words;
    for (int k = 0; k < (N + 63) / 64; ++k) r.data.push_back(limb(word, k));
}

template <int N>
void observe(hls::stream<ap_int<N> >& stream, const char* name) {
    std::shared_ptr<record> r = current().of(name);
    stream.on_write([r](const ap_int<N>& word) { append(*r, word); });
}

template <class S>
void drained(S& stream, const char* name) {
    if (!stream.empty()) throw std::runtime_error(std::string("words are left in ") + name);
}

template <int D>
void send(std::FILE* file, int beats, hls::stream<ap_axis<D, 0, 0, 0> >& stream) {
    for (int beat = 0; beat < beats; ++beat) {
        std::uint64_t raw[(D + 63) / 64] = {};
        if (std::fread(raw, D / 8, 1, file) != 1) throw std::logic_error("no input");
        ap_axis<D, 0, 0, 0> value;
        if constexpr (D <= 64) value.data = raw[0];
        else { value.data = 0; for (int k = 0; k < D / 64; ++k) value.data.V.get_pVal(k) = raw[k]; }
        value.keep = -1;
        value.strb = -1;
        value.last = beat == beats - 1;
        stream.write(value);
    }
}

template <int D>
void receive(hls::stream<ap_axis<D, 0, 0, 0> >& stream, int beats, const char* name) {
    std::shared_ptr<record> r = current().of(name);
    for (int beat = 0; beat < beats; ++beat) {
        const ap_axis<D, 0, 0, 0> value = stream.read();
        if (bool(value.last) != (beat == beats - 1)) throw std::runtime_error(std::string("TLAST of ") + name);
        append(*r, value.data);
    }
    drained(stream, name);
}

inline void finish(const char* path, const char* error) {
    std::FILE* file = std::fopen(path, "wb");
    std::fprintf(file, "%s\\n%zu\\n", error, current().names.size());
    for (const std::string& name : current().names) {
        const record& r = *current().records[name];
        std::fprintf(file, "%s %ld %zu\\n", name.c_str(), r.words, r.data.size());
        std::fwrite(r.data.data(), 8, r.data.size(), file);
    }
    std::fclose(file);
    current() = log();
}

template <class F>
void design(const char* in, const char* out, F frames) {
    std::FILE* file = std::fopen(in, "rb");
    std::string error;
    try { frames(file); } catch (const std::exception& e) { error = e.what(); }
    std::fclose(file);
    finish(out, error.c_str());
}

}  // namespace fuzz

#undef DCT_TRACE
#define DCT_TRACE(stream, element_t, lanes) ::fuzz::observe(stream, #stream)
"""


def precompiled_header(folder: Path) -> Path:
    """All kernels and the harness, compiled once for all campaigns that share the folder."""
    header = folder / "all.h"
    kernels = sorted(str(path.relative_to(TEMPLATES)) for path in (*TEMPLATES.glob("*.h"), *TEMPLATES.glob("ops/*.h")))
    includes = ["ap_fixed.h", "ap_int.h", *(k for k in kernels if k != "testbench.h")]
    includes.insert(0, "word.h")
    text = "".join(f"#include <{name}>\n" for name in includes)
    compile_once(header, text + HARNESS, run_compiler)
    return header


def run_compiler(arguments: Sequence[str]) -> None:
    compiler = shutil.which("g++")
    assert compiler is not None, "g++ is not installed"
    includes = [f"-I{TEMPLATES / 'sim'}", f"-I{TEMPLATES}", "-isystem", str(ap_types_path())]
    done = subprocess.run([compiler, *FLAGS, *includes, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line]
        first = re.sub(r"^.*?error: ", "", (errors or [done.stderr])[0])
        raise Failed(
            "C++ compiler", "\n".join(errors[:3]) or done.stderr[:500], re.sub(r"\d+|'.*?'|‘.*?’", "", first)[:60]
        )


def source(built: Built, folder: Path) -> str:
    """A design in a namespace of its own, with a function that runs its frames."""
    name = built.design.name
    parts = ["src/build_id.h", "src/configs.h", "src/constants.h", f"src/{name}.h", f"src/{name}.cpp"]
    lines = [
        line
        for part in parts
        for line in built.files[part].splitlines()
        if not line.startswith(("#include", f"#ifndef {name}_", f"#define {name}_", "#endif"))
    ]
    top = max(k for k, line in enumerate(lines) if line == f"void {name}(")
    end = max(k for k, line in enumerate(lines[:top]) if line == "    }")  # of the loop over frames
    lines[end:end] = [f'    ::fuzz::drained({stream}, "{stream}");' for stream in built.design.streams]
    terminals = (*built.design.inputs, *built.design.outputs)
    declared = [f"hls::stream<{t.identifier}_beat> {t.identifier};" for t in terminals]
    sends = [f"::fuzz::send(file, {t.type.size // t.lanes}, {t.identifier});" for t in built.design.inputs]
    call = f"unsigned build_id = 0; {name}({', '.join(t.identifier for t in terminals)}, 1, build_id);"
    drains = [f'::fuzz::drained({t.identifier}, "{t.identifier}");' for t in built.design.inputs]
    receives = [
        f'::fuzz::receive({t.identifier}, {t.type.size // t.lanes}, "{t.identifier}");' for t in built.design.outputs
    ]
    body = [*declared, *sends, call, *drains, *receives]
    return "\n".join(
        [
            f"namespace unit_{name} {{",
            *lines,
            "void frames(std::FILE* file) {",
            f"for (int frame = 0; frame < {built.rows}; ++frame) {{",
            *body,
            "}",
            "}",
            f'void run() {{ ::fuzz::design("{folder}/{name}.in", "{folder}/{name}.out", frames); }}',
            "}",
        ]
    )


def write_beats(built: Built, folder: Path) -> None:
    """All frames' beats of all inputs, in stream order."""
    frames = [stream_beats(t, built.inputs[t.name], built.rows) for t in built.design.inputs]
    with (folder / f"{built.design.name}.in").open("wb") as file:
        for row in range(built.rows):
            for beats in frames:
                file.write(beats[row].tobytes())


def stream_beats(terminal: terminals.Terminal, values: np.ndarray, rows: int) -> np.ndarray:
    flat = values.reshape(rows, -1)[:, positions(terminal)]
    return np.ascontiguousarray(flat.astype(f"<i{terminal.lane_bits // 8}"))


def positions(terminal: terminals.Terminal) -> np.ndarray:
    """Where each element of the stream lies in the model's layout."""
    place = np.zeros(1, np.int64)
    for size, stride in zip(terminal.sizes, terminal.strides, strict=True):
        place = np.add.outer(place, np.arange(size) * stride).ravel()
    return place


def simulate(group: Sequence[Built], folder: Path, header: Path) -> None:
    """Compiles and runs a translation unit. Raises Failed when it does not compile or crashes."""
    unit = folder / f"unit_{hashlib.sha256(' '.join(b.design.name for b in group).encode()).hexdigest()[:12]}"
    calls = "".join(f"    unit_{built.design.name}::run();\n" for built in group)
    text = [*(source(built, folder) for built in group), f"int main() {{\n{calls}}}\n"]
    unit.with_suffix(".cpp").write_text("\n".join(text))
    for built in group:
        write_beats(built, folder)
        (folder / f"{built.design.name}.out").unlink(missing_ok=True)
    run_compiler(["-include", str(header), "-o", str(unit), str(unit.with_suffix(".cpp"))])
    try:
        done = subprocess.run([str(unit)], capture_output=True, text=True, check=False, timeout=300)
    except subprocess.TimeoutExpired:
        raise Failed("csim", "does not end", "timeout") from None
    if done.returncode:
        raise Failed("csim", f"ends with {done.returncode}: {done.stderr[-300:]}", "crash")


def check_csim(built: Built, folder: Path, summary: Summary) -> None:
    """Compares outputs and every traced value. Raises Failed."""
    name = built.design.name
    error, streams = read_log(folder / f"{name}.out")
    for value, stream in built.design.value_streams.items():
        port = built.design.streams[stream].port
        expected = built.trace[value].reshape(built.rows, -1)
        got = (
            decode(streams[stream], port.type.width, port.type.signed, port.lanes) if stream in streams else np.zeros(0)
        )
        whole = got[: got.size // expected.shape[1] * expected.shape[1]].reshape(-1, expected.shape[1])
        rows = min(len(whole), built.rows)
        compare(f"csim: value {value}", expected[:rows], whole[:rows], summary)
        if not error and got.size != expected.size:
            raise Failed("csim", f"value {value} has {got.size} elements, not {expected.size}", "shape")
    if error:
        raise Failed("csim", error, "exception " + error.split(" ")[0])
    for terminal in built.design.outputs:
        type = f"<{'i' if terminal.type.signed else 'u'}{terminal.lane_bits // 8}"
        words, data = streams[terminal.identifier]
        width = terminal.lanes * terminal.lane_bits // 8
        beats = data.reshape(words, -1).view(np.uint8)[:, :width]
        got = np.empty((built.rows, terminal.type.size), np.int64)
        got[:, positions(terminal)] = np.ascontiguousarray(beats).view(type).reshape(built.rows, -1)
        compare(f"csim: output {terminal.name}", built.outputs[terminal.name].reshape(built.rows, -1), got, summary)


def read_log(path: Path) -> tuple[str, dict[str, tuple[int, np.ndarray]]]:
    with path.open("rb") as file:
        error = file.readline().decode().strip()
        streams = {}
        for _ in range(int(file.readline())):
            name, words, count = file.readline().decode().split()
            streams[name] = int(words), np.frombuffer(file.read(8 * int(count)), dtype="<u8")
    return error, streams


def decode(stream: tuple[int, np.ndarray], width: int, signed: bool, lanes: int) -> np.ndarray:
    """Elements of words that hold `lanes` of them."""
    words, data = stream
    bits = np.unpackbits(data.view(np.uint8).reshape(words, -1), axis=1, bitorder="little")[:, : lanes * width]
    bits = bits.reshape(words * lanes, width).astype(object if width > 62 else np.int64)
    values = bits @ np.array([1 << k for k in range(width)], dtype=bits.dtype)
    if signed:
        values = values - (bits[:, -1] << width)
    return values.astype(np.int64) if width <= 63 or signed else values


# Campaigns.


def check(case: Case, rows: int, folder: Path, header: Path | None, summary: Summary | None = None) -> Failure | None:
    """One case by itself; without `header` only what needs no C++."""
    summary = summary if summary is not None else Summary()
    try:
        built = build(case, rows, summary)
        if header is not None:
            simulate([built], folder, header)
            check_csim(built, folder, summary)
    except Failed as failed:
        return failed.failure
    return None


def campaign(
    cases: Iterable[Case],
    rows: int,
    folder: Path,
    progress: Callable[[Summary], None] = lambda _: None,
    shared: Path | None = None,
) -> Summary:
    """All cases, DESIGNS a translation unit, JOBS units at once. `shared` is where the precompiled header is kept."""
    summary = Summary()
    with ThreadPoolExecutor(JOBS) as pool:
        header = pool.submit(precompiled_header, shared or folder)
        running: list[Any] = []
        group: list[Built] = []

        def flush(limit: int) -> None:
            if group:
                running.append(pool.submit(_group, list(group), folder, header.result()))
                group.clear()
            while len(running) > limit:
                part = running.pop(0).result()
                summary.values += part.values
                summary.differing_bits += part.differing_bits
                summary.failures += part.failures
                progress(summary)

        for case in cases:
            summary.networks += 1
            summary.inputs += rows
            try:
                group.append(build(case, rows, summary))
            except Failed as failed:
                if failed.failure.kind == "onnxruntime":
                    summary.networks, summary.inputs = summary.networks - 1, summary.inputs - rows
                    summary.invalid.append((case, failed.failure))
                else:
                    summary.failures.append((case, failed.failure))
            if len(group) == DESIGNS:
                flush(JOBS)
        flush(0)
    return summary


def _group(group: list[Built], folder: Path, header: Path) -> Summary:
    part = Summary()
    try:
        simulate(group, folder, header)
    except Failed as failed:
        if len(group) == 1:
            part.failures.append((group[0].case, failed.failure))
            return part
        for built in group:  # one of them is at fault
            alone = _group([built], folder, header)
            part.values += alone.values
            part.differing_bits += alone.differing_bits
            part.failures += alone.failures
        return part
    for built in group:
        try:
            check_csim(built, folder, part)
        except Failed as failed:
            part.failures.append((built.case, failed.failure))
    return part
