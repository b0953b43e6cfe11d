"""Writes Keras model files by hand, byte layouts as Keras 2 and 3 write them: no TensorFlow is needed to test."""

import io
import json
import zipfile

import h5py
import numpy as np

INITIALIZER = {"module": "keras.initializers", "class_name": "Zeros", "config": {}, "registered_name": None}
POLICY = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}, "registered_name": None}


def layer(kind, name, calls=None, **config):
    """One serialized layer; `calls` are lists of the layers it is called on, for Functional models."""
    serialized = {"class_name": kind, "config": {"name": name, "trainable": True, "dtype": "float32", **config}}
    if kind == "InputLayer":
        del serialized["config"]["trainable"]
    if calls is not None:
        serialized |= {"name": name, "inbound_nodes": calls}
    return serialized


def keras2_call(*sources):
    return [[source, 0, 0, {}] for source in sources]


def keras3_call(*sources):
    tensors = [
        {
            "class_name": "__keras_tensor__",
            "config": {"shape": None, "dtype": "float32", "keras_history": [source, 0, 0]},
        }
        for source in sources
    ]
    return {"args": [tensors if len(tensors) > 1 else tensors[0]], "kwargs": {}}


def sequential(*layers, name="net"):
    return {"class_name": "Sequential", "config": {"name": name, "layers": list(layers)}}


def functional(*layers, inputs, outputs, name="net"):
    ends = {
        key: [[layer, 0, 0] for layer in names] for key, names in (("input_layers", inputs), ("output_layers", outputs))
    }
    return {"class_name": "Functional", "config": {"name": name, "trainable": True, "layers": list(layers), **ends}}


def keras3(config):
    """The same model as Keras 3 serializes it: modules and dtype policies."""
    config = json.loads(json.dumps(config))
    config |= {"module": "keras", "registered_name": None}
    for member in config["config"]["layers"]:
        member |= {"module": "keras.layers", "registered_name": None}
        if member["class_name"] == "InputLayer":
            member["config"]["batch_shape"] = member["config"].pop("batch_input_shape")
        else:
            member["config"]["dtype"] = POLICY
    return config


def write_weights(group, weights):
    """Keras 2: `weights` maps every layer to pairs of name and array."""
    group.attrs["layer_names"] = np.array([name.encode() for name in weights])
    group.attrs["backend"] = "tensorflow"
    group.attrs["keras_version"] = "2.4.0"
    for name, tensors in weights.items():
        own = group.create_group(name)
        own.attrs["weight_names"] = np.array([f"{name}/{role}:0".encode() for role, _ in tensors])
        for role, array in tensors:
            own[f"{name}/{role}:0"] = array


def write_h5(path, config, weights, version="2.4.0"):
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = version
        write_weights(file.create_group("model_weights"), weights)
    return path


def write_json(path, config, weights, suffix="_weights.h5", version="2.4.0"):
    path.write_text(json.dumps({**config, "keras_version": version, "backend": "tensorflow"}))
    with h5py.File(path.with_name(path.stem + suffix), "w") as file:
        write_weights(file, weights)
    return path


def numbered(weights):
    """Keras 3's weight file: `weights` maps `dense`, `conv2d_1`, ... to arrays."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_group("vars")
        for name, arrays in weights.items():
            own = file.create_group(f"layers/{name}/vars")
            for index, array in enumerate(arrays):
                own[str(index)] = array
    return buffer.getvalue()


def write_keras(path, config, weights, version="3.15.1", compression=zipfile.ZIP_STORED):
    """`weights` as for `numbered`, or the bytes of a weight file."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version, "date_saved": "2026-01-01@00:00:00"}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", weights if isinstance(weights, bytes) else numbered(weights))
    return path
