"""Compiler from trained networks to FPGAs and embedded targets, bit for bit as simulated.

project = toolchain.compile("model.onnx", "project", calibrate="x.npy", board="zcu104")
y = toolchain.load("project").simulator(engine="fast").predict(x)
"""

from typing import TYPE_CHECKING, Any

from toolchain.version import __version__

if TYPE_CHECKING:
    from toolchain.compiler import compile_model as compile  # noqa: A004 - toolchain.compile is the contract
    from toolchain.errors import ToolchainError
    from toolchain.exchange import other_weights as weights
    from toolchain.project import Project, load
    from toolchain.simulation.simulator import Simulator
    from toolchain.training.project import fine_tune

__all__ = ["Project", "Simulator", "ToolchainError", "__version__", "compile", "fine_tune", "load", "weights"]

_PLACES = {
    "compile": ("toolchain.compiler", "compile_model"),
    "fine_tune": ("toolchain.training.project", "fine_tune"),
    "ToolchainError": ("toolchain.errors", "ToolchainError"),
    "Project": ("toolchain.project", "Project"),
    "weights": ("toolchain.exchange", "other_weights"),
    "load": ("toolchain.project", "load"),
    "Simulator": ("toolchain.simulation.simulator", "Simulator"),
}


def __getattr__(name: str) -> Any:
    """Imports the compiler when it is first used: a command that only prints should not wait for it."""
    if name not in _PLACES:
        raise AttributeError(f"module 'toolchain' has no attribute {name!r}")
    import importlib

    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(module), attribute)
