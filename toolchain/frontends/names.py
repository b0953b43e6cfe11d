"""Names of an ONNX model under construction, which its nodes and its values have each once."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Names:
    """Those that are taken."""

    _value_names: set[str] = field(default_factory=set, init=False)
    _node_names: set[str] = field(default_factory=set, init=False)

    def value_name(self, wanted: str) -> str:
        """`wanted`, or with a number behind it when a value has this name already."""
        return _reserve(wanted, self._value_names)

    def node_name(self, wanted: str) -> str:
        """`wanted`, or with a number behind it when a node has this name already."""
        return _reserve(wanted, self._node_names)


def _reserve(wanted: str, taken: set[str]) -> str:
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    taken.add(name)
    return name
