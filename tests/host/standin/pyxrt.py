# ruff: noqa: N801 - the names are those of the original
"""Stands in for XRT's Python module on a machine without a card: what dct_xrt.py uses of it, over the model."""

import ctypes
import enum
import json
from pathlib import Path

import numpy as np


class ert_cmd_state(enum.Enum):
    ERT_CMD_STATE_COMPLETED = 4
    ERT_CMD_STATE_ERROR = 5
    ERT_CMD_STATE_TIMEOUT = 8


class xclBOSyncDirection(enum.Enum):
    XCL_BO_SYNC_BO_TO_DEVICE = 0
    XCL_BO_SYNC_BO_FROM_DEVICE = 1


class device:
    def __init__(self, index):
        if index:
            raise RuntimeError("No such device with index")

    def load_xclbin(self, path):
        if not Path(path).is_file():
            raise RuntimeError(f"Failed to open {path}")
        self.content = json.loads(Path(path).read_text())
        self.library = library = ctypes.CDLL(self.content["library"])
        library.model_read32.argtypes, library.model_read32.restype = [ctypes.c_uint64], ctypes.c_uint32
        library.model_write32.argtypes = [ctypes.c_uint64, ctypes.c_uint32]
        library.model_map.argtypes = [ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64]
        library.model_beat_bytes.argtypes, library.model_beat_bytes.restype = [ctypes.c_uint64], ctypes.c_uint32
        library.model_plant(self.content.get("fault", 0))
        return "uuid"


class bo:
    normal = 0
    next = 0x1_7000_0000

    def __init__(self, where, size, flags, group):
        assert type(size) is int
        assert (flags, type(group)) == (bo.normal, int)
        self.host, self.card = np.full(size, 0x5A, np.uint8), np.full(size, 0xA5, np.uint8)
        self._address = bo.next
        bo.next += (size + 0xFFF) // 0x1000 * 0x1000 + 0x1000
        where.library.model_map(self._address, self.card.ctypes.data, size)

    def size(self):
        return self.host.size

    def address(self):
        return self._address

    def write(self, data, seek):
        flat = np.frombuffer(memoryview(data).cast("B"), np.uint8)
        self.host[seek : seek + flat.size] = flat

    def read(self, size, skip):
        return self.host[skip : skip + size].view(np.int8).copy()

    def sync(self, direction, size, offset):
        to, source = (self.card, self.host) if direction.value == 0 else (self.host, self.card)
        to[offset : offset + size] = source[offset : offset + size]


class kernel:
    """NAME:{NAME_1}; a mover is the engine dma_IDENTIFIER."""

    def __init__(self, where, uuid, name):
        assert uuid == "uuid"
        plain = name.partition(":")[0]
        if name != f"{plain}:{{{plain}_1}}":
            raise RuntimeError(f"no instance {name}")
        self.library = where.library
        self.is_sender, self.is_mover = plain.startswith("mm2s_"), plain.startswith(("mm2s_", "s2mm_"))
        self.streams = len(where.content["engines"])
        try:
            self.base = (
                where.content["engines"][f"dma_{plain[5:]}"] if self.is_mover else where.content["accelerator_0"]
            )
        except KeyError:
            raise RuntimeError(f"No compute units with name {plain}") from None
        self._count(1)

    def __del__(self):
        if hasattr(self, "base"):
            self._count(-1)

    def _count(self, change):
        if not self.is_mover:
            ctypes.c_int.in_dll(self.library, "model_contexts").value += change

    def group_id(self, argument):
        behind = argument - self.streams
        if argument != 0 if self.is_mover else behind not in (2, 3) and behind < 7:
            raise RuntimeError("the argument has no memory")
        return argument


class run:
    OFFSETS = ((0x10,), (), (0x30, 0x34), (0x40, 0x44), (0x50,), (0x60,), (0x70,))
    OFFSETS += tuple((0x80 + 0x10 * k, 0x84 + 0x10 * k) for k in range(62))
    """The registers of the arguments behind the streams, as the generated C++ has them."""

    def __init__(self, started):
        self.kernel, self.values = started, {}

    def set_arg(self, index, value):
        assert type(index) is int
        if not isinstance(value, bo):
            assert type(value) is int
            assert -(1 << 31) <= value < 1 << 31
        self.values[index] = value.address() if isinstance(value, bo) else value

    def start(self):
        one, write = self.kernel, self.kernel.library.model_write32
        if not one.is_mover:
            for index, value in self.values.items():  # others keep what they were: nothing to rely on
                for half, offset in enumerate(self.OFFSETS[index - one.streams]):
                    write(one.base + offset, value >> (32 * half) & 0xFFFFFFFF)
            write(one.base, 1)
            return
        address = self.values[0]
        beats = self.values[1]
        for offset, value in (
            (0x00, 1),
            (0x18, address & 0xFFFFFFFF),
            (0x1C, address >> 32),
            (0x28, beats * one.library.model_beat_bytes(one.base)),
        ):
            write(self._channel + offset, value)

    @property
    def _channel(self):
        return self.kernel.base + (0 if self.kernel.is_sender else 0x30)

    def wait(self, milliseconds):
        assert type(milliseconds) is int
        read = self.kernel.library.model_read32
        for _ in range(20000):
            if not self.kernel.is_mover:
                if read(self.kernel.base) & 2:
                    return ert_cmd_state.ERT_CMD_STATE_COMPLETED
                continue
            status = read(self._channel + 4)
            if status & 0x70:
                return ert_cmd_state.ERT_CMD_STATE_ERROR
            if status & 2:
                return ert_cmd_state.ERT_CMD_STATE_COMPLETED
        return ert_cmd_state.ERT_CMD_STATE_TIMEOUT
