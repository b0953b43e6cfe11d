"""Checks an HDF5 file's global heaps, where strings lie, before the HDF5 library reads them.

A damaged size in such a heap makes the library (1.14) loop for ever, inside C, where not even Ctrl-C arrives. Format:
HDF5 File Format Specification 3.0, sections II (superblock) and III.E (global heap).
"""

import mmap
import struct
from typing import Final

from toolchain.errors import ModelError

SIGNATURE: Final = b"GCOL\x01\x00\x00\x00"  # with version 1 and three reserved zeros: no accident in weights
HEADER: Final = 16
OBJECT_HEADER: Final = struct.Struct("<HHIQ")


def check_heaps(content: bytes | mmap.mmap, where: str) -> None:
    """Walks every global heap in an HDF5 file as the library would.

    Raises:
        ModelError: a heap does not add up, or addresses are not of 8 bytes as in all files Keras writes.
    """
    # Where the superblock tells the sizes of addresses and lengths depends on its version.
    place = 13 if content[8:9] <= b"\x01" else 9
    if content[place : place + 2] != b"\x08\x08":
        raise ModelError("the HDF5 file is damaged (superblock)", where=where)
    start = content.find(SIGNATURE)
    while start >= 0:
        _check_heap(content, start, where)
        start = content.find(SIGNATURE, start + 8)


def _check_heap(content: bytes | mmap.mmap, start: int, where: str) -> None:
    size = int.from_bytes(content[start + 8 : start + HEADER], "little")
    end = start + size
    if not size >= HEADER or end > len(content):
        raise ModelError("the HDF5 file is damaged (a heap longer than the file)", where=where)
    here = start + HEADER
    while here + OBJECT_HEADER.size <= end:
        index, _, _, length = OBJECT_HEADER.unpack_from(content, here)
        # Object 0 is the free space at the end: its length holds its own header.
        step = length if index == 0 else OBJECT_HEADER.size + -(-length // 8) * 8
        if not OBJECT_HEADER.size <= step <= end - here:
            raise ModelError("the HDF5 file is damaged (a heap that does not add up)", where=where)
        here += step
