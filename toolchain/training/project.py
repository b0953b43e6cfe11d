"""From a trained model file to a project folder of its fine-tuned integer program."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from toolchain.compiler import TRAINED_ROWS, design_project
from toolchain.errors import ConfigurationError
from toolchain.frontends import read_graph
from toolchain.hardware.board import load_board
from toolchain.ir import Graph
from toolchain.passes import pipeline
from toolchain.progress import Progress, no_progress
from toolchain.project import Project, check_target, load
from toolchain.quantization.budget import Budget, Packing
from toolchain.quantization.carried import is_program
from toolchain.quantization.configuration import check_layers, load_configuration
from toolchain.quantization.entry import quantizes_itself
from toolchain.training.batches import Batch, Data, Pipeline, Stream, read, split, stream
from toolchain.training.fine_tune import EPOCHS, Limits, finished, signature, train
from toolchain.version import __version__

MOST_EPOCHS = 10_000


def fine_tune(
    model: str | Path,
    output: str | Path,
    *,
    data: str | Path | Batch | Pipeline,
    budget: str | Sequence[str],
    validate: str | Path | Batch | None = None,
    board: str = "zcu104",
    config: str | Path | Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    weight_bits: int | None = None,
    activation_bits: int | None = None,
    target: str = "hls",
    epochs: int = EPOCHS,
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> Project:
    """Trains a network as it is deployed, within a budget, and writes the project.

    `data` and `validate` are `.npz` files with `x` (rows, ...) in the model's own layout and scale and classes `y`
    (rows,), or such arrays; without `validate` every twelfth row is held out. `data` may also be an iterable of batches
    (x, y) that can be gone through again, or a function from the number of an epoch to such batches; then `validate` is
    needed. `budget` is one or several of `100x`,
    `12000B`, `300kMAC`. State is kept in a folder beside the output, `NAME.training`, after each epoch: the same call
    goes on from there, with the same result as an uninterrupted one.

    Raises ToolchainError for whatever is wrong with model, data or options, and for budgets that are not reached; then
    no project is written.
    """
    path = Path(output)
    check_target(path, force)
    chosen = load_configuration(
        Path(config) if isinstance(config, str) else config,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        pack=None,
        execute=None,
        weight_memory=None,
    )
    budgets = [Budget.parse(one) for one in ([budget] if isinstance(budget, str) else budget)]
    if not budgets:
        raise ConfigurationError("fine-tuning wants a --budget", fix="Write 100x, 12000B or 300kMAC.")
    if not 1 <= epochs <= MOST_EPOCHS:
        raise ConfigurationError(f"--epochs {epochs} is not between 1 and {MOST_EPOCHS}")
    the_board, report = load_board(board), progress or no_progress
    report("reading the model", 0, 1)
    real = pipeline.run(read_graph(Path(model), Path(weights) if weights else None, input_shapes), pipeline.REAL_PASSES)
    check_layers(chosen, real)
    if is_program(real) or quantizes_itself(real):
        raise ConfigurationError(
            "the model brings its own quantization, which is kept as it is",
            where=str(model),
            fix="Give the float model.",
        )
    if len(real.inputs) != 1:
        raise ConfigurationError(f"training wants one input, the model has {len(real.inputs)}", where=str(model))
    training, validation = _parts(data, validate, real)
    folder = path.with_name(f"{path.name}.training")
    described = chosen.model_dump(mode="json")
    mark = signature(
        __version__, Path(model), described, [str(b) for b in budgets], epochs, seed,
        *((training.x, training.y) if isinstance(training, Data) else (training.examples, training.batches)),
        validation.x, validation.y,
    )  # fmt: skip
    begun, network, _ = train(
        real, training, validation, Limits.of(budgets, real), chosen, folder, mark, epochs, seed, report
    )
    packing = Packing(finished(begun, network, validation.x), None, begun.plain_error)
    rows = {real.inputs[0].name: training.examples[:TRAINED_ROWS]}
    report("choosing hardware", 0, 1)
    design_project(path, Path(model).name, packing, the_board, chosen, rows, target=target, force=force)
    shutil.rmtree(folder, ignore_errors=True)
    return load(path)


def _parts(
    data: str | Path | Batch | Pipeline, validate: str | Path | Batch | None, real: Graph
) -> tuple[Data | Stream, Data]:
    """What is trained on, and what the best epoch is chosen on."""
    is_pair = isinstance(data, tuple) and len(data) == 2 and hasattr(data[0], "shape")
    if isinstance(data, str | Path) or is_pair:
        given = read(cast("str | Path | Batch", data), real)
        return (given, read(validate, real)) if validate is not None else split(given)
    if validate is None:
        raise ConfigurationError("batches of a pipeline want data to validate on", fix="Give validate=(x, y).")
    return stream(cast("Pipeline", data), real), read(validate, real)
