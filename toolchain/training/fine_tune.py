"""Fine-tuning in the frequency domain: coefficients become 0 step by step, the rest is trained as it is deployed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from toolchain.errors import ConfigurationError, PassError
from toolchain.ir import Array, Graph
from toolchain.ops.linear import LinearOperator
from toolchain.ops.softmax import Softmax
from toolchain.passes import pipeline
from toolchain.progress import Progress, no_progress
from toolchain.project import store_program
from toolchain.quantization.budget import Budget
from toolchain.quantization.configuration import Configuration
from toolchain.quantization.lowering import Lowered
from toolchain.simulation import reference
from toolchain.training import checkpoint, support
from toolchain.training.batches import BATCH, Data, Stream
from toolchain.training.network import TrainingNetwork
from toolchain.training.start import Start, start

EPOCHS = 20
PRUNING = 0.5
"""Share of the epochs in which the support shrinks; it is fixed behind them."""
STEPS_PER_EPOCH = 6
"""Times that the support shrinks in an epoch."""
RATE, LAST_RATE = 0.02, 0.02
"""Learning rate of Adam in steps of a coefficient, and the share of it that is left at the end of a half cosine."""
TEMPERATURE, HARD = 3.0, 0.3
"""Of the teacher's soft targets, and the share of the loss that the true classes have (Hinton et al., 2015, sec. 2)."""
ROOM = 2.0
"""Training starts from a packing that takes so many times the bits of the budget."""
FEWER = 4.5
"""Where only a size is asked for: dense multiplications over packed ones are at least its ratio divided by this."""
SAFE = 0.985
"""Share of a budget that is aimed at: levels change until the end."""
EQUAL_ROWS = 64
ATTEMPTS = 5
"""Times that the support is made smaller until the container keeps to the budget."""


@dataclass(frozen=True)
class Limits:
    """What a trained network may take: bytes of `weights.bin`, and multiplications of an inference."""

    bytes: float
    multiplications: float

    @classmethod
    def of(cls, budgets: Sequence[Budget], real: Graph) -> Limits:
        """The tightest of all budgets. Sizes imply a limit of multiplications, see FEWER."""
        parameters = sum(node.operator.parameters() for node in real.nodes)
        dense = dense_multiplications(real)
        sizes = [one.limit(parameters) for one in budgets if one.kind != "multiplications"]
        products = [one.limit(parameters) for one in budgets if one.kind == "multiplications"]
        size = min(sizes, default=math.inf)
        if not products and sizes:
            products = [dense / max(1.0, 4 * parameters / size / FEWER)]
        return cls(size, min(products, default=math.inf))


def dense_multiplications(graph: Graph) -> int:
    """Of all layers with weights."""
    return sum(
        node.operator.multiplications(*(t.shape for t in graph.input_types(node)))
        for node in graph.nodes
        if isinstance(node.operator, LinearOperator)
    )


def teacher_scores(real: Graph, x: Array, report: Progress) -> Array:
    """Scores of the float network, before its softmax, for all rows: (N, classes) float32."""
    last = real.by_name[real.outputs[0].value]
    wanted = last.inputs[0] if isinstance(last.operator, Softmax) else last.name
    found = []
    for begin in range(0, len(x), BATCH):
        report("asking the float network", begin, len(x))
        given = real.inputs[0]
        values = {given.name: given.from_model(x[begin : begin + BATCH]).astype(np.float32)}
        for node, dying in real.last_uses():
            values[node.name] = node.operator.evaluate(*(values[name] for name in node.inputs))
            if node.name == wanted:
                break
            for name in dying:
                values.pop(name, None)
        found.append(values[wanted].reshape(len(values[wanted]), -1))
    return np.concatenate(found).astype(np.float32)


def targets_of(real: Graph, data: Data, report: Progress) -> Array:
    """What `distillation` compares with: (N, 2 classes). Raises ConfigurationError for classes that there are not."""
    teacher = teacher_scores(real, data.x, report)
    classes = teacher.shape[1]
    if not 0 <= data.y.min() <= data.y.max() < classes:
        raise ConfigurationError(f"y holds classes up to {data.y.max()}, the network has {classes}")
    return np.concatenate([np.eye(classes, dtype=np.float32)[data.y], teacher], axis=1)


def distillation(targets: Any, scores: Any) -> Any:
    """Cross entropy with the true classes and, at a temperature, with the teacher (Hinton et al., 2015, eq. 1 to 4).

    `targets` (N, 2 classes) holds true classes as ones and zeros, then the teacher's scores.
    """
    scores = ops.cast(scores, "float32")
    classes = scores.shape[-1]
    hard = ops.categorical_crossentropy(targets[:, :classes], scores, from_logits=True)
    soft = ops.softmax(targets[:, classes:] / TEMPERATURE)
    gentle = ops.categorical_crossentropy(soft, scores / TEMPERATURE, from_logits=True)
    return HARD * hard + (1 - HARD) * TEMPERATURE**2 * gentle


@dataclass
class Run:
    """A training run. Its state after an epoch is in the network, the optimizer and `facts`."""

    network: TrainingNetwork
    optimizer: Any
    limits: Limits
    epochs: int
    seed: int
    pixels: Sequence[int]
    epoch: int = 0
    bits_each: float = 8.0
    """Bits of `weights.bin` for a nonzero level, measured after each epoch."""
    overhead: float = 0.0
    """Bytes of it that are no levels."""
    bytes: int = 0
    best: float = -1.0
    """Accuracy on validation data of the best state within the limits."""
    best_weights: list[Array] = field(default_factory=list)

    def layers(self) -> list[support.Layer]:
        """The layers as the choice of the support sees them."""
        velocities = [v for v in self.optimizer.variables if "velocity" in v.path and "coefficients" in v.path]
        found = []
        for packed, velocity, pixels in zip(self.network.layers_in_order, velocities, self.pixels, strict=True):
            coefficients, mask = ops.convert_to_numpy(packed.coefficients), ops.convert_to_numpy(packed.mask)
            found.append(support.Layer(coefficients, ops.convert_to_numpy(velocity), pixels, mask))
        return found

    def shrink(self, share: float, first: tuple[float, float], safe: float = SAFE) -> None:
        """Brings the support to what it is to be after a share of the pruning (Zhu and Gupta, 2017, eq. 1).

        `first` is (nonzero levels, multiplications) at the start, `safe` the share of the limits that is aimed at.
        """
        layers = self.layers()
        left = (1 - min(share, 1.0)) ** 3
        count = max(safe * 8 * (self.limits.bytes - self.overhead) / self.bits_each, 0.0)
        count, products = count + max(first[0] - count, 0) * left, self.limits.multiplications
        products = safe * products + max(first[1] - products, 0) * left
        for packed, mask in zip(self.network.layers_in_order, support.chosen(layers, count, products), strict=True):
            packed.mask.assign(mask)

    def fix(self) -> None:
        """What is 0 now stays 0."""
        for packed, layer in zip(self.network.layers_in_order, self.layers(), strict=True):
            packed.mask.assign(layer.nonzero.astype(np.float32))

    def measure(self) -> None:
        """What the program takes as it is."""
        program = pipeline.run(self.network.deployed(), pipeline.EXACT_PASSES)
        stored = store_program(program)
        self.bytes = stored.size
        coded = sum(one.code_bits + one.raw_bits for one in stored.statistics.values()) / 8
        self.overhead = stored.size - coded
        self.bits_each = 8 * coded / max(support.nonzeros(self.layers()), 1)

    @property
    def is_within(self) -> bool:
        """Does the network keep to its limits?"""
        fits = support.multiplications(self.layers()) <= self.limits.multiplications
        return self.bytes <= self.limits.bytes and fits

    def state(self) -> list[Array]:
        """All that training changes."""
        variables = [*self.network.variables, *self.optimizer.variables]
        return [np.asarray(ops.convert_to_numpy(one)) for one in variables]

    def restore(self, arrays: Sequence[Array]) -> None:
        """The state that `state` gave."""
        for variable, array in zip([*self.network.variables, *self.optimizer.variables], arrays, strict=True):
            variable.assign(array)

    def accuracy(self, data: Data) -> float:
        """Share of the rows whose class is the largest score."""
        right = 0
        for begin in range(0, len(data), 4 * BATCH):
            part = slice(begin, begin + 4 * BATCH)
            scores = self.network.predict_on_batch(self.network.enter(data.x[part]))
            right += int((np.argmax(scores, -1) == data.y[part]).sum())
        return right / len(data)


def train(
    real: Graph,
    data: Data | Stream,
    validation: Data,
    limits: Limits,
    configuration: Configuration,
    folder: Path,
    signature: str,
    epochs: int,
    seed: int,
    report: Progress,
) -> tuple[Start, TrainingNetwork, Run]:
    """Packs, shrinks the support, trains. State goes to `folder` after every epoch, and is taken up from there.

    Raises ConfigurationError when the limits are not reached.
    """
    keras.utils.set_random_seed(seed)
    bits = 8 * limits.bytes if limits.bytes < math.inf else 4.0 * sum(n.operator.parameters() for n in real.nodes)
    begun = start(real, {real.inputs[0].name: data.examples}, configuration, ROOM * bits, report)
    network = TrainingNetwork(begun.lowered.graph, begun.latents)
    batches = data.batches
    whole = targets_of(real, data, report) if isinstance(data, Data) else None
    schedule = keras.optimizers.schedules.CosineDecay(RATE, epochs * batches, LAST_RATE)
    optimizer = keras.optimizers.Adam(schedule)
    network.compile(optimizer=optimizer, loss=distillation)
    network(network.enter(data.examples[:1]))
    optimizer.build(network.trainable_variables)
    pixels = [_pixels(begun.lowered.graph, name) for name in network.packed]
    run = Run(network, optimizer, limits, epochs, seed, pixels)
    run.measure()
    first = float(support.nonzeros(run.layers())), float(support.multiplications(run.layers()))
    _resume(run, folder, signature)
    ends = max(1, round(PRUNING * epochs))
    for epoch in range(run.epoch, epochs):
        loss = 0.0
        report(f"epoch {epoch + 1} of {epochs}", 0, batches)
        marks = {round((k + 1) * batches / STEPS_PER_EPOCH) for k in range(STEPS_PER_EPOCH)}
        for number, (batch, rows) in enumerate(data.epoch(epoch, seed), 1):
            targets = targets_of(real, batch, no_progress) if whole is None or rows is None else whole[rows]
            loss += float(network.train_on_batch(network.enter(batch.x), targets))
            if number in marks and epoch < ends:
                run.shrink((epoch + number / batches) / ends, first)
            if number % 20 == 0:
                what = (
                    f"epoch {epoch + 1} of {epochs}, loss {loss / number:.3f}, {run.bytes} bytes, best {run.best:.4f}"
                )
                report(what, number, batches)
        run.measure()
        if epoch + 1 >= ends:
            for attempt in range(1, ATTEMPTS + 1):
                if run.is_within:
                    break
                run.shrink(1.0, first, SAFE**attempt)
                run.measure()
            run.fix()
            found = run.accuracy(validation) if run.is_within else -1.0
            if found >= run.best and run.is_within:
                run.best, run.best_weights = found, run.state()[: len(network.variables)]
        run.epoch = epoch + 1
        _save(run, folder, signature)
    if not run.best_weights:
        raise ConfigurationError(
            f"--budget: {run.bytes} bytes and {support.multiplications(run.layers())} multiplications were reached, "
            f"{limits.bytes:.0f} and {limits.multiplications:.0f} are allowed",
            fix="Give a larger budget, or more --epochs.",
        )
    for variable, array in zip(network.variables, run.best_weights, strict=True):
        variable.assign(array)
    run.measure()
    return begun, network, run


def _pixels(graph: Graph, name: str) -> int:
    """Output pixels of a layer: multiplications of one nonzero level."""
    node = graph.by_name[name]
    operator = node.operator
    assert isinstance(operator, LinearOperator)
    total = operator.multiplications(*(t.shape for t in graph.input_types(node)))
    return total // operator.weights.array.size


def _save(run: Run, folder: Path, signature: str) -> None:
    facts = {
        "signature": signature,
        "epoch": run.epoch,
        "bits_each": run.bits_each,
        "overhead": run.overhead,
        "bytes": run.bytes,
        "best": run.best,
        "kept": len(run.best_weights),
    }
    checkpoint.write(folder, [*run.state(), *run.best_weights], facts)


def _resume(run: Run, folder: Path, signature: str) -> None:
    found = checkpoint.read(folder, signature)
    if found is None:
        return
    arrays, facts = found
    kept = int(facts["kept"])
    state, best = (arrays[:-kept], arrays[-kept:]) if kept else (arrays, [])
    if [one.shape for one in state] != [one.shape for one in run.state()]:
        return
    run.restore(state)
    run.best_weights = best
    run.epoch, run.bytes = int(facts["epoch"]), int(facts["bytes"])
    run.bits_each, run.overhead, run.best = (float(facts[name]) for name in ("bits_each", "overhead", "best"))


def signature(*parts: Any) -> str:
    """SHA-256 of what decides a run: files, arrays, options."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(str((part.dtype, part.shape)).encode() + np.ascontiguousarray(part).tobytes())
        elif isinstance(part, Path):
            digest.update(part.read_bytes())
        else:
            digest.update(json.dumps(part, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def finished(begun: Start, network: TrainingNetwork, x: Array) -> Lowered:
    """The trained program. Raises PassError unless the training graph gives its integers, on some rows."""
    program = network.deployed()
    given, x = program.inputs[0], x[:EQUAL_ROWS]
    values: dict[str, Array] = {}
    reference.evaluate(program, {given.name: given.from_model(x)}, values.__setitem__)
    if not np.array_equal(network.raw_scores(x), values[network.scores].reshape(len(x), -1)):
        raise PassError("the training graph and the integer program differ", where=program.name)
    return Lowered(program, begun.lowered.saturations, {}, begun.lowered.accumulators)
