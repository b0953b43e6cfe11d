"""TFLite front end: reads `.tflite` files by the flatbuffer schema, without TensorFlow, as data."""

from toolchain.frontends.tflite.translate import load, load_integers

__all__ = ["load", "load_integers"]
