"""All operators, one file each. Importing this package registers every file in its folder."""

import importlib
import pkgutil

from toolchain.ops.base import IMPORTERS, OPERATORS, Operator, Sample

SHARED = ("base", "linear")
"""Files that hold no operator of their own."""

MODULES = tuple(
    importlib.import_module(f"{__name__}.{info.name}")
    for info in pkgutil.iter_modules(__path__)
    if info.name not in SHARED
)

__all__ = ["IMPORTERS", "MODULES", "OPERATORS", "Operator", "Sample"]
