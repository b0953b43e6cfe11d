"""Small ONNX models for tests, and the command line run inside this process."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from toolchain.cli import main


@dataclass
class Model:
    """An ONNX model under construction; weights are drawn with a fixed seed."""

    opset: int = 17
    seed: int = 3
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    domains: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def input(self, name: str, *shape: int | str | None, kind: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def constant(self, values: Any, name: str = "", dtype: Any = np.float32) -> str:
        name = name or f"const{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def integers(self, *values: int, name: str = "") -> str:
        return self.constant(values, name, np.int64)

    def noise(self, *shape: int, name: str = "") -> str:
        return self.constant(self.rng.normal(size=shape) / max(1, np.sqrt(np.prod(shape[1:]))), name)

    def add(self, op_type: str, *inputs: str, name: str = "", out: str = "", **attributes: Any) -> str:
        name = name or f"{op_type.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [out or name], name=name, **attributes))
        domain = attributes.get("domain", "")
        if domain and domain not in self.domains:
            self.domains.append(domain)
        return out or name

    def output(self, name: str) -> str:
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        return name

    def proto(self, name: str = "graph") -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, name, self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(name, 1) for name in self.domains)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def save(self, path: Path) -> Path:
        path.write_bytes(self.proto().SerializeToString())
        return path


def dense(path: Path) -> Path:
    """Six inputs, two fully connected layers."""
    m = Model()
    m.input("x", "N", 6)
    m.add("Gemm", "x", m.noise(6, 5), m.noise(5), name="first")
    m.add("Relu", "first", name="relu")
    m.output(m.add("Gemm", "relu", m.noise(5, 3), m.noise(3), name="second"))
    return m.save(path)


def two_ports(path: Path) -> Path:
    """Two inputs and two outputs, a strided convolution among the layers."""
    m = Model()
    m.input("a", 1, 2, 6, 6)
    m.input("b", 1, 4, 3, 3)
    conv = m.add("Conv", "a", m.noise(4, 2, 3, 3), m.noise(4), name="conv", strides=[2, 2], pads=[1, 1, 1, 1])
    m.add("Relu", m.add("Add", conv, "b", name="sum"), name="joined")
    m.output("joined")
    flat = m.add("Flatten", "joined", name="flat")
    m.output(m.add("Gemm", flat, m.noise(36, 3), m.noise(3), name="scores"))
    return m.save(path)


def rows(*shape: int, seed: int = 5) -> np.ndarray:
    """Normal float32 numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def run(*arguments: object) -> int:
    """`toolchain ...` in this process; returns the exit code, which must not be that of a bug."""
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    assert left.value.code != os.EX_SOFTWARE
    return left.value.code if isinstance(left.value.code, int) else 1


def listing(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, hidden files too, with contents."""
    found: dict[str, bytes | None] = {}
    for path in sorted(folder.rglob("*")):
        key = path.relative_to(folder).as_posix()
        found[key] = path.read_bytes() if path.is_file() and not path.is_symlink() else None
    return found
