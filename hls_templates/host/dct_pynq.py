"""The accelerator behind PYNQ: an overlay with one AXI DMA engine for each input and output.

The block design names the accelerator `accelerator_0` and the engines `dma_INPUT` and `dma_OUTPUT`. PYNQ programs the
board, says where registers are, and gives memory. The engines are driven here: PYNQ's own driver of AXI DMA has other
limits and other interrupts from release to release, and waits for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from dct_accelerator import AcceleratorError, Description, Terminal

ACCELERATOR = "accelerator_0"
CONTROL, START, DONE, IDLE = 0x00, 1, 2, 4
SEND, RECEIVE = 0x00, 0x30
"""Where the registers of an engine's channel begin (AMD PG021): inputs have the first one, outputs the second."""
DMA_CONTROL, DMA_STATUS, DMA_ADDRESS, DMA_ADDRESS_HIGH, DMA_LENGTH = 0x00, 0x04, 0x18, 0x1C, 0x28
DMA_RUN, DMA_RESET = 1, 4
DMA_HALTED, DMA_IDLE = 1, 2
ERRORS = {0x10: "internal error", 0x20: "slave error", 0x40: "address error"}
POLL_SECONDS = 20e-6
RESET_SECONDS = 1.0
NEIGHBOURS = (".dtbo", ".xsa", ".xclbin")
"""What PYNQ takes without being asked when it lies beside a `.bit` under the same name."""
ADVICE = "Program the board again, and check that image and host/ come from one project."


class Engine:
    """The one channel of an AXI DMA engine, in simple mode."""

    def __init__(self, name: str, registers: Any, base: int) -> None:
        self.name, self._registers, self._base = name, registers, base

    def read(self, register: int) -> int:
        return int(self._registers.read(self._base + register))

    def write(self, register: int, value: int) -> None:
        self._registers.write(self._base + register, value)

    def restart(self) -> None:
        """Ends whatever it does, then lets it wait for a transfer."""
        deadline = time.monotonic() + RESET_SECONDS
        self.write(DMA_CONTROL, DMA_RESET)
        text = f"{self.name} does not come out of its reset. {ADVICE}"
        _poll(lambda: not self.read(DMA_CONTROL) & DMA_RESET, deadline, text)
        self.write(DMA_CONTROL, DMA_RUN)
        _poll(lambda: not self.read(DMA_STATUS) & DMA_HALTED, deadline, text)

    def transfer(self, buffer: Any) -> None:
        """Starts; the length comes last."""
        address = int(buffer.physical_address)
        self.write(DMA_ADDRESS, address & 0xFFFFFFFF)
        self.write(DMA_ADDRESS_HIGH, address >> 32)
        self.write(DMA_LENGTH, int(buffer.nbytes))

    def is_idle(self) -> bool:
        """Raises AcceleratorError when it has stopped with an error."""
        bits = self.read(DMA_STATUS)
        for mask, what in ERRORS.items():
            if bits & mask:
                raise AcceleratorError(f"{self.name} stopped with a DMA {what} (status {bits:#x}). {ADVICE}")
        return bool(bits & DMA_IDLE)


class PynqBackend:
    """Drives the registers and DMA engines of an overlay.

    `timeout` are seconds for one call. Raises AcceleratorError when the overlay lacks a part, and when a call hangs;
    then the hardware has to be programmed again.
    """

    def __init__(self, description: Description, image: str, timeout: float) -> None:
        self._description, self._timeout = description, timeout
        self._buffers: dict[str, Any] = {}
        self._weights: Any = None
        self._hung = False
        try:
            import pynq
        except ImportError:
            raise AcceleratorError("the package pynq is not installed. Run this on a board with PYNQ.") from None
        self._pynq = pynq
        for suffix in NEIGHBOURS:
            other = Path(image).with_suffix(suffix)
            if other.exists():
                raise AcceleratorError(
                    f"{image}: PYNQ would take {other.name} beside it too. Give .bit and .hwh a folder of their own."
                )
        try:
            self._overlay = pynq.Overlay(image)
        except (OSError, RuntimeError, ValueError, KeyError, AttributeError) as error:
            raise AcceleratorError(f"{image}: PYNQ cannot load it: {error}") from None
        self._registers = self._part(ACCELERATOR)
        self._engines = {
            one.identifier: Engine(one.dma, self._part(one.dma), SEND if one in description.inputs else RECEIVE)
            for one in description.terminals
        }
        for engine in self._engines.values():
            engine.restart()

    def _part(self, name: str) -> Any:
        """The registers of a block of the design."""
        found = self._overlay.ip_dict.get(name)
        if found is None:
            raise AcceleratorError(f"the overlay has no {name}. {ADVICE}")
        return self._pynq.MMIO(found["phys_addr"], found["addr_range"])

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
            for engine in self._engines.values():
                engine.write(DMA_CONTROL, DMA_RESET)
            raise

    def _call(self, frames: int, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        send, receive = self._description.inputs, self._description.outputs
        buffers = {one.identifier: self._buffer(one, frames) for one in self._description.terminals}
        for one in send:
            buffers[one.identifier][:] = inputs[one.name].reshape(-1)
            buffers[one.identifier].flush()
        # A cache line that was written would otherwise go to memory at any time, over what the engine has put there.
        for one in receive:
            buffers[one.identifier].invalidate()
        # Receivers first: a stream that nobody takes would hold the accelerator up.
        for one in receive:
            self._engines[one.identifier].transfer(buffers[one.identifier])
        self._start(frames)
        for one in send:
            self._engines[one.identifier].transfer(buffers[one.identifier])
        deadline = time.monotonic() + self._timeout
        for one in (*send, *receive):
            self._wait(one, "its data was not taken" if one in send else "no data came", deadline)
        for one in receive:
            self._check_length(one, frames)
        self._finish(deadline)
        for one in receive:
            buffers[one.identifier].invalidate()
        return {one.name: np.array(buffers[one.identifier]).reshape(frames, -1) for one in receive}

    def load(self, data: bytes) -> int:
        """Gives the accelerator a weight container; returns its status."""
        padded = data + bytes(-len(data) % 4)
        memory = self._pynq.allocate(shape=(len(padded),), dtype=np.uint8)
        try:
            memory[:] = np.frombuffer(padded, dtype=np.uint8)
            memory.flush()
            self._point(memory, len(data))
            self._write("load", 1)
            self._start(0)
            self._finish(time.monotonic() + self._timeout)
            self._write("load", 0)
            status = self.weight_status()
            if self._description.streamed and not status:  # read again for every frame
                memory, self._weights = self._weights, memory
            return status
        finally:
            if self._weights is not None:
                self._point(self._weights, int(self._weights.nbytes))
            if memory is not None:
                memory.freebuffer()

    def _point(self, memory: Any, length: int) -> None:
        """Tells the accelerator where a weight container is."""
        for name in self._description.pointers:
            self._write64(name, int(memory.physical_address))
        self._write("weight_bytes", length)

    def close(self) -> None:
        """Frees the buffers."""
        for buffer in (*self._buffers.values(), *([] if self._weights is None else [self._weights])):
            buffer.freebuffer()
        self._buffers, self._weights = {}, None

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

    def _wait(self, terminal: Terminal, why: str, deadline: float) -> None:
        engine = self._engines[terminal.identifier]
        _poll(engine.is_idle, deadline, f"{engine.name} hangs, {why} within {self._timeout} s. {ADVICE}")

    def _check_length(self, terminal: Terminal, frames: int) -> None:
        received = self._engines[terminal.identifier].read(DMA_LENGTH)
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
