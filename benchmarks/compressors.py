"""General compressors, for comparison with codes that know what they code."""

from __future__ import annotations

import bz2
import importlib
import lzma
import zlib
from collections.abc import Callable

COMPRESSORS = ("zlib", "bz2", "lzma", "zstd", "brotli")


def compressors() -> dict[str, Callable[[bytes], bytes]]:
    """General compressors at their best; those that are no part of Python only where they are installed."""
    found: dict[str, Callable[[bytes], bytes]] = {
        "zlib": lambda data: zlib.compress(data, 9),
        "bz2": lambda data: bz2.compress(data, 9),
        "lzma": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
    }
    for name, module, press in (
        ("zstd", "zstandard", lambda m: m.ZstdCompressor(level=22).compress),
        ("brotli", "brotli", lambda m: m.compress),
    ):
        try:
            found[name] = press(importlib.import_module(module))
        except ImportError:
            continue
    return found
