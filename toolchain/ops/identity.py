"""Operators that do nothing when a network runs: Identity, Dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolchain.errors import UnsupportedOperator
from toolchain.ops.base import importer

if TYPE_CHECKING:
    from toolchain.frontends.importer import Importer, OnnxNode


@importer("Identity", "Dropout")
def import_identity(importing: Importer, node: OnnxNode) -> None:
    node.ignore("ratio", "seed", "is_test")
    if node.op_type == "Dropout" and node.has(2) and importing.constant(node, 2, "training_mode").any():
        raise UnsupportedOperator("is in training mode")
    importing.bind(node, importing.value(node, 0))
