"""Keras files that lie, break or attack: one clear error, nothing executed, nothing large allocated."""

import contextlib
import json
import os
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest

from tests.frontends.keras_files import (
    layer,
    sequential,
    write_h5,
    write_json,
    write_keras,
)
from tests.frontends.test_keras import BIAS, KERNEL, MATRIX, NAMED, NET, NUMBERED, OFFSET
from toolchain.errors import ModelError, ToolchainError, UnsafeModel, UnsupportedOperator
from toolchain.frontends.keras import load

DENSE = sequential(layer("InputLayer", "x", batch_input_shape=[None, 4]), layer("Dense", "d", units=3))


def with_kernel(tmp_path, make, config=DENSE):
    """A model whose `d/kernel` is created by `make(group, name)`."""
    path = write_h5(tmp_path / "m.h5", config, {"x": [], "d": [("kernel", MATRIX), ("bias", OFFSET)]})
    with h5py.File(path, "a") as file:
        group = file["model_weights/d/d"]
        del group["kernel:0"]
        make(group, "kernel:0")
    return path


@pytest.mark.parametrize("write", [
    lambda folder: write_h5(folder / "m.h5", NET, NAMED),
    lambda folder: write_keras(folder / "m.keras", NET, NUMBERED),
    lambda folder: write_keras(folder / "m.keras", NET, NUMBERED, compression=zipfile.ZIP_DEFLATED),
    lambda folder: write_json(folder / "m.json", NET, NAMED),
], ids=["h5", "keras", "deflated", "json"])  # fmt: skip
def test_damage(write, tmp_path):
    """Cut anywhere, or with bytes changed, a file loads or gives one of our errors."""
    path = write(tmp_path)
    whole, rng, outcomes = path.read_bytes(), np.random.default_rng(11), []
    damaged = [whole[: len(whole) * part // 12] for part in range(12)]
    for count in [1, 4, 64] * 30:
        content = np.frombuffer(whole, np.uint8).copy()
        content[rng.integers(0, len(content), count)] = rng.integers(0, 256, count)
        damaged.append(content.tobytes())
    for content in damaged:
        path.write_bytes(content)
        try:
            load(path)
            outcomes.append(None)
        except ToolchainError as error:
            outcomes.append(str(error))
    assert all(outcomes[:12])
    assert sum(outcome is not None for outcome in outcomes) > 30


def test_damaged_weights(tmp_path):
    path = write_json(tmp_path / "m.json", NET, NAMED)
    weights = tmp_path / "m_weights.h5"
    whole, rng = weights.read_bytes(), np.random.default_rng(12)
    for count in [1, 8, 128] * 30:
        content = np.frombuffer(whole, np.uint8).copy()
        content[rng.integers(0, len(content), count)] = rng.integers(0, 256, count)
        weights.write_bytes(content.tobytes())
        with contextlib.suppress(ToolchainError):
            load(path)


def test_not_a_model(tmp_path):
    (tmp_path / "folder.keras").mkdir()
    os.mkfifo(tmp_path / "pipe.h5")
    (tmp_path / "text.h5").write_text("hello")
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "empty.json").write_text("")
    (tmp_path / "text.json").write_bytes(b"\xff\xfe{}")
    for name in (
        "missing.h5",
        "folder.keras",
        "pipe.h5",
        "text.h5",
        "list.json",
        "empty.json",
        "text.json",
        "nul\0.h5",
    ):
        with pytest.raises(ModelError):
            load(tmp_path / name)


@pytest.mark.parametrize("length", [0, 1 << 63, (1 << 64) - 16, 1 << 20])
def test_a_heap_that_does_not_add_up(length, tmp_path):
    """The HDF5 library would walk it for ever."""
    path = write_h5(tmp_path / "m.h5", NET, NAMED)
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    content[heap + 16 : heap + 18] = b"\0\0" if length == 0 else b"\1\0"
    content[heap + 24 : heap + 32] = length.to_bytes(8, "little")
    path.write_bytes(content)
    with pytest.raises(ModelError, match="heap"):
        load(path)


def test_weights_without_architecture(tmp_path):
    write_json(tmp_path / "m.json", NET, NAMED)
    with pytest.raises(ModelError, match="no model_config"):
        load(tmp_path / "m_weights.h5")


@pytest.mark.parametrize("name", ["../escape.json", "/etc/passwd", "a/../../b", "C:\\x", "..\\x"])
def test_archive_paths(name, tmp_path):
    path = write_keras(tmp_path / "m.keras", NET, NUMBERED)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, "x")
    with pytest.raises(UnsafeModel, match="outside itself"):
        load(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archive_with_a_name_twice(tmp_path):
    path = write_keras(tmp_path / "m.keras", NET, NUMBERED)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(UnsafeModel, match="twice"):
        load(path)


def test_archive_without_a_member(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("metadata.json", "{}")
    with pytest.raises(ModelError, match=r"no config\.json"):
        load(tmp_path / "m.keras")


def test_archive_with_sharded_weights(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        for name, content in (("config.json", json.dumps(NET)), ("metadata.json", "{}"), ("model.weights.json", "{}")):
            archive.writestr(name, content)
    with pytest.raises(ModelError, match="shards"):
        load(tmp_path / "m.keras")


def test_archive_bomb(tmp_path):
    """A hundred megabytes of zeros from a hundred kilobytes: refused by the declared size."""
    path = tmp_path / "m.keras"
    write_keras(path, NET, bytes(100 << 20), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UnsafeModel, match="declares 104857600 bytes"):
        load(path)


def test_archive_that_declares_too_much(tmp_path):
    path = write_keras(tmp_path / "m.keras", NET, NUMBERED)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"model.weights.h5") - 46
    content[entry + 24 : entry + 28] = (0xF0000000).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(UnsafeModel, match="declares"):
        load(path)


def test_archive_that_declares_too_little(tmp_path):
    path = write_keras(tmp_path / "m.keras", NET, NUMBERED, compression=zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"model.weights.h5") - 46
    content[entry + 24 : entry + 28] = (64).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(ModelError):
        load(path)


@pytest.mark.parametrize(
    "text", ['{"a":' * 3000 + "1" + "}" * 3000, "[" * 100_000, '{"a":' + "[" * 200 + "]" * 200 + "}"]
)
def test_nesting(text, tmp_path):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(ModelError, match=r"nested|JSON"):
        load(tmp_path / "m.json")


@pytest.mark.parametrize(
    "text", ['{"a": ' + "9" * 10_000 + "}", '{"a": 1, "a": 2}', '{"a": "' + "x" * 100_000 + '"}'], ids=range(3)
)
def test_json_extent(text, tmp_path):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(ModelError):
        load(tmp_path / "m.json")


def test_links(tmp_path):
    """A downloaded folder must not make us read another file."""
    path = write_json(tmp_path / "m.json", NET, NAMED)
    weights = tmp_path / "m_weights.h5"
    elsewhere = weights.rename(tmp_path / "elsewhere")
    for link in (weights.symlink_to, weights.hardlink_to):
        link(elsewhere)
        with pytest.raises(UnsafeModel, match="links are not followed"):
            load(path)
        weights.unlink()


def external_link(group, name):
    group[name] = h5py.ExternalLink("/etc/hostname", "/x")


def soft_link(group, name):
    group["other"] = MATRIX
    group[name] = h5py.SoftLink("other")


def external_storage(group, name):
    group.create_dataset(name, (4, 3), "f4", external=[("/etc/passwd", 0, 48)])


def virtual(group, name):
    layout = h5py.VirtualLayout((4, 3), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (4, 3))
    group.create_virtual_dataset(name, layout)


def objects(group, name):
    group.create_dataset(name, (4, 3), h5py.string_dtype())


def references(group, name):
    group.create_dataset(name, (4, 3), h5py.ref_dtype)


def compound(group, name):
    group.create_dataset(name, (4, 3), np.dtype([("a", "f4")]))


def unallocated(group, name):
    group.create_dataset(name, (4, 3), "f4")


@pytest.mark.parametrize(
    "make", [external_link, soft_link, external_storage, virtual, objects, references, compound, unallocated]
)
def test_tensors_of_another_kind(make, tmp_path):
    with pytest.raises(UnsafeModel):
        load(with_kernel(tmp_path, make))


def test_a_group_in_place_of_a_tensor(tmp_path):
    with pytest.raises(ModelError, match="no such tensor"):
        load(with_kernel(tmp_path, lambda group, name: group.create_group(name)))


@pytest.mark.parametrize("name", ["../../x", "/model_weights/d/d/bias:0", "d//kernel:0", ""])
def test_weight_names_are_no_paths(name, tmp_path):
    path = write_h5(tmp_path / "m.h5", DENSE, {"x": [], "d": [("kernel", MATRIX), ("bias", OFFSET)]})
    with h5py.File(path, "a") as file:
        file["model_weights/d"].attrs["weight_names"] = np.array([name.encode(), b"d/bias:0"], "S64")
    with pytest.raises(UnsafeModel, match="the weights name the path"):
        load(path)


@pytest.mark.parametrize(("rows", "chunks"), [(1 << 40, True), (1 << 27, True), (1 << 27, None)])
def test_a_tensor_declared_large(rows, chunks, tmp_path):
    """The configuration asks for the same size; the file does not hold it."""
    config = sequential(
        layer("InputLayer", "x", batch_input_shape=[None, min(rows, 1 << 30)]), layer("Dense", "d", units=3)
    )
    make = lambda group, name: group.create_dataset(name, (min(rows, 1 << 30), 3), "f4", chunks=chunks)  # noqa: E731
    path = with_kernel(tmp_path, make, config)
    tracemalloc.start()
    with pytest.raises(UnsafeModel, match=r"the file holds|larger than"):
        load(path)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_weights_must_be_finite(value, tmp_path):
    broken = KERNEL.astype(np.float64)
    broken[1, 2, 0, 3] = value
    with pytest.raises(ModelError, match=r"c/kernel: .*\(1, 2, 0, 3\)"):
        load(write_h5(tmp_path / "m.h5", NET, {**NAMED, "c": [("kernel", broken), ("bias", BIAS)]}))


@pytest.mark.parametrize("shape", [(3, 3, 4, 2), (3, 3, 2, 5), (72,), ()])
def test_weight_shapes(shape, tmp_path):
    with pytest.raises(ModelError, match=r"c/kernel: the stored shape is .* asks for \(3, 3, 2, 4\)"):
        load(write_keras(tmp_path / "m.keras", NET, {**NUMBERED, "conv2d": [np.zeros(shape, np.float32), BIAS]}))


def test_number_of_weights(tmp_path):
    for arrays in ([KERNEL], [KERNEL, BIAS, BIAS], []):
        with pytest.raises(ModelError, match=r"c: \d weight tensors are stored"):
            load(write_keras(tmp_path / "m.keras", NET, {**NUMBERED, "conv2d": arrays}))
    with pytest.raises(ModelError, match="weights are for 1 layers"):
        load(write_h5(tmp_path / "m.h5", NET, {"d": NAMED["d"]}))


def test_negative_variance(tmp_path):
    net = sequential(layer("InputLayer", "x", batch_input_shape=[None, 2]), layer("BatchNormalization", "y", axis=[1]))
    arrays = [np.array([1, -1], np.float32)] * 4
    with pytest.raises(ModelError, match="not positive"):
        load(write_keras(tmp_path / "m.keras", net, {"batch_normalization": arrays}))


def test_lambda_is_never_run(tmp_path):
    """The payload is what a Keras 2 Lambda carries: marshalled code. Here it is not even decoded."""
    net = sequential(
        layer("InputLayer", "x", batch_input_shape=[None, 4]),
        layer("Lambda", "l", function=["4wEAAAA=\n", None, None], function_type="lambda", module="os"),
    )
    with pytest.raises(UnsupportedOperator, match="never executed"):
        load(write_h5(tmp_path / "m.h5", net, {}))
