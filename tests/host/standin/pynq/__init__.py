"""Stands in for the package `pynq` on a machine without a board: what the driver uses of it, over the model.

It is as strict as the original, and stricter where mistakes would show on a board only: processor caches are real, so
that a buffer that is not flushed or invalidated holds old bytes.
"""

import ctypes
import json
from functools import cached_property
from pathlib import Path

import numpy as np

MAX_TRANSFER = 1 << 26
FIRST_ADDRESS = 0x1_7000_0000
"""Above 4 GiB: both halves of addresses matter."""


class Device:
    """The board: one model, and the memory that it shares with the processor."""

    active = None

    def __init__(self, image):
        content = json.loads(Path(image).read_text())
        self.content = content
        self.library = ctypes.CDLL(content["library"])
        self.library.model_read32.argtypes, self.library.model_read32.restype = [ctypes.c_uint64], ctypes.c_uint32
        self.library.model_write32.argtypes = [ctypes.c_uint64, ctypes.c_uint32]
        self.library.model_map.argtypes = [ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64]
        self.library.model_unmap.argtypes = [ctypes.c_uint64]
        self.library.model_problem.restype = ctypes.c_char_p
        self.library.model_plant(content.get("fault", 0))
        self.memories, self.next = {}, FIRST_ADDRESS

    def allocate(self, size):
        address = self.next
        self.next += (size + 0xFFF) // 0x1000 * 0x1000 + 0x1000
        self.memories[address] = np.full(size, 0xA5, dtype=np.uint8)
        self.library.model_map(address, self.memories[address].ctypes.data, size)
        return address

    def free(self, address):
        self.library.model_unmap(address)
        del self.memories[address]

    def memory(self, address, size):
        start = max(one for one in self.memories if one <= address)
        return self.memories[start][address - start : address - start + size]


class PynqBuffer(np.ndarray):
    """What the processor sees of a buffer: its cache."""

    def __new__(cls, shape, dtype):
        self = super().__new__(cls, shape, dtype)
        self.board = Device.active
        self.device_address = self.board.allocate(self.nbytes)
        self.view(np.ndarray).view(np.uint8)[...] = 0x5A
        return self

    def __array_finalize__(self, other):
        if isinstance(other, PynqBuffer) and getattr(other, "device_address", None) is not None:
            self.board = other.board
            self.device_address = other.device_address + self.virtual_address - other.virtual_address
        else:
            self.board, self.device_address = None, None

    @property
    def virtual_address(self):
        return self.__array_interface__["data"][0]

    @property
    def physical_address(self):
        return self.device_address

    def flush(self):
        self.board.memory(self.device_address, self.nbytes)[:] = self.view(np.ndarray).reshape(-1).view(np.uint8)

    def invalidate(self):
        self.view(np.ndarray).reshape(-1).view(np.uint8)[:] = self.board.memory(self.device_address, self.nbytes)

    def freebuffer(self):
        self.board.free(self.device_address)


def allocate(shape, dtype):
    return PynqBuffer(shape, dtype)


class DefaultIP:
    def __init__(self, device, address):
        self.board, self.address = device, address

    def read(self, offset=0):
        return self.board.library.model_read32(self.address + offset)

    def write(self, offset, value):
        self.board.library.model_write32(self.address + offset, value)


class Channel:
    """One direction of a DMA engine in simple mode."""

    def __init__(self, engine, base, is_send):
        self._engine, self._base, self._is_send = engine, base, is_send
        self._first, self._buffer = True, None
        engine.write(base, 1)

    @property
    def _status(self):
        return self._engine.read(self._base + 4)

    @property
    def running(self):
        return not self._status & 1

    @property
    def idle(self):
        return bool(self._status & 2)

    @property
    def error(self):
        return bool(self._status & 0x70)

    def transfer(self, array, start=0, nbytes=0):
        if not self.running:
            raise RuntimeError("DMA channel not started")
        if not self.idle and not self._first:
            raise RuntimeError("DMA channel not idle")
        nbytes = nbytes or array.nbytes - start
        if nbytes > MAX_TRANSFER:
            raise ValueError(f"Transfer size is {nbytes} bytes, which exceeds the maximum DMA buffer size.")
        if self._is_send:
            array.flush()
        address = array.physical_address + start
        self._engine.write(self._base + 0x18, address & 0xFFFFFFFF)
        self._engine.write(self._base + 0x1C, address >> 32)
        self._engine.write(self._base + 0x28, nbytes)
        self._buffer, self._first = array, False

    def wait(self):
        if not self.running:
            raise RuntimeError("DMA channel not started")
        while not self.idle:
            if self.error:
                raise RuntimeError("DMA error")
        if not self._is_send:
            self._buffer.invalidate()


class DMA(DefaultIP):
    """An engine has the channel that was asked for; the other one is missing, as on the board."""

    @cached_property
    def sendchannel(self):
        return Channel(self, 0x00, True)

    @cached_property
    def recvchannel(self):
        return Channel(self, 0x30, False)


class Overlay:
    """A programmed board. The stand-in of a bitstream is a JSON file, see tests/host/hardware.py."""

    def __init__(self, bitfile):
        if not Path(bitfile).is_file():
            raise OSError(f"Bitstream file {bitfile} does not exist.")
        self.board = Device.active = Device(bitfile)
        self._parts = {"accelerator_0": DefaultIP(self.board, self.board.content["accelerator_0"])}
        self._parts |= {name: DMA(self.board, at) for name, at in self.board.content["engines"].items()}

    def __getattr__(self, name):
        if name.startswith("_") or name not in self._parts:
            raise AttributeError(f"Could not find IP or hierarchy {name} in overlay")
        return self._parts[name]
