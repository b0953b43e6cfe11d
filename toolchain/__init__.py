"""Compiler from trained networks to FPGAs and embedded targets, bit for bit as simulated.

project = toolchain.compile("model.onnx", "project", calibrate="x.npy", board="zcu104")
y = toolchain.load("project").simulator(engine="fast").predict(x)
"""

from toolchain.compiler import compile_model as compile  # noqa: A004 - toolchain.compile is the contract
from toolchain.errors import ToolchainError
from toolchain.project import Project, load
from toolchain.simulation.simulator import Simulator
from toolchain.version import __version__

__all__ = ["Project", "Simulator", "ToolchainError", "__version__", "compile", "load"]
