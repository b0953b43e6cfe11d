"""Runs many calls of the C++ kernels in one program: compiling the vendor's headers is what takes time.

A `Case` is one call with its inputs and the outputs expected of it. The streams travel as files of int64, element by
element in stream order. Iterations of pipelined loops are counted through the kernels' pragma macro.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.cpp import compile_and_run

TEMPLATES = Path(__file__).parents[2] / "hls_templates"
WARNINGS = ["-Wall", "-Wextra", "-Werror"]


def options() -> tuple[str, ...]:
    """For tests.cpp.compile_and_run, which knows where the vendor's own headers are; ours go before them."""
    return *WARNINGS, f"-I{TEMPLATES / 'sim'}", f"-I{TEMPLATES}"


@dataclass(frozen=True)
class Stream:
    """Elements of C++ type `type`, `lanes` a word; `values` of all frames, one after the other."""

    type: str
    lanes: int
    values: np.ndarray


@dataclass(frozen=True)
class Case:
    """`call` is a C++ expression over the config `C`, streams in0, in1, ... and out0, out1, ..., and `constants`."""

    name: str
    header: str
    call: str
    config: dict[str, int | str]
    inputs: Sequence[Stream]
    outputs: Sequence[Stream]
    steps: int
    frames: int = 1
    constants: str = ""

    def source(self, folder: Path) -> str:
        """The namespace of this case, whose run() makes the calls."""
        body = []
        for i, stream in enumerate(self.inputs):
            file = folder / f"{self.name}.in{i}"
            np.ravel(stream.values).astype(np.int64).tofile(file)
            body += [declare(f"in{i}", stream), f'fill<{stream.type}, {stream.lanes}>(in{i}, "{file}");']
        body += [declare(f"out{i}", stream) for i, stream in enumerate(self.outputs)]
        body += [f"for (int frame = 0; frame < {self.frames}; ++frame) {self.call};"]
        body += [
            f'drain<{stream.type}, {stream.lanes}>(out{i}, "{folder}/{self.name}.out{i}");'
            for i, stream in enumerate(self.outputs)
        ]
        left = " + ".join(f"in{i}.size()" for i in range(len(self.inputs)))
        body += [f'std::printf("{self.name} %ld %zu\\n", steps, {left});', "steps = 0;"]
        return "\n".join(
            [
                f"namespace {self.name} {{",
                struct("C", self.config),
                self.constants,
                "void run() {",
                *body,
                "}",
                "}",
            ]
        )


def declare(name: str, stream: Stream) -> str:
    return f"hls::stream<dct::word_t<{stream.type}, {stream.lanes}> > {name};"


def struct(name: str, config: dict[str, int | str]) -> str:
    """A config struct: integers are constants, strings are types."""
    members = [
        f"typedef {value} {key};" if isinstance(value, str) else f"static const {integer(value)} {key} = {value};"
        for key, value in config.items()
    ]
    return f"struct {name} {{ {' '.join(members)} }};"


def integer(value: int) -> str:
    return "int" if -(2**31) < value < 2**31 else "long long"


def array(name: str, values: Iterable[int], type: str = "long long") -> str:
    values = [int(v) for v in np.ravel(np.asarray(values))]
    return f"const {type} {name}[{len(values)}] = {{{', '.join(map(str, values))}}};"


def weight_array(folds: np.ndarray, width: int) -> str:
    """`folds` (folds, elements) packed as the kernels want it: 64-bit chunks, no element across two of them."""
    per_chunk = 64 // width
    rows = []
    for fold in folds:
        chunks = [fold[i : i + per_chunk] for i in range(0, len(fold), per_chunk)]
        rows.append([sum((int(w) % 2**width) << (i * width) for i, w in enumerate(chunk)) for chunk in chunks])
    text = ", ".join("{" + ", ".join(f"{chunk}ULL" for chunk in row) + "}" for row in rows)
    return f"const unsigned long long weights[{len(rows)}][{len(rows[0])}] = {{{text}}};"


SUPPORT = """
#include <cstdio>
static long steps = 0;
#define DCT_HLS(...) if (is_pipeline(#__VA_ARGS__)) ++steps;
constexpr bool is_pipeline(const char* pragma) { return pragma[0] == 'p' && pragma[1] == 'i'; }
"""

TRANSPORT = """
template <class T, int LANES>
void fill(hls::stream<dct::word_t<T, LANES> >& stream, const char* name) {
    std::FILE* file = std::fopen(name, "rb");
    long long element;
    T values[LANES];
    for (int lane = 0; std::fread(&element, 8, 1, file) == 1; lane = (lane + 1) % LANES) {
        values[lane] = element;
        if (lane == LANES - 1) stream.write(dct::pack(values));
    }
    std::fclose(file);
}

template <class T, int LANES>
void drain(hls::stream<dct::word_t<T, LANES> >& stream, const char* name) {
    std::FILE* file = std::fopen(name, "wb");
    T values[LANES];
    while (!stream.empty()) {
        dct::unpack(stream.read(), values);
        for (int lane = 0; lane < LANES; ++lane) {
            const long long element = values[lane].to_int64();
            std::fwrite(&element, 8, 1, file);
        }
    }
    std::fclose(file);
}
"""


def run_cases(cases: Sequence[Case], folder: Path) -> dict[str, tuple[list[np.ndarray], int, int]]:
    """name -> outputs, iterations of pipelined loops a frame, input words left over."""
    headers = sorted({case.header for case in cases})
    source = "\n".join(
        [
            SUPPORT,
            *(f'#include "{header}"' for header in headers),
            TRANSPORT,
            *(case.source(folder) for case in cases),
            "int main() {",
            *(f"{case.name}::run();" for case in cases),
            "}",
        ]
    )
    # Not optimized: compiling takes longer than running, and the vendor's constructors read what they have not yet
    # written, which g++ only notices when it optimizes.
    printed = compile_and_run(source, folder, flags=("-O0", *options())).decode()
    results = {}
    for case, line in zip(cases, printed.splitlines(), strict=True):
        name, steps, left = line.split()
        assert name == case.name
        outputs = [np.fromfile(folder / f"{name}.out{i}", dtype=np.int64) for i in range(len(case.outputs))]
        results[name] = outputs, int(steps) // case.frames, int(left)
    return results
