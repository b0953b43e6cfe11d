"""Trains the digits example and writes `digits.onnx` and `digits.npz` beside this file.

A small residual network on the 8 x 8 handwritten digits that scikit-learn ships, made so that the main job has
something of everything to compile: convolutions, batch normalization, a skip connection, pooling, a dense layer.
Both files are committed, so nobody has to run this. To run it all the same:

    pip install -e '.[tensorflow,examples]'
    python examples/digits/train.py

It takes about a minute on two cores. The seeds are fixed and TensorFlow's operators are deterministic, so one
machine gives the same bytes each time; another processor may round its float sums differently.
"""

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from toolchain.frontends.keras import load

HERE = Path(__file__).resolve().parent
SEED = 20160507
TEST_IMAGES = 500
CHANNELS = 24
BATCH = 32
EPOCHS = 100
REQUIRED_ACCURACY = 0.985

Images = npt.NDArray[np.uint8]  # (N, 8, 8, 1), values 0 to 16
Labels = npt.NDArray[np.uint8]  # (N,), values 0 to 9


def data() -> tuple[Images, Labels, Images, Labels]:
    """The fixed split: x_train, y_train, x_test, y_test. The test part is never seen in training."""
    digits = load_digits()
    images = digits.images.astype(np.uint8)[..., None]
    labels = digits.target.astype(np.uint8)
    x_train, x_test, y_train, y_test = train_test_split(
        images, labels, test_size=TEST_IMAGES, random_state=SEED, stratify=labels
    )
    return x_train, y_train, x_test, y_test


def scaled(images: Images) -> npt.NDArray[np.float32]:
    """Pixels 0 to 16 as the model wants them: 0.0 to 1.0, exact in binary."""
    return images.astype(np.float32) / np.float32(16)


def shifted(images: Images) -> Images:
    """The images moved by at most one pixel, all nine ways one after the other: (9 N, 8, 8, 1)."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return np.concatenate([padded[:, row : row + 8, column : column + 8] for row in range(3) for column in range(3)])


def network() -> keras.Model:
    """Convolution, a residual block of two more, max pooling, dense. About 15,000 parameters; the output is logits."""

    def convolution(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        x = keras.layers.Conv2D(CHANNELS, 3, padding="same", use_bias=False, name=name)(x)
        return keras.layers.BatchNormalization(name=f"{name}_norm")(x)

    image = keras.Input((8, 8, 1), name="image")
    trunk = keras.layers.ReLU(name="stem_relu")(convolution(image, "stem"))
    branch = keras.layers.ReLU(name="block_relu1")(convolution(trunk, "block_conv1"))
    branch = convolution(branch, "block_conv2")
    x = keras.layers.ReLU(name="block_relu2")(keras.layers.Add(name="block_add")([trunk, branch]))
    x = keras.layers.MaxPooling2D(2, name="pool")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    return keras.Model(image, keras.layers.Dense(10, name="digit")(x), name="digits")


def trained(x_train: Images, y_train: Labels) -> keras.Model:
    """The network after training on every one-pixel shift. Each epoch sees as many images as the train set has."""
    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    x, y = scaled(shifted(x_train)), np.tile(y_train, 9)
    model = network()
    steps = len(x_train) // BATCH
    rate = keras.optimizers.schedules.CosineDecay(0.0, EPOCHS * steps, warmup_target=2e-3, warmup_steps=2 * steps)
    model.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    batches = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed=SEED).repeat().batch(BATCH)
    model.fit(batches, steps_per_epoch=steps, epochs=EPOCHS, verbose=2)
    return model


def export(model: keras.Model, path: Path) -> None:
    """Writes the model as ONNX by way of a `.keras` file and the toolchain's own Keras front end."""
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "digits.keras"
        model.save(saved)
        onnx.save(load(saved), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=HERE, help="folder of digits.onnx and digits.npz")
    folder = parser.parse_args().output

    x_train, y_train, x_test, y_test = data()
    model = trained(x_train, y_train)
    expected = model.predict(scaled(x_test), verbose=0)
    accuracy = float((expected.argmax(axis=1) == y_test).mean())
    print(f"{model.count_params()} parameters, accuracy {accuracy:.2%} on {len(y_test)} test images")
    if accuracy < REQUIRED_ACCURACY:
        raise SystemExit(f"accuracy is below {REQUIRED_ACCURACY:.1%}: nothing was written")

    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "digits.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    path = folder / "digits.onnx"
    export(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: scaled(x_test)})
    print(f"{path.name}: {path.stat().st_size} bytes, largest difference from Keras {np.abs(got - expected).max():.1e}")
    if not np.array_equal(got.argmax(axis=1), expected.argmax(axis=1)):
        raise SystemExit("the ONNX file classifies differently from the Keras model")


if __name__ == "__main__":
    main()
