"""Rate against output error and accuracy for every way of coding the weights, on the data of `../shared/data`.

python benchmarks/packing.py [--quick] [--networks lenet,resnet8,squeezenet,resnet20] [--codings "spatial;dct;auto"]
                             [--prices 0.003,0.02] [-o FOLDER] [--data FOLDER]

Each coding is run at several prices: the squared error of the outputs, relative to their energy, that one bit a weight
is worth. Size is that of `weights.bin`. Error, accuracy and agreement with the float model (ONNX Runtime) are those of
the integer program in the fast engine, on test data that the coding has not seen. Nothing is retrained. The same
quantized levels are also given to general compressors. How far a layer's rounding is compensated is decided at the
first price and kept, as in the search for a budget.

The folder gets `packing.csv`, `packing.md` and a plot a network. What it holds already and is not measured again stays,
so that a long run can be made in pieces; `--networks ""` only draws again.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from math import inf
from pathlib import Path

import numpy as np
from accuracy import Pair, mnist, normalized, pictures
from compressors import COMPRESSORS, compressors
from PIL import Image
from plotting import plot

from toolchain.frontends import read_graph
from toolchain.ir import Graph
from toolchain.ops.linear import LinearOperator
from toolchain.packing.clustering import can_cluster, clustered
from toolchain.packing.importance import measure_importance
from toolchain.packing.packed import Coding, Packed
from toolchain.packing.packer import Layer, Plan
from toolchain.packing.search import Candidate
from toolchain.passes import pipeline
from toolchain.project import StoredProgram, store_program
from toolchain.quantization.configuration import Configuration
from toolchain.quantization.lowering import PACKING_ROWS, chosen_rows, lower
from toolchain.report.accuracy import classes, run_float_model
from toolchain.simulation.simulator import Simulator

BITS = 8
LEVELS = ("payload", "indices", "pointers", "dictionaries")
"""Parts of `weights.bin` that hold the levels. Centres and their indices are counted in the size only."""
BGR_MEAN = np.float32([104, 117, 123])


@dataclass(frozen=True)
class Network:
    """A model with its data: `calibration(rows)` and `test(rows)` give inputs and labels."""

    model: str
    calibration: Callable[[Path, int], Pair]
    test: Callable[[Path, int], Pair]
    rows: tuple[int, int]
    """Calibration rows, all and quick."""
    samples: tuple[int, int]
    prices: tuple[float, ...]
    quick: tuple[float, ...]


@dataclass(frozen=True)
class Method:
    """A way of coding: where, whether rounding is compensated, and whether clusters are used even where they lose."""

    name: str
    pack: str
    compensated: bool = True
    clusters: bool = False


PLAIN = Method("int8", "none")
METHODS = (
    Method("spatial, rounded", "spatial", compensated=False),
    Method("dct, rounded", "dct", compensated=False),
    Method("spatial", "spatial"),
    Method("dct", "dct"),
    Method("dct, clusters", "dct", clusters=True),
    Method("auto", "auto"),
)


class Clustered(Plan):
    """Shares centres wherever the format has room for them, in place of where they make the file smaller."""

    def code(self, layer: Layer) -> Candidate | None:
        found = super().code(layer)
        if found is None or found.coding.clusters or not can_cluster(found.coding):
            return found
        return replace(found, coding=clustered(found.coding))


@dataclass(frozen=True)
class Row:
    """One measurement. Sizes are bytes; a size is 0 where a compressor is not installed."""

    network: str
    coding: str
    price: float
    size: int
    ratio: float
    output_error: float
    accuracy: float
    agreement: float
    float_accuracy: float
    samples: int
    calibration_rows: int
    frequency_layers: int
    clustered_layers: int
    coded_layers: int
    levels: int
    zlib: int
    bz2: int
    lzma: int
    zstd: int
    brotli: int
    seconds: float

    @property
    def key(self) -> tuple[str, str, float]:
        return self.network, self.coding, self.price

    def order(self) -> tuple[int, int, float]:
        """As in NETWORKS, METHODS and by price."""
        codings = [PLAIN.name, *(method.name for method in METHODS)]
        return list(NETWORKS).index(self.network), codings.index(self.coding), self.price


def part(read: Callable[..., Pair], path: str) -> Callable[[Path, int], Pair]:
    return lambda data, count: read(data / path, count)


def imagenet(first: int) -> Callable[[Path, int], Pair]:
    """Every second picture, as SqueezeNet wants it: BGR without the mean, the middle 227 x 227."""

    def read(data: Path, count: int) -> Pair:
        folder = data / "imagenet/images"
        lines = [line.split(",") for line in (folder / "labels.csv").read_text().split()]
        taken = [(name, int(label)) for name, label in lines if label.isdigit()][first::2][:count]
        images = np.stack([np.asarray(Image.open(folder / name).convert("RGB")) for name, _ in taken])
        middle = images[:, 14:241, 14:241, ::-1].astype(np.float32) - BGR_MEAN
        return middle.transpose(0, 3, 1, 2), np.array([label for _, label in taken])

    return read


CIFAR, CIFAR_TEST = "cifar10/train_jpeg.npz", "cifar10/test_jpeg.npz"
NETWORKS = {
    "lenet": Network(
        "mnist/lenet_caffe.onnx",
        part(mnist, "mnist/train.npz"),
        part(mnist, "mnist/test.npz"),
        (2048, 512),
        (5000, 5000),
        (0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
        (0.003, 0.01, 0.03),
    ),
    "resnet8": Network(
        "mlperf_tiny/ic_resnet8.h5",
        part(pictures, CIFAR),
        part(pictures, CIFAR_TEST),
        (1024, 256),
        (5000, 2000),
        (0.001, 0.003, 0.01, 0.03, 0.1),
        (0.003, 0.02, 0.1),
    ),
    "squeezenet": Network(
        "imagenet/squeezenet_v1.0_deepcompressed.onnx",
        imagenet(1),
        imagenet(0),
        (62, 62),
        (63, 63),
        (0.003, 0.01, 0.03, 0.1),
        (0.01, 0.05),
    ),
    "resnet20": Network(
        "cifar10/resnet20.onnx",
        part(normalized, CIFAR),
        part(normalized, CIFAR_TEST),
        (1024, 128),
        (5000, 1000),
        (0.001, 0.003, 0.01, 0.03, 0.1),
        (0.003, 0.03),
    ),
}


class Case:
    """A network ready to be coded, and what its float model says about the test data."""

    def __init__(self, name: str, data: Path, quick: bool) -> None:
        network = NETWORKS[name]
        self.name = name
        self.prices = network.quick if quick else network.prices
        path = data / network.model
        self.graph = pipeline.run(read_graph(path, None, None), pipeline.REAL_PASSES)
        given = self.graph.inputs[0]
        calibration, _ = network.calibration(data, network.rows[quick])
        self.x, self.labels = network.test(data, network.samples[quick])
        self.calibration = {given.name: calibration}
        self.scores = run_float_model(path, None, {given.name: self.x}, {given.name: given.model_shape}, _silent)
        self.parameters = sum(node.operator.parameters() for node in self.graph.nodes)
        self.layers = [node.name for node in self.graph.nodes if isinstance(node.operator, LinearOperator)]
        self.dampings: dict[str, dict[str, float]] = {method.pack: {} for method in (PLAIN, *METHODS)}
        rows = chosen_rows(self.graph, self.calibration, PACKING_ROWS)
        self.rows = len(rows[given.name])
        self.importance = measure_importance(self.graph, {given.name: given.from_model(rows[given.name])})

    def rows_of(self, methods: Iterable[Method], prices: Sequence[float]) -> Iterator[Row]:
        yield self.measure(PLAIN, 0.0)
        for price in prices:
            for method in methods:
                yield self.measure(method, price)

    def measure(self, method: Method, price: float) -> Row:
        """Codes the network at a price for one bit a weight, and runs it on the test data."""
        start = time.perf_counter()
        configuration = Configuration(weight_bits=BITS, activation_bits=BITS, pack=method.pack)
        dampings = self.dampings[method.pack] if method.compensated else dict.fromkeys(self.layers, inf)
        kind = Clustered if method.clusters else Plan
        plan = kind(price / self.parameters, self.importance, BITS, dampings=dampings)
        packer = None if method.pack == "none" else plan
        graph = lower(self.graph, self.calibration, configuration, packer=packer).graph
        graph = pipeline.run(graph, pipeline.EXACT_PASSES)
        stored = store_program(graph)
        scores = next(iter(Simulator(graph, threads=2).raw_outputs({self.graph.inputs[0].name: self.x}).values()))
        scaled = Simulator(graph).scaled(graph.outputs[0].name, scores)
        mine, wanted = classes(scores), classes(self.scores)
        codings = found_codings(graph)
        return Row(
            self.name,
            method.name,
            price,
            stored.size,
            4 * self.parameters / stored.size,
            output_error(self.scores, scaled),
            float((mine == self.labels).mean()),
            float((mine == wanted).mean()),
            float((wanted == self.labels).mean()),
            len(self.x),
            self.rows,
            sum(coding.is_frequency for coding in codings),
            sum(coding.clusters is not None for coding in codings),
            len(codings),
            levels_size(stored),
            **compressed(codings),
            seconds=time.perf_counter() - start,
        )


def _silent(*_: object) -> None:
    """No progress bar: a line a measurement is progress enough."""


def output_error(wanted: np.ndarray, got: np.ndarray) -> float:
    """Root of the squared error over the energy of the outputs without their mean."""
    wanted = wanted.astype(np.float64)
    energy = np.square(wanted - wanted.mean(0)).sum()
    return float(np.sqrt(np.square(got - wanted).sum() / energy))


def found_codings(graph: Graph) -> list[Coding]:
    constants = (getattr(node.operator, "weights", None) for node in graph.nodes)
    return [weights.coding for weights in constants if isinstance(weights, Packed)]


def levels_size(stored: StoredProgram) -> int:
    return sum(stored.breakdown.get(name, 0) for name in LEVELS) // 8


def compressed(codings: list[Coding]) -> Mapping[str, int]:
    """Bytes of all levels, filter by filter, as one stream of int8 (wider where they do not fit)."""
    flat = [np.moveaxis(coding.levels.array, -1, 0).ravel() for coding in codings]
    sizes = dict.fromkeys(COMPRESSORS, 0)
    if flat:
        levels = np.concatenate(flat)
        narrow = np.abs(levels).max(initial=0) < 1 << (BITS - 1)
        data = levels.astype(np.int8 if narrow else np.int16).tobytes()
        sizes |= {name: len(press(data)) for name, press in compressors().items()}
    return sizes


def read_rows(path: Path) -> list[Row]:
    if not path.exists():
        return []
    kinds = {field.name: {"str": str, "int": int, "float": float}[field.type] for field in fields(Row)}
    with path.open(newline="") as file:
        return [Row(**{name: kinds[name](value) for name, value in line.items()}) for line in csv.DictReader(file)]


def write_rows(rows: list[Row], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


COLUMNS: dict[str, Callable[[Row], str]] = {
    "network": lambda row: row.network,
    "coding": lambda row: row.coding,
    "price": lambda row: f"{row.price:g}",
    "bytes": lambda row: str(row.size),
    "x float32": lambda row: f"{row.ratio:.1f}",
    "error": lambda row: f"{row.output_error:.4f}",
    "accuracy": lambda row: f"{row.accuracy:.4f}",
    "agrees": lambda row: f"{row.agreement:.4f}",
    "dct+cl./all": lambda row: f"{row.frequency_layers}+{row.clustered_layers}/{row.coded_layers}",
    "levels": lambda row: str(row.levels or "-"),
    **{name: lambda row, name=name: str(getattr(row, name) or "-") for name in COMPRESSORS},
}
WIDTHS = (10, 16, 6, 7, 9, 7, 8, 7, 11, 7, 7, 7, 7, 7, 7)
TEXT_COLUMNS = 2


PUBLISHED = """
Published elsewhere, for orientation: other training, other data, other ways of counting; none of it measured here.

| | network | times smaller than float32 |
|---|---|---:|
| CNNpack (Wang et al., 2016) | LeNet | 32 |
| | AlexNet | 39 |
| | VGG-16 | 46 |
| | ResNet-50 | about 12 |
| Deep Compression (Han et al., 2016), retrained | LeNet-5 | 39 |
| Deep Compression, retrained: its file has 675,763 bytes | SqueezeNet | 7.4 |
"""


def aligned(cells: Iterable[str]) -> str:
    sized = enumerate(zip(cells, WIDTHS, strict=True))
    return " ".join(cell.ljust(width) if k < TEXT_COLUMNS else cell.rjust(width) for k, (cell, width) in sized)


def cells(row: Row) -> list[str]:
    return [column(row) for column in COLUMNS.values()]


def markdown(rows: list[Row]) -> str:
    ruler = ["---"] * TEXT_COLUMNS + ["---:"] * (len(COLUMNS) - TEXT_COLUMNS)
    return "".join(f"| {' | '.join(line)} |\n" for line in (COLUMNS, ruler, *map(cells, rows)))


def wanted(arguments: argparse.Namespace) -> str:
    """What is wrong with the arguments, nothing when they are fine."""
    for given, known in ((arguments.networks, list(NETWORKS)), (arguments.codings, [m.name for m in METHODS])):
        if unknown := sorted(set(given) - set(known)):
            return f"there is no {', '.join(unknown)}, but {'; '.join(known)}"
    if arguments.networks and not arguments.data.is_dir():
        return f"{arguments.data} is not there: it holds the models and pictures. Name it with --data."
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--networks", type=names(","), default=list(NETWORKS), help="separated by commas")
    parser.add_argument("--codings", type=names(";"), default=[m.name for m in METHODS], help="separated by semicolons")
    parser.add_argument("--prices", type=lambda text: [float(part) for part in text.split(",")])
    parser.add_argument("--quick", action="store_true", help="fewer prices, calibration rows and test pictures")
    parser.add_argument("-o", "--output", type=Path, default=Path("packing_results"))
    arguments = parser.parse_args()
    if problem := wanted(arguments):
        print(problem, file=sys.stderr)
        return 2
    for name in sorted(set(COMPRESSORS) - set(compressors())):
        print(f"{name} is not installed and left out")
    arguments.output.mkdir(parents=True, exist_ok=True)
    table = arguments.output / "packing.csv"
    rows = {row.key: row for row in read_rows(table)}
    print(aligned(COLUMNS))
    for name in arguments.networks:
        case = Case(name, arguments.data, arguments.quick)
        methods = [method for coding in arguments.codings for method in METHODS if method.name == coding]
        for row in case.rows_of(methods, arguments.prices or case.prices):
            rows[row.key] = row
            print(aligned(cells(row)), f"{row.seconds:6.0f} s", flush=True)
            write_rows(list(rows.values()), table)
    ordered = sorted(rows.values(), key=Row.order)
    write_rows(ordered, table)
    (arguments.output / "packing.md").write_text(markdown(ordered) + PUBLISHED)
    print(PUBLISHED)
    for name in dict.fromkeys(row.network for row in ordered if row.coded_layers):
        picture = plot(name, [row for row in ordered if row.network == name])
        (arguments.output / f"packing_{name}.svg").write_text(picture)
    return 0


def names(separator: str) -> Callable[[str], list[str]]:
    return lambda text: [name.strip() for name in text.split(separator) if name.strip()]


if __name__ == "__main__":
    sys.exit(main())
