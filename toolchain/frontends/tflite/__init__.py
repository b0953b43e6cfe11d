"""TFLite front end: reads `.tflite` files by the flatbuffer schema, without TensorFlow, as data."""

from toolchain.frontends.tflite.translate import load

__all__ = ["load"]
