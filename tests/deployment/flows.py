"""Networks of every width, and the files of a flow for them: what tests of block designs and cards begin with."""

import os
import shutil
from pathlib import Path

import pytest

from toolchain.codegen.flow import render_flow
from toolchain.codegen.project import write_files
from toolchain.hardware.board import board_names, load_board
from toolchain.hardware.network import Network
from toolchain.hardware.terminals import Terminal
from toolchain.ir import FixedType, TensorType

ROOT = Path(__file__).parents[2]
BOARDS = {name: load_board(name) for name in board_names()}
PLACED = [name for name, board in BOARDS.items() if board.flow in {"vivado", "kria"}]
LINKED = [name for name, board in BOARDS.items() if board.flow == "vitis"]
KRIA = [name for name, board in BOARDS.items() if board.flow == "kria"]

needs_dtc = pytest.mark.skipif(
    shutil.which("dtc") is None and not os.environ.get("CI"),
    reason="dtc is not installed: apt-get install device-tree-compiler",
)


def network(inputs: int = 1, outputs: int = 2) -> Network:
    """Only what the flows look at: the terminals, of all widths that there are."""

    def terminal(name: str, k: int) -> Terminal:
        type = TensorType.of((2, 64), FixedType(8, 4))
        lanes, bits = (1, 8, 64, 2)[k % 4], (8, 8, 8, 32)[k % 4]
        return Terminal(name, f"{name}_axis", name, type, lanes, bits, (1, 1, 1, 2, 64), (0, 0, 0, 64, 1))

    given = tuple(terminal(f"x{k}" if k else "x", k) for k in range(inputs))
    taken = tuple(terminal(f"y{k}" if k else "y", k + 1) for k in range(outputs))
    return Network("tiny", (), {}, given, taken)


SIZES = {"one": (1, 1), "two outputs": (1, 2), "many": (9, 30)}


def place(folder: Path, board: str, design: Network, decoders: int = 0) -> Path:
    """`hls/` with the flow's files, behind an IP export."""
    write_files(folder, render_flow(design, BOARDS[board], BOARDS[board].clock_mhz, decoders))
    write_files(folder, {"vitis_hls/solution/impl/ip/component.xml": ""})
    return folder / "flow/system.tcl"
