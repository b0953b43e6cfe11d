"""The accelerator behind PYNQ: an overlay with one AXI DMA engine for each input and output.

The block design names the accelerator `accelerator_0` and the engines `dma_INPUT` and `dma_OUTPUT`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from dct_accelerator import AcceleratorError, Description, Terminal

ACCELERATOR = "accelerator_0"
CONTROL, START, DONE, IDLE = 0x00, 1, 2, 4
SEND_CONTROL, SEND_STATUS = 0x00, 0x04
RECEIVE_CONTROL, RECEIVE_STATUS, RECEIVED_LENGTH = 0x30, 0x34, 0x58
RESET = 4
"""Of an engine's control register: stops whatever it does."""
ERRORS = {0x10: "internal error", 0x20: "slave error", 0x40: "address error"}
"""Bits of a DMA engine's status register (AMD PG021)."""
POLL_SECONDS = 20e-6
ADVICE = "Program the board again, and check that image and host/ come from one project."


class PynqBackend:
    """Drives the registers and DMA engines of an overlay.

    `timeout` are seconds for one call. Raises AcceleratorError when the overlay lacks a part, and when a call hangs;
    then the hardware has to be programmed again.
    """

    def __init__(self, description: Description, image: str, timeout: float) -> None:
        self._description, self._timeout = description, timeout
        try:
            import pynq
        except ImportError:
            raise AcceleratorError("the package pynq is not installed. Run this on a board with PYNQ.") from None
        self._pynq = pynq
        try:
            self._overlay = pynq.Overlay(image)
        except (OSError, RuntimeError, ValueError) as error:
            raise AcceleratorError(f"{image}: PYNQ cannot load it: {error}") from None
        self._registers = self._part(ACCELERATOR)
        self._engines = {one.identifier: self._part(one.dma) for one in description.terminals}
        self._buffers: dict[str, Any] = {}
        self._hung = False

    def _part(self, name: str) -> Any:
        try:
            return getattr(self._overlay, name)
        except AttributeError:
            raise AcceleratorError(f"the overlay has no {name}. {ADVICE}") from None

    def build_id(self) -> int:
        """Runs a call without frames and reads what the hardware is."""
        if self._description.loaded:
            self._write("load", 0)  # 1, if another program ended in the middle of a load
        self._start(0)
        self._finish(time.monotonic() + self._timeout)
        return int(self._registers.read(self._description.offsets["build_id"]))

    def weight_status(self) -> int:
        """Of the last call: 0, or an error."""
        return int(self._registers.read(self._description.offsets["weight_status"]))

    def call(self, frames: int, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One call: bytes of inputs by name, (frames, frame bytes), to those of outputs."""
        if self._hung:
            raise AcceleratorError(f"an earlier call failed. {ADVICE}")
        try:
            return self._call(frames, inputs)
        except BaseException:
            # An engine that still waits would write into memory that somebody else may have by then.
            self._hung = True
            for one in self._description.inputs:
                self._engines[one.identifier].write(SEND_CONTROL, RESET)
            for one in self._description.outputs:
                self._engines[one.identifier].write(RECEIVE_CONTROL, RESET)
            raise

    def _call(self, frames: int, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        send, receive = self._description.inputs, self._description.outputs
        for one in send:
            self._buffer(one, frames)[:] = inputs[one.name].reshape(-1)
        # Receivers first: a stream that nobody takes would hold the accelerator up.
        for one in receive:
            self._engines[one.identifier].recvchannel.transfer(self._buffer(one, frames))
        self._start(frames)
        for one in send:
            self._engines[one.identifier].sendchannel.transfer(self._buffer(one, frames))
        deadline = time.monotonic() + self._timeout
        for one in send:
            self._wait(one, "sendchannel", SEND_STATUS, deadline)
        for one in receive:
            self._wait(one, "recvchannel", RECEIVE_STATUS, deadline)
            self._check_length(one, frames)
        self._finish(deadline)
        return {one.name: np.array(self._buffer(one, frames)).reshape(frames, -1) for one in receive}

    def load(self, data: bytes) -> int:
        """Gives the accelerator a weight container; returns its status."""
        padded = data + bytes(-len(data) % 4)
        memory = self._pynq.allocate(shape=(len(padded),), dtype=np.uint8)
        try:
            memory[:] = np.frombuffer(padded, dtype=np.uint8)
            memory.flush()
            for name in ("weight_codes", "weight_raw"):
                self._write64(name, int(memory.physical_address))
            self._write("weight_bytes", len(data))
            self._write("load", 1)
            self._start(0)
            self._finish(time.monotonic() + self._timeout)
            self._write("load", 0)
            return self.weight_status()
        finally:
            memory.freebuffer()

    def close(self) -> None:
        """Frees the buffers."""
        for buffer in self._buffers.values():
            buffer.freebuffer()
        self._buffers = {}

    def _buffer(self, terminal: Terminal, frames: int) -> Any:
        """The first bytes of a terminal's buffer, which grows to the largest batch there was."""
        size = frames * terminal.frame_bytes
        buffer = self._buffers.get(terminal.identifier)
        if buffer is None or len(buffer) < size:
            if buffer is not None:
                del self._buffers[terminal.identifier]
                buffer.freebuffer()
            buffer = self._pynq.allocate(shape=(size,), dtype=np.uint8)
            self._buffers[terminal.identifier] = buffer
        return buffer[:size]

    def _write(self, name: str, value: int) -> None:
        self._registers.write(self._description.offsets[name], value)

    def _write64(self, name: str, value: int) -> None:
        self._registers.write(self._description.offsets[name], value & 0xFFFFFFFF)
        self._registers.write(self._description.offsets[name] + 4, value >> 32)

    def _start(self, frames: int) -> None:
        if not self._registers.read(CONTROL) & IDLE:  # the reading clears a `done` of before
            raise AcceleratorError(f"the accelerator is busy with another call. {ADVICE}")
        self._write("frames", frames)
        self._registers.write(CONTROL, START)

    def _finish(self, deadline: float) -> None:
        def is_done() -> bool:
            return bool(self._registers.read(CONTROL) & DONE)

        _poll(is_done, deadline, f"the accelerator did not finish within {self._timeout} s. {ADVICE}")

    def _wait(self, terminal: Terminal, channel_name: str, status: int, deadline: float) -> None:
        """Until a channel is idle. `wait` of PYNQ alone would wait for ever."""
        engine = self._engines[terminal.identifier]
        channel = getattr(engine, channel_name)

        def is_idle() -> bool:
            bits = engine.read(status)
            for mask, what in ERRORS.items():
                if bits & mask:
                    raise AcceleratorError(f"{terminal.dma} stopped with a DMA {what} (status {bits:#x}). {ADVICE}")
            return bool(channel.idle)

        direction = "its data was not taken" if channel_name == "sendchannel" else "no data came"
        text = f"{terminal.dma} hangs, {direction} within {self._timeout} s. {ADVICE}"
        _poll(is_idle, deadline, text)
        channel.wait()  # returns at once, and makes caches coherent

    def _check_length(self, terminal: Terminal, frames: int) -> None:
        received = int(self._engines[terminal.identifier].read(RECEIVED_LENGTH))
        if received != frames * terminal.frame_bytes:
            raise AcceleratorError(
                f"{terminal.dma} received {received} bytes, {frames * terminal.frame_bytes} were expected. {ADVICE}"
            )


def _poll(is_true: Callable[[], bool], deadline: float, message: str) -> None:
    """Waits until something is so: busily first, since a frame often takes microseconds."""
    for attempt in range(1 << 62):
        if is_true():
            return
        if time.monotonic() > deadline:
            raise AcceleratorError(message)
        if attempt > 100:
            time.sleep(POLL_SECONDS)
