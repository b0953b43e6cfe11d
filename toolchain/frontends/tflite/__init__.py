"""TFLite front end: reads `.tflite` files by the flatbuffer schema, without TensorFlow, as data."""

from toolchain.frontends.tflite.builder import TRANSLATIONS
from toolchain.frontends.tflite.integers import INTEGER
from toolchain.frontends.tflite.translate import load, load_integers

__all__ = ["INTEGER", "TRANSLATIONS", "load", "load_integers"]
