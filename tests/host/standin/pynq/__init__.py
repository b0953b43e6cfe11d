"""Stands in for the package `pynq` on a machine without a board: what the driver uses of it, over the model.

It is as strict as the original, and stricter where mistakes would show on a board only: processor caches are real, so
that a buffer that is not flushed or invalidated holds old bytes.
"""

import ctypes
import json
from pathlib import Path

import numpy as np

BLOCK = 0x10000
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


class MMIO:
    """Registers of a block, as far as it has some."""

    def __init__(self, base_addr, length=4):
        self._address, self._length = base_addr, length

    def read(self, offset=0):
        self._check(offset)
        return Device.active.library.model_read32(self._address + offset)

    def write(self, offset, data):
        self._check(offset)
        if type(data) is not int or not 0 <= data < 1 << 32:  # the original refuses NumPy's integers too
            raise ValueError("Data type must be int or bytes.")
        Device.active.library.model_write32(self._address + offset, data)

    def _check(self, offset):
        if offset % 4 or not 0 <= offset < self._length:
            raise MemoryError("Unaligned or outside of the block")


class Overlay:
    """A programmed board. The stand-in of a bitstream is a JSON file, see tests/host/hardware.py.

    There are no drivers by name: those of PYNQ ask for interrupts, whatever the design has.
    """

    def __init__(self, bitfile):
        if not Path(bitfile).is_file():
            raise OSError(f"Bitstream file {bitfile} does not exist.")
        # `Bitstream.__init__` and `BitstreamHandler.get_parser` of PYNQ 3 take what lies beside the image.
        if Path(bitfile).with_suffix(".dtbo").exists():
            raise RuntimeError("Device tree cannot be applied.")
        if Path(bitfile).with_suffix(".xsa").exists():
            raise RuntimeError("Unable to parse metadata")
        self.board = Device.active = Device(bitfile)
        blocks = {"accelerator_0": self.board.content["accelerator_0"], **self.board.content["engines"]}
        self.ip_dict = {name: {"phys_addr": at, "addr_range": BLOCK} for name, at in blocks.items()}
