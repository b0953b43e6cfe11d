"""Keras front end: reads `.keras`, `.h5` and `.json` models without Keras, as data."""

from toolchain.frontends.keras.translate import load

__all__ = ["load"]
