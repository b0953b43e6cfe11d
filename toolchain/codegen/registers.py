"""The AXI4-Lite registers of an accelerator: the one map that C++, Tcl and host programs are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CONTROL = 0x00
"""ap_ctrl_hs: bit 0 start (cleared by the accelerator), 1 done (cleared by a read), 2 idle, 3 ready.

Kernels of the flow `vitis` have ap_ctrl_chain, where done stays until bit 4, continue, is written: XRT does that.
"""
GLOBAL_INTERRUPT, INTERRUPT_ENABLE, INTERRUPT_STATUS = 0x04, 0x08, 0x0C
"""Bit 0 of the first enables the interrupt line; bit 0 of the others is `done`, cleared by writing 1 to the status."""
START, DONE, IDLE = 1, 2, 4


@dataclass(frozen=True)
class Register:
    """An argument of the accelerator: its C++ name and the offset in bytes.

    `in` is written by the host before a start, `out` read after the end. 64 bits are two words, the low one first.
    """

    name: str
    offset: int
    bits: Literal[1, 32, 64]
    direction: Literal["in", "out"]
    meaning: str


FRAMES = Register("frames", 0x10, 32, "in", "frames of this call; 0 only gives the build id")
BUILD_ID = Register("build_id", 0x20, 32, "out", "which hardware this is, see `host/accelerator.json`")
LOADING = (
    Register("weight_codes", 0x30, 64, "in", "physical address of the weight container"),
    Register("weight_raw", 0x40, 64, "in", "the same address"),
    Register("weight_bytes", 0x50, 32, "in", "length of the weight container"),
    Register("load", 0x60, 1, "in", "1 takes other weights and touches no stream, 0 processes frames"),
    Register("weight_status", 0x70, 32, "out", "0, or why weights were refused or frames not processed"),
)


FURTHER = 0x80
"""Where the addresses of further decoders begin."""


def registers(decoders: int) -> tuple[Register, ...]:
    """Those of a design, in the order of its C++ arguments; `decoders` read its weights, 0 where they are constants."""
    if not decoders:
        return FRAMES, BUILD_ID
    codes, raw, *_ = LOADING
    further = [
        Register(f"{first.name}_{k}", FURTHER + 0x20 * (k - 1) + at, 64, "in", "the same address, for another decoder")
        for k in range(1, decoders)
        for first, at in ((codes, 0), (raw, 0x10))
    ]
    return FRAMES, BUILD_ID, *LOADING, *further
