"""The intermediate representation: fixed-point types, tensors, nodes, graphs, and their textual form."""

from toolchain.ir.constant import Array, Constant, Levels
from toolchain.ir.fixed import FixedType, Overflow, Rounding
from toolchain.ir.graph import Graph, Input, Node, Output
from toolchain.ir.types import Meaning, RealType, Shape, TensorType, Type

__all__ = [
    "Array",
    "Constant",
    "FixedType",
    "Graph",
    "Input",
    "Levels",
    "Meaning",
    "Node",
    "Output",
    "Overflow",
    "RealType",
    "Rounding",
    "Shape",
    "TensorType",
    "Type",
]
