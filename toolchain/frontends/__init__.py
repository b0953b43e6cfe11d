"""Model files to real-valued graphs. The only code that reads untrusted files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from onnx import ModelProto

from toolchain.errors import ModelError
from toolchain.ir import Graph

KERAS_SUFFIXES = (".keras", ".h5", ".hdf5", ".json")
PYTORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")


def read_model(
    path: Path, weights: Path | None = None, input_shapes: Mapping[str, tuple[int, ...]] | None = None
) -> ModelProto:
    """A model file as a clean ONNX model of one opset, constants folded, the batch set to 1.

    Raises ModelError (UnsafeModel, UnsupportedOperator) for everything that cannot be read.
    """
    from toolchain.frontends import keras, tensorflow_files, tflite
    from toolchain.frontends.onnx import load, normalize

    if tensorflow_files.is_tensorflow(path):
        if weights is not None:
            raise ModelError("--weights goes with a Keras model", where=path.name)
        model = tensorflow_files.load(path, input_shapes)
        names = {given.name for given in model.graph.input}
        shapes = {name if name in names else f"{name}:0": shape for name, shape in (input_shapes or {}).items()}
        return normalize(model, shapes)
    if not path.is_file():
        raise ModelError("is no file" if not path.is_dir() else "is a folder without saved_model.pb", where=str(path))
    suffix = path.suffix.lower()
    if suffix in PYTORCH_SUFFIXES:
        raise ModelError(
            "is a PyTorch file: it holds code or weights without the network",
            where=path.name,
            fix="Export it with torch.onnx.export(model, example, 'model.onnx', opset_version=18).",
        )
    if suffix in KERAS_SUFFIXES:
        return normalize(keras.load(path, weights, input_shapes), input_shapes)
    if weights is not None:
        raise ModelError("--weights goes with a Keras model", where=path.name)
    if suffix == ".tflite":
        return normalize(tflite.load(path), input_shapes)
    return normalize(load(path), input_shapes)


def read_graph(
    path: Path, weights: Path | None = None, input_shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Graph:
    """A model file as a real-valued graph, or as an integer program where the model brings its own quantization.

    One UnsupportedOperator lists everything that is not supported.
    """
    from toolchain.frontends import tflite
    from toolchain.frontends.importer import Importer

    if path.suffix.lower() == ".tflite" and path.is_file() and weights is None:
        integers = tflite.load_integers(path, input_shapes)
        if integers is not None:
            return integers
    return Importer(read_model(path, weights, input_shapes), path.stem).run()
