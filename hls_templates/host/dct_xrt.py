"""The accelerator behind XRT: kernel NAME and a data mover for each input (`mm2s_...`) and output (`s2mm_...`).

Python's `pyxrt` starts kernels and moves data. It cannot read registers, where the accelerator leaves what is no
stream: these are read through XRT's C functions, in an exclusive context that is open only for that.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from dct_accelerator import AcceleratorError, Description, Terminal

LIBRARY = "libxrt_coreutil.so.2"
MOVER_MEMORY, MOVER_BEATS = 0, 1
"""Arguments of a mover, see hls/flow/movers.cpp."""
ADVICE = "Reset the card (xbutil reset), and check that image and host/ come from one project."


class XrtBackend:
    """Drives the kernels of an xclbin on an XRT device. `timeout` are seconds for a kernel."""

    def __init__(self, description: Description, image: str, timeout: float, device: int) -> None:
        try:
            import pyxrt
        except ImportError:
            raise AcceleratorError(
                "the module pyxrt is not found. Install XRT and source its setup.sh, or use host/xrt."
            ) from None
        self._pyxrt, self._description = pyxrt, description
        self._image, self._index, self._milliseconds = image, device, max(1, int(timeout * 1000))
        try:
            self._device = pyxrt.device(device)
            self._uuid = self._device.load_xclbin(image)
            self._kernel = self._open(description.name)
            self._movers = {one.identifier: self._open(self._mover(one)) for one in description.terminals}
        except (RuntimeError, OSError) as error:
            raise AcceleratorError(f"{image}: XRT cannot open it: {error}") from None
        self._buffers: dict[str, Any] = {}
        self._first_scalar = len(description.terminals)  # the arguments before it are streams
        # Pointers to the weights: two before length, command and status, those of further decoders behind.
        count = len(description.pointers)
        self._pointers = [self._first_scalar + 2 + (k if k < 2 else k + 3) for k in range(count)]
        self._weights: dict[int, Any] = {}
        self._weight_bytes = 0

    def _open(self, name: str) -> Any:
        return self._pyxrt.kernel(self._device, self._uuid, f"{name}:{{{name}_1}}")

    def _mover(self, terminal: Terminal) -> str:
        return ("mm2s_" if terminal in self._description.inputs else "s2mm_") + terminal.identifier

    def build_id(self) -> int:
        """Runs a call without frames and reads what the hardware is."""
        self._wait(self._start(0), self._description.name)
        return self._register("build_id")

    def weight_status(self) -> int:
        """Of the last call: 0, or an error."""
        return self._register("weight_status")

    def call(self, frames: int, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One call: bytes of inputs by name, (frames, frame bytes), to those of outputs."""
        send, receive = self._description.inputs, self._description.outputs
        for one in send:
            data = np.ascontiguousarray(inputs[one.name])
            buffer = self._buffer(one, data.nbytes)
            buffer.write(data, 0)
            buffer.sync(self._pyxrt.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE, data.nbytes, 0)
        # Who takes data starts before who gives it.
        runs = [(self._move(one, frames), self._mover(one)) for one in receive]
        runs.append((self._start(frames), self._description.name))
        runs += [(self._move(one, frames), self._mover(one)) for one in send]
        for run, name in runs:
            self._wait(run, name)
        results = {}
        for one in receive:
            size = frames * one.frame_bytes
            buffer = self._buffer(one, size)
            buffer.sync(self._pyxrt.xclBOSyncDirection.XCL_BO_SYNC_BO_FROM_DEVICE, size, 0)
            results[one.name] = np.frombuffer(bytes(buffer.read(size, 0)), dtype=np.uint8).reshape(frames, -1)
        return results

    def load(self, data: bytes) -> int:
        """Gives the accelerator a weight container; returns its status."""
        padded = np.frombuffer(data + bytes(-len(data) % 4), dtype=np.uint8)
        run = self._prepared(0)
        # Arguments may be linked to different memories: a buffer in each of these.
        known: dict[int, Any] = {}
        pointers = {}
        for argument in self._pointers:
            group = self._kernel.group_id(argument)
            if group not in known:
                known[group] = self._allocate(padded.nbytes, group)
                known[group].write(padded, 0)
                known[group].sync(self._pyxrt.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE, padded.nbytes, 0)
            pointers[argument] = known[group]
            run.set_arg(argument, known[group])
        run.set_arg(self._first_scalar + 4, len(data))
        run.set_arg(self._first_scalar + 5, 1)
        run.start()
        self._wait(run, self._description.name)
        del run  # it holds the kernel's context
        status = self.weight_status()
        if self._description.streamed and not status:  # read again for every frame
            self._weights, self._weight_bytes = pointers, len(data)
        return status

    def close(self) -> None:
        """Gives buffers and kernels back."""
        self._buffers, self._movers, self._kernel, self._weights = {}, {}, None, {}

    def _allocate(self, size: int, group: int) -> Any:
        return self._pyxrt.bo(self._device, size, self._pyxrt.bo.normal, group)

    def _buffer(self, terminal: Terminal, size: int) -> Any:
        """A terminal's buffer, which grows to the largest batch there was."""
        buffer = self._buffers.get(terminal.identifier)
        if buffer is None or buffer.size() < size:
            buffer = self._allocate(size, self._movers[terminal.identifier].group_id(MOVER_MEMORY))
            self._buffers[terminal.identifier] = buffer
        return buffer

    def _prepared(self, frames: int) -> Any:
        run = self._pyxrt.run(self._kernel)
        run.set_arg(self._first_scalar, frames)
        if self._description.loaded:
            for argument, buffer in self._weights.items():
                run.set_arg(argument, buffer)
            run.set_arg(self._first_scalar + 4, self._weight_bytes)
            run.set_arg(self._first_scalar + 5, 0)
        return run

    def _start(self, frames: int) -> Any:
        run = self._prepared(frames)
        run.start()
        return run

    def _move(self, terminal: Terminal, frames: int) -> Any:
        run = self._pyxrt.run(self._movers[terminal.identifier])
        run.set_arg(MOVER_MEMORY, self._buffer(terminal, frames * terminal.frame_bytes))
        run.set_arg(MOVER_BEATS, frames * terminal.frame_beats)
        run.start()
        return run

    def _wait(self, run: Any, name: str) -> None:
        state = run.wait(self._milliseconds)
        if state != self._pyxrt.ert_cmd_state.ERT_CMD_STATE_COMPLETED:
            raise AcceleratorError(f"{name} did not finish within {self._milliseconds / 1000} s: {state}. {ADVICE}")

    def _register(self, name: str) -> int:
        self._kernel = None  # there can be no exclusive context beside another one
        try:
            return _read_register(self._index, self._image, self._description.name, self._description.offsets[name])
        finally:
            self._kernel = self._open(self._description.name)


def _read_register(device: int, image: str, name: str, offset: int) -> int:
    """A register of a kernel that nobody has open, through XRT's C functions."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise AcceleratorError(f"{LIBRARY} is not found: {error}. Source XRT's setup.sh.") from None
    for function in ("xrtDeviceOpen", "xrtPLKernelOpenExclusive"):
        getattr(library, function).restype = ctypes.c_void_p
    handle = ctypes.c_void_p(library.xrtDeviceOpen(ctypes.c_uint(device)))
    kernel = ctypes.c_void_p()
    try:
        uuid, value = (ctypes.c_ubyte * 16)(), ctypes.c_uint32()
        failed = not handle.value or library.xrtDeviceLoadXclbinFile(handle, image.encode())
        failed = failed or library.xrtDeviceGetXclbinUUID(handle, uuid)
        if not failed:
            kernel.value = library.xrtPLKernelOpenExclusive(handle, uuid, f"{name}:{{{name}_1}}".encode())
        if not kernel.value or library.xrtKernelReadRegister(kernel, ctypes.c_uint32(offset), ctypes.byref(value)):
            raise AcceleratorError(f"XRT does not let registers of {name} be read. Does another program use it?")
        return value.value
    finally:
        if kernel.value:
            library.xrtKernelClose(kernel)
        if handle.value:
            library.xrtDeviceClose(handle)
