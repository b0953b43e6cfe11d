"""Flash, RAM and instructions of the embedded C beside TensorFlow Lite for Microcontrollers and emlearn.

python benchmarks/embedded.py [--data FOLDER] [--networks resnet8,dscnn,...] [--machine cortex-m4] [-o results]

Writes `embedded.md` and `embedded.json`. A row is a network compiled in one way: the float model with plain and with
packed 8-bit weights, and MLPerf Tiny's int8 model with the integers that it brings. Accuracy is that of the integer
program on data it was not calibrated on (class agreement with the float model for the autoencoder: none is given).
Instructions are QEMU's for one inference, tuned kernels and `-DDCT_PORTABLE`. The peers are installed into a virtual
environment of their own: RAM is what TFLM's `print_allocations` says, and its outputs on the int8 models are compared
with ours, integer by integer; emlearn converts a multilayer perceptron of scikit-learn's digits.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from accuracy import mnist, pictures

import toolchain
from toolchain.report.accuracy import classes, run_float_model
from toolchain.verification import embedded, machines
from toolchain.verification.footprint import footprint

PEERS = ("tflite-micro", "emlearn", "scikit-learn", "numpy")
TFLM = """
import sys, numpy as np
from tflite_micro import runtime
model, inputs, outputs = sys.argv[1:]
one = runtime.Interpreter.from_file(model, arena_size=1 << 20)
one.print_allocations()
found = []
for x in np.load(inputs):
    one.set_input(x[None], 0)
    one.invoke()
    found.append(one.get_output(0)[0].copy())
np.save(outputs, np.stack(found))
"""
EMLEARN = """
import sys, numpy as np, emlearn
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
x, y = load_digits(return_X_y=True)
mlp = MLPClassifier((64, 32), max_iter=300, random_state=0).fit(x[::2] / 16, y[::2])
print(mlp.score(x[1::2] / 16, y[1::2]))
emlearn.convert(mlp, method="inline").save(file=sys.argv[1], name="digits")
"""


@dataclass(frozen=True)
class Network:
    """`model` and `int8` are files of the data folder; `read` gives (calibration, x, y) of the float model."""

    model: str
    int8: str | None
    read: str


NETWORKS = {
    "resnet8": Network("mlperf_tiny/ic_resnet8.h5", "mlperf_tiny/ic_resnet8_int8.tflite", "ic"),
    "dscnn": Network("mlperf_tiny/kws_dscnn_float32io.tflite", "mlperf_tiny/kws_dscnn_int8.tflite", "kws"),
    "mobilenetv1": Network(
        "mlperf_tiny/vww_mobilenetv1_025_float.tflite", "mlperf_tiny/vww_mobilenetv1_025_int8.tflite", "vww"
    ),
    "ad01": Network("mlperf_tiny/ad01_autoencoder_fp32.tflite", "mlperf_tiny/ad01_autoencoder_int8.tflite", "ad"),
    "lenet": Network("mnist/lenet_caffe.onnx", None, "mnist"),
}
BUDGETS = {"resnet8": "8x", "lenet": "40x"}
"""Of further rows, for models whose accuracy allows it."""
PROFILED, COMPARED = 2, 32
"""Inputs that instructions are counted on, and that outputs are compared on."""


@dataclass(frozen=True)
class Row:
    """A network compiled in one way; sizes in bytes."""

    network: str
    setting: str
    constants: int
    peer_bytes: int
    """Of the int8 .tflite file; without one, of the parameters at a byte each."""
    code: int
    arena: int
    ends: int
    stack: int
    peer_arena: int
    tuned: int
    portable: int
    accuracy: float
    float_accuracy: float
    differing: int | None = None
    """Integers of the outputs that are not TFLM's, of models that bring theirs."""


def samples(data: Path, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(calibration rows, inputs, labels) in the float model's layout and scale."""
    if kind == "mnist":
        return mnist(data / "mnist/train.npz", 512)[0], *mnist(data / "mnist/test.npz", 2000)
    if kind == "ic":
        calibration, _ = pictures(data / "cifar10/train_jpeg.npz", 256)
        return calibration, *pictures(data / "cifar10/test_jpeg.npz", 1000)
    if kind == "ad":
        with np.load(data / "mlperf_tiny/ad01.npz") as z:
            clips = z[next(name for name in z.files if z[name].ndim == 3)].astype(np.float32)
        windows = np.concatenate([clips[:, k : k + 196] for k in range(5)], axis=2).reshape(-1, 640)
        return windows[:6272:32], windows[6272::40], None
    with np.load(data / f"mlperf_tiny/{kind}01.npz") as z:
        x, y = z["x"], z["y"].astype(np.int64)
    given = (x.astype(np.float32) - 83) * np.float32(0.5847029) if kind == "kws" else x.astype(np.float32) / 255
    if kind == "kws":
        given = given.reshape(-1, 49, 10, 1)
    return given[::4], np.delete(given, np.s_[::4], axis=0), np.delete(y, np.s_[::4])


def accuracy(given: np.ndarray, labels: np.ndarray | None) -> float:
    return float("nan") if labels is None else float(np.mean(classes(given) == labels))


def instructions(project: toolchain.Project, inputs: dict[str, np.ndarray], machine: str) -> tuple[int, int]:
    """Of one inference: with the kernels of the processor, with portable ones."""
    found, kept = [], machines.MACHINES[machine]
    for flags in ((), ("-DDCT_PORTABLE",)):
        machines.MACHINES[machine] = replace(kept, compiler=(*kept.compiler, *flags))
        found.append(sum(count for _, count in embedded.profile(project, inputs, machine)))
    machines.MACHINES[machine] = kept
    return found[0], found[1]


def micro(python: Path, model: Path, x: np.ndarray) -> tuple[int, np.ndarray]:
    """TFLM's arena in bytes and its outputs."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        np.save(place / "x.npy", x)
        argv = [str(python), "-c", TFLM, str(model), str(place / "x.npy"), str(place / "y.npy")]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        total = next(line for line in (done.stderr + done.stdout).splitlines() if "Arena allocation total" in line)
        return int(total.split()[-2]), np.load(place / "y.npy")


def measured(name: str, data: Path, python: Path, machine: str) -> Iterator[Row]:
    """All rows of a network."""
    network = NETWORKS[name]
    calibration, x, y = samples(data, network.read)
    floating = None
    peer_arena, size = 0, 0
    with tempfile.TemporaryDirectory() as temporary:
        settings = [("8 bits", {"pack": "none"}), ("packed", {"pack": "auto"})]
        if name in BUDGETS:
            settings.append((f"packed {BUDGETS[name]}", {"pack": "auto", "budget": BUDGETS[name]}))
        if network.int8:
            peer_arena, _ = micro(python, data / network.int8, quantized(data / network.int8, x[:1]))
            size = (data / network.int8).stat().st_size
            settings.append(("its own int8", {}))
        for label, options in settings:
            own = label == "its own int8"
            model = data / (network.int8 if own and network.int8 else network.model)
            given = quantized(model, x) if own else x
            print(f"{name}, {label}", file=sys.stderr, flush=True)
            project = toolchain.compile(
                model,
                Path(temporary) / label.replace(" ", "_"),
                calibrate=None if own else calibration,
                target="embedded",
                **options,
            )
            if floating is None:
                floating = accuracy(float_outputs(data / network.model, x, project), y)
            got = project.simulator().predict(given)
            differing = None
            if own:
                _, theirs = micro(python, model, given[:COMPARED])
                ours = project.simulator().predict_raw(given[:COMPARED])
                differing = int(np.count_nonzero(ours.reshape(theirs.shape) != theirs))
            report = json.loads((project.path / "report.json").read_text())
            taken = report["embedded"]
            few = {project.graph.inputs[0].name: given[:PROFILED]}
            compiled = footprint(project.path / "embedded", project.graph, machines.MACHINES[machine])
            yield Row(
                name,
                label,
                sum(taken["constants"].values()),
                size or report["parameters"],
                sum(compiled.code.values()),
                taken["arena_bytes"],
                taken["input_bytes"] + taken["output_bytes"],
                compiled.stack,
                peer_arena,
                *instructions(project, few, machine),
                accuracy(got, y),
                floating,
                differing,
            )


def float_outputs(model: Path, x: np.ndarray, project: toolchain.Project) -> np.ndarray:
    """The float model's, in LiteRT or ONNX Runtime."""
    entry = project.graph.inputs[0]
    if model.suffix != ".tflite":
        return run_float_model(model, None, {entry.name: x}, {entry.name: entry.model_shape}, lambda *_: None)
    from ai_edge_litert.interpreter import Interpreter

    interpreter, found = Interpreter(str(model)), []
    interpreter.allocate_tensors()
    for row in x:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], row[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return np.concatenate(found)


def quantized(model: Path, x: np.ndarray) -> np.ndarray:
    """Real inputs as the int8 model takes them."""
    import tflite

    buffer = tflite.Model.GetRootAs(model.read_bytes())
    graph = buffer.Subgraphs(0)
    tensor = graph.Tensors(graph.Inputs(0))
    scale, zero = tensor.Quantization().Scale(0), tensor.Quantization().ZeroPoint(0)
    rounded = np.floor(x.astype(np.float64) / scale + zero + 0.5)
    return np.clip(rounded, -128, 127).astype(np.int8).reshape(-1, *(int(n) for n in tensor.ShapeAsNumpy()[1:]))


def emlearn(python: Path, place: Path, machine: str) -> dict[str, float]:
    """Bytes of code and constants of emlearn's float C for a perceptron of the digits, compiled for a machine."""
    header = place / "digits.h"
    done = subprocess.run(
        [str(python), "-c", EMLEARN, str(header)], cwd=place, capture_output=True, text=True, check=True
    )
    include = subprocess.run(
        [str(python), "-c", "import emlearn; print(emlearn.includedir)"], capture_output=True, text=True, check=True
    )
    source = place / "digits.c"
    source.write_text('#include "digits.h"\nint run(const float* x) { return digits_predict(x, 64); }\n')
    compiler = machines.MACHINES[machine].compiler
    argv = [*compiler, "-O2", f"-I{include.stdout.strip()}", f"-I{place}", "-c", str(source), "-o", str(place / "d.o")]
    subprocess.run(argv, check=True, capture_output=True)
    sizes = subprocess.run(
        [compiler[0].replace("gcc", "size"), str(place / "d.o")], capture_output=True, text=True, check=True
    )
    text, constants, zeroed = (int(one) for one in sizes.stdout.splitlines()[1].split()[:3])
    return {"flash": text + constants, "ram": constants + zeroed, "accuracy": float(done.stdout.split()[-1])}


def environment(place: Path) -> Path:
    """The Python of a virtual environment with the peers, made where it is missing."""
    python = place / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PEERS], check=True)
    return python


def markdown(rows: list[Row]) -> str:
    titles = (
        "network",
        "model",
        "constants",
        "of .tflite",
        "code",
        "arena + ends",
        "TFLM's arena",
        "stack",
        "tuned",
        "portable",
        "ratio",
        "accuracy %",
        "float %",
        "differ from TFLM",
    )
    lines = ["| " + " | ".join(titles) + " |", "|---|---|" + "---:|" * (len(titles) - 2)]
    for row in rows:
        cells = [
            row.network,
            row.setting,
            f"{row.constants:,}",
            f"{row.constants / row.peer_bytes:.2f}",
            f"{row.code:,}",
            f"{row.arena:,} + {row.ends:,}",
            f"{row.peer_arena:,}" if row.peer_arena else "-",
            f"{row.stack:,}",
            f"{row.tuned / 1e6:.2f} M",
            f"{row.portable / 1e6:.2f} M",
            f"{row.tuned / row.portable:.2f}",
            *("-" if np.isnan(one) else f"{100 * one:.1f}" for one in (row.accuracy, row.float_accuracy)),
            "-" if row.differing is None else str(row.differing),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--machine", default="cortex-m4")
    parser.add_argument("--peers", type=Path, default=Path(".peers"), help="a virtual environment; made if missing")
    parser.add_argument("-o", "--output", type=Path, default=Path("results"))
    chosen = parser.parse_args()
    python = environment(chosen.peers.resolve())
    with tempfile.TemporaryDirectory() as temporary:
        other = emlearn(python, Path(temporary), chosen.machine)
    rows = [row for name in chosen.networks.split(",") for row in measured(name, chosen.data, python, chosen.machine)]
    chosen.output.mkdir(parents=True, exist_ok=True)
    described = {"machine": chosen.machine, "rows": [asdict(row) for row in rows], "emlearn_digits": other}
    (chosen.output / "embedded.json").write_text(json.dumps(described, indent=1) + "\n")
    text = markdown(rows) + f"\nemlearn, digits 64-64-32-10: {other}\n"
    (chosen.output / "embedded.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
