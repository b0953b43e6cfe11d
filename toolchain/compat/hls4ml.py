"""The names and call shapes that hls4ml's users know, over this toolchain; `docs/python.md` lists what differs.

config = config_from_onnx_model("model.onnx", granularity="name")
config["LayerName"]["conv1"]["Precision"]["result"] = "ufixed<8,2,RND,SAT>"
model = convert_from_onnx_model("model.onnx", output_dir="project", hls_config=config, calibration_data=x)
model.compile()
y = model.predict(x)
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from rich.console import Console

from toolchain.compat.formats import forced_formats, random_rows, weighted_layers
from toolchain.compiler import compile_model
from toolchain.deployment.build import build_project
from toolchain.errors import ConfigurationError
from toolchain.frontends import read_graph
from toolchain.hardware.board import board_names, load_board
from toolchain.ir import Array, FixedType, Graph, TensorType
from toolchain.passes import pipeline
from toolchain.project import Project, load
from toolchain.quantization.configuration import check_keys, load_configuration
from toolchain.simulation.simulator import Simulator

OPTIONS = ("board", "part", "clock_period", "io_type", "target_fps", "weight_bits", "activation_bits")
ACTIVATION_BITS = 24


def config_from_onnx_model(
    model: Any, granularity: str = "model", backend: str = "Vitis", default_precision: str = "auto"
) -> dict[str, Any]:
    """A configuration to edit. `model` is a path or a model object; `auto` leaves a format to the compiler."""
    _check_choice(backend, ("Vitis", "Vivado"), "backend")
    _check_choice(granularity, ("model", "name"), "granularity")
    config: dict[str, Any] = {"Model": {"Precision": {"default": default_precision}}}
    if granularity == "name":
        with _stored(model, None) as path:
            graph = _real_graph(path)
        layers = {given.name: {"Precision": {"result": default_precision}} for given in graph.inputs}
        for name, has_weights in weighted_layers(graph).items():
            weights = {"weight": default_precision, "accum": "auto"} if has_weights else {}
            layers[name] = {"Precision": {**weights, "result": default_precision}}
        config["LayerName"] = layers
    return config


def convert_from_onnx_model(
    model: Any,
    output_dir: str | Path = "my-hls-test",
    project_name: str | None = None,
    backend: str = "Vitis",
    hls_config: Mapping[str, Any] | None = None,
    calibration_data: Any = None,
    **options: Any,
) -> Model:
    """A model to `compile`. `calibration_data` is (rows, ...) in the model's layout and scale, or a .npy or .npz file.

    It may be left out only where every format is forced. Options: board, part (of a known board), clock_period in ns,
    target_fps, weight_bits, activation_bits. `project_name` names a model object; a file keeps its own name. Raises
    ConfigurationError for what is unknown or impossible, CalibrationError when data is missing.
    """
    _check_choice(backend, ("Vitis", "Vivado"), "backend")
    check_keys(options, OPTIONS, "options")
    options = {key: value for key, value in options.items() if value is not None}
    _check_choice(options.pop("io_type", "io_stream"), ("io_stream",), "io_type")
    if "part" in options:
        options["board"] = _board_of(options.pop("part"), options.get("board"))
    if "clock_period" in options:
        options["clock_mhz"] = 1000 / options.pop("clock_period")
    with _stored(model, project_name) as path:
        graph = _real_graph(path)
    default, layers = forced_formats(graph, hls_config or {})
    load_configuration({"layers": layers})  # its errors belong here, not into compile()
    if default is not None:
        options.setdefault("activation_bits", min(FixedType.parse(default).width, ACTIVATION_BITS))
    if calibration_data is None:
        calibration_data = random_rows(graph, layers)
    return Model(
        model, project_name, Path(output_dir), {**options, "config": {"layers": layers}, "calibrate": calibration_data}
    )


config_from_keras_model = config_from_onnx_model
convert_from_keras_model = convert_from_onnx_model


class Model:
    """What the converters give: hls4ml's ModelGraph, as far as users call it."""

    def __init__(self, model: Any, name: str | None, output: Path, options: Mapping[str, Any]) -> None:
        self._model, self._name, self._output, self._options = model, name, output, options
        self._project: Project | None = None
        self._simulator: Simulator | None = None

    def compile(self) -> None:
        """Chooses formats and hardware and writes the project; nothing has to be built for `predict`."""
        with _stored(self._model, self._name) as path:
            self._project = compile_model(path, self._output, force=True, **self._options)
        self._simulator = self._project.simulator()

    def write(self) -> None:
        """The same as `compile`, which writes all there is to write."""
        self.compile()

    @property
    def project(self) -> Project:
        """The compiled project, for all that hls4ml has no name for. Raises ConfigurationError before `compile`."""
        if self._project is None:
            raise ConfigurationError("the model is not compiled", fix="Call compile() first.")
        return self._project

    def predict(self, x: Any) -> Any:
        """Outputs as float64, exactly what the hardware gives; a list where the model has several."""
        simulator = self._simulator or self.project.simulator()
        result = simulator.predict(self._named(x))
        return list(result.values()) if isinstance(result, dict) else result

    def trace(self, x: Any) -> tuple[Any, dict[str, Array]]:
        """`predict(x)`, and the last value of every layer, channels-last, in real numbers."""
        graph, values = self.project.graph, {}
        for name, raw in self.project.simulator(engine="reference").trace(self._named(x)):
            type = graph.types[name]
            assert isinstance(type, TensorType)
            values[graph.by_name[name].layer] = raw.astype(np.float64) * 2.0 ** -np.array(type.fractions)
        return self.predict(x), values

    def build(self, csim: bool = True, synth: bool = True, cosim: bool = False, export: bool = False) -> dict[str, Any]:
        """Runs these stages and returns report.json, whose hardware figures are modelled. Raises ToolError."""
        beyond = [stage for stage, wanted in (("cosim", cosim), ("ip", export)) if wanted]  # both synthesize first
        for stage in ["csim"] * csim + (beyond or ["csynth"] * synth):
            build_project(self.project.path, stage, Console(highlight=False))
        return load(self.project.path).report

    def _named(self, x: Any) -> Any:
        names = [given.name for given in self.project.graph.inputs]
        return dict(zip(names, x, strict=True)) if isinstance(x, list | tuple) else x


def _check_choice(value: str, known: Sequence[str], what: str) -> None:
    if value not in known:
        raise ConfigurationError(f"{what} {value!r} is not available", fix=f"Use {' or '.join(known)}.")


@contextmanager
def _stored(model: Any, name: str | None) -> Iterator[Path]:
    """The model's file. An object is saved into a temporary folder, to be read as data like any other file."""
    if isinstance(model, str | Path):
        yield Path(model)
        return
    is_onnx = isinstance(model, onnx.ModelProto)
    if not is_onnx and not hasattr(model, "save"):
        raise ConfigurationError(f"{type(model).__name__} is no model", fix="Give a path, an ONNX or a Keras model.")
    stem = re.sub(r"\W", "_", name or (model.graph.name if is_onnx else getattr(model, "name", None)) or "model")
    with tempfile.TemporaryDirectory(prefix="toolchain-") as folder:
        path = Path(folder) / f"{stem}{'.onnx' if is_onnx else '.keras'}"
        onnx.save_model(model, path) if is_onnx else model.save(path)
        yield path


def _real_graph(path: Path) -> Graph:
    return pipeline.run(read_graph(path), pipeline.REAL_PASSES)


def _board_of(part: str, board: str | None) -> str:
    for name in [board] if board else board_names():
        if load_board(name).part == part:
            return name
    raise ConfigurationError(f"no board has the part {part!r}", fix="See `toolchain boards`, or add a board file.")
