"""Renders a dataflow network as a Vitis HLS project: same network in, same bytes out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt

from toolchain.codegen.flow import render_flow
from toolchain.codegen.kernel import KernelArray
from toolchain.codegen.loaded import Container
from toolchain.codegen.project import Files
from toolchain.codegen.registers import registers
from toolchain.hardware.board import Board
from toolchain.hardware.network import Network, Process
from toolchain.ir import Array
from toolchain.resources import folder
from toolchain.version import __version__

SOURCES = {
    "top.h.j2": "src/{name}.h",
    "top.cpp.j2": "src/{name}.cpp",
    "configs.h.j2": "src/configs.h",
}
"""What, with the kernels and constants, the hardware is made of."""
TEMPLATES = {
    "build_id.h.j2": "src/build_id.h",
    "testbench.cpp.j2": "tb/testbench.cpp",
    "Makefile.j2": "Makefile",
    "run_hls.tcl.j2": "run_hls.tcl",
    "hls_config.cfg.j2": "hls_config.cfg",
    "README.md.j2": "README.md",
}
PER_LINE = 8
UNSIGNED_DIGITS = {"unsigned char": 2, "unsigned short": 4, "unsigned int": 8, "unsigned long long": 16}
CHARACTERS = 1 << 24
"""Of a table, that are put together at once."""
BATCH = 3
"""Frames of a call of the test bench, at most."""
LOADED_ONLY = ("weight_loader.h", "weight_file.h", "container.h", "decoder.h")
"""Headers that a design with constant weights does not get."""


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder("hls_templates") / "project"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - C++ and Tcl; names go through Identifiers, comment or c_string
    )


def render_hls(
    network: Network,
    board: Board,
    clock_mhz: float,
    inputs: Mapping[str, Array],
    outputs: Mapping[str, Array],
    container: Container | None = None,
) -> Files:
    """The files of `hls/`.

    `inputs` and `outputs` are the raw integers of the test bench by name, (frames, *model shape). A `container` is
    given for a design whose weights are loaded.
    """
    name = network.name
    terminals = network.inputs + network.outputs
    values: dict[str, Any] = {
        "network": network,
        "terminals": terminals,
        "board": board,
        "period": f"{1000 / clock_mhz:.3f}",
        "version": __version__,
        "headers": sorted(
            {process.kernel.header for process in network.processes} | ({"weight_loader.h"} if container else set())
        ),
        "container": container,
        "batch": BATCH,
        "registers": registers(container is not None),
        "loaded": [process for process in network.processes if process.kernel.memories],
        "traced": set(network.value_streams.values()),
        "arguments": arguments,
        "comment": comment,
        "c_string": c_string,
    }
    files: Files = {"src/constants.h": constants(network, container)}
    source = folder("hls_templates")
    for path in sorted((*source.glob("*.h"), *source.glob("ops/*.h"))):
        if path.name in LOADED_ONLY and container is None:
            continue
        files[f"src/kernels/{path.relative_to(source).as_posix()}"] = path.read_text()

    def render(templates: Mapping[str, str], **more: Any) -> None:
        for template, path in templates.items():
            files[path.format(name=name)] = _environment().get_template(template).render(values | more)

    render(SOURCES)
    number = build_id(files)
    render(TEMPLATES, build_id=number)
    for path in sorted(source.glob("sim/*.h")):
        files[f"sim/{path.name}"] = path.read_text()
    files["tb_data/inputs.dat"] = decimal_rows([inputs[t.name] for t in network.inputs])
    files["tb_data/outputs.dat"] = decimal_rows([outputs[t.name] for t in network.outputs])
    if container:
        files["tb_data/weights.bin"] = container.data
    files["trace.json"] = json.dumps(dict(network.value_streams), indent=1) + "\n"
    files |= render_flow(network, board, clock_mhz, container is not None)
    return files


def build_id(sources: Files) -> int:
    """A number for the hardware that C++ sources describe, 32 bits and not 0."""
    digest = hashlib.sha256()
    for name, content in sorted(sources.items()):
        assert isinstance(content, str)
        encoded = content.encode()
        digest.update(f"{name}\0{len(encoded)}\0".encode())
        digest.update(encoded)
    return int.from_bytes(digest.digest()[:4], "big") or 1


def hls_build_id(files: Files) -> int:
    """The number that `render_hls` gave its hardware."""
    header = files["src/build_id.h"]
    assert isinstance(header, str)
    return int(header.split("BUILD_ID = ")[1].split(";")[0], 16)


def arguments(process: Process) -> list[str]:
    """A kernel's arguments: inputs, constant tables or memories, scalars, outputs."""
    tables = [f"{process.name}_{name}" for name in (*process.kernel.arrays, *process.kernel.memories)]
    return [*process.inputs, *tables, *process.kernel.scalars, *process.outputs]


def constants(network: Network, container: Container | None = None) -> str:
    """All constant tables as namespace-scope arrays of native integers."""
    name = network.name
    parts = [
        f"// Weights and tables. Generated by dct-toolchain {__version__}.",
        f"#ifndef {name}_CONSTANTS_H",
        f"#define {name}_CONSTANTS_H",
        "",
        f"namespace {name}_design {{",
        "",
    ]
    for process in network.processes:
        for table, array in process.kernel.arrays.items():
            parts += [constant(f"{process.name}_{table}", array), ""]
    if container:
        parts += [_expectations(network, container), ""]
    parts += [f"}}  // namespace {name}_design", "", "#endif", ""]
    return "\n".join(parts)


def _expectations(network: Network, container: Container) -> str:
    """What the loader compares a container with."""
    units = [process.name for process in network.processes if process.kernel.memories]
    rows = []
    for tensor in container.tensors:
        unit = units.index(tensor.process) if tensor.process else -1
        rows.append(f"    {{{', '.join([str(unit), *(f'{number}U' for number in tensor.numbers)])}}}")
    shifts = [str(shift) for tensor in container.tensors for shift in tensor.shifts]
    head = f"static const dct::packed::expectation weight_tensors[{len(rows)}] = {{"
    table = f"static const unsigned char weight_shifts[{len(shifts)}] = {{\n    {', '.join(shifts)}\n}};"
    return "\n".join([head, ",\n".join(rows), "};", "", table])


def constant(name: str, array: KernelArray) -> str:
    """One array definition, rows in braces."""
    values = array.values
    shape = "".join(f"[{size}]" for size in values.shape)
    suffix = {"unsigned long long": "ULL", "unsigned int": "U", "long long": "LL"}.get(array.ctype, "")
    if values.ndim == 2 and array.ctype.startswith("unsigned"):
        body = _hexadecimal(values, UNSIGNED_DIGITS[array.ctype], suffix)
    elif values.ndim == 2:
        body = ",\n".join("    {" + ", ".join(_decimal(v) + suffix for v in row) + "}" for row in values.tolist())
    else:
        write = hex if array.ctype.startswith("unsigned") else _decimal
        flat = [write(v) + suffix for v in values.tolist()]
        rows = [", ".join(flat[k : k + PER_LINE]) for k in range(0, len(flat), PER_LINE)]
        body = ",\n".join(f"    {row}" for row in rows)
    return f"static const {array.ctype} {name}{shape} = {{\n{body}\n}};"


def _hexadecimal(values: npt.NDArray[Any], digits: int, suffix: str) -> str:
    """Rows of numbers of equally many digits, put together as a matrix of characters: weights may be 10^8."""
    rows, columns = values.shape
    head, tail, before, after = b"    {", b"},\n", b"0x", f"{suffix}, ".encode()
    cell = len(before) + digits + len(after)
    parts = []
    step = max(1, CHARACTERS // (columns * cell))
    for start in range(0, rows, step):
        block = values[start : start + step].astype(f">u{digits // 2}")
        cells = np.empty((*block.shape, cell), dtype=np.uint8)
        cells[..., : len(before)] = list(before)
        written = np.frombuffer(block.tobytes().hex().encode(), dtype=np.uint8)
        cells[..., len(before) : -len(after)] = written.reshape(*block.shape, digits)
        cells[..., -len(after) :] = list(after)
        inner = columns * cell - len(b", ")
        lines = np.empty((len(block), len(head) + inner + len(tail)), dtype=np.uint8)
        lines[:, : len(head)] = list(head)
        lines[:, len(head) : -len(tail)] = cells.reshape(len(block), -1)[:, :inner]
        lines[:, -len(tail) :] = list(tail)
        parts.append(lines.tobytes().decode("ascii"))
    return "".join(parts)[: -len(",\n")]


def _decimal(value: int) -> str:
    # The most negative long long has no literal of its own.
    return f"({value + 1}LL - 1)" if value == -(1 << 63) else str(value)


def decimal_rows(arrays: list[npt.NDArray[np.int64]]) -> str:
    """One line a frame: all values of the first array, then those of the next."""
    flat = [array.reshape(len(array), -1).tolist() for array in arrays]
    rows = (" ".join(" ".join(map(str, part[row])) for part in flat) for row in range(len(flat[0])))
    return "\n".join(rows) + "\n"


def comment(text: str) -> str:
    """A model's name for a line comment: nothing that ends it, continues it or is no plain text."""
    return "".join(c if c.isascii() and (c.isalnum() or c in " _-./:") else "_" for c in text)[:80]


def c_string(text: str) -> str:
    """A C string literal, everything but plain characters as octal escapes."""
    plain = "".join(
        chr(b) if b < 128 and (chr(b).isalnum() or chr(b) in " _-./:") else f"\\{b:03o}" for b in text.encode()[:200]
    )
    return f'"{plain}"'
