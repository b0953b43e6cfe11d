"""Renders the host programs of an accelerator: a description, and drivers in Python, C and C++ that share it."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import jinja2

from toolchain.codegen import flow
from toolchain.codegen import registers as register_map
from toolchain.codegen.hls import c_string, comment
from toolchain.codegen.project import Files
from toolchain.hardware.board import Board
from toolchain.hardware.network import Network
from toolchain.hardware.terminals import Terminal
from toolchain.resources import folder
from toolchain.version import __version__

FORMAT = "dct-toolchain accelerator"
VERSION = 1
DESCRIPTION = "accelerator.json"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder("hls_templates") / "host"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - C, make, Markdown; names go through Identifiers, comment or c_string
    )
    environment.filters["hex"] = "0x{:08X}".format
    return environment


def render_host(network: Network, board: Board, clock_mhz: float, build_id: int, decoders: int) -> Files:
    """The files of `host/`, for every kind of host: the board's flow decides which of them can be used.

    `clock_mhz` is the fabric's clock, `build_id` the number of the hardware (`codegen.hls.build_id`), and `decoders`
    how many read its weights, 0 where they are constants. Same arguments, same bytes.
    """
    description = describe(network, board, clock_mhz, build_id, decoders)
    values: dict[str, Any] = {
        "network": network,
        "board": board,
        "build_id": build_id,
        "decoders": decoders,
        "is_streamed": network.is_streamed,
        "registers": register_map.registers(decoders),
        "loading": register_map.LOADING,
        "map": register_map,
        "addresses": addresses(network, board),
        "compiler": _compiler(board),
        "shape": model_shape,
        "dma_limit": (1 << flow.DMA_LENGTH_BITS) - 1,
        "version": __version__,
        "c_string": c_string,
        "comment": comment,
        "literal": _literal,
        "float_literal": float_literal,
    }
    files: Files = {DESCRIPTION: json.dumps(description, indent=1) + "\n"}
    source = folder("hls_templates") / "host"
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if path.suffix == ".j2":
            files[name.removesuffix(".j2")] = _environment().get_template(name).render(values)
        elif path.suffix in (".py", ".c", ".h", ".cpp", ".hpp"):
            files[name] = path.read_text()
    return files


def describe(network: Network, board: Board, clock_mhz: float, build_id: int, decoders: int) -> dict[str, Any]:
    """The contents of `accelerator.json`: all that a host program has to know, docs/hosts.md lists the keys."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": network.name,
        "board": board.name,
        "flow": board.flow,
        "build_id": build_id,
        "clock_mhz": clock_mhz,
        "registers": {
            one.name: {"offset": one.offset, "bits": one.bits, "direction": one.direction}
            for one in register_map.registers(decoders)
        },
        "loaded": decoders > 0,
        "streamed": network.is_streamed,
        "addresses": addresses(network, board),
        "inputs": [_terminal(one) for one in network.inputs],
        "outputs": [_terminal(one) for one in network.outputs],
    }


def addresses(network: Network, board: Board) -> dict[str, int]:
    """Physical addresses of the accelerator and the DMA engines of inputs and outputs, where `system.tcl` puts them."""
    if board.flow not in ("vivado", "kria"):
        return {}
    engines = [engine.instance for engine in flow.engines(network)]
    every = flow.addresses(network, board)
    return {name: every[name] for name in ("accelerator_0", *engines)}


def _compiler(board: Board) -> str:
    is_small = board.processor is not None and board.processor.bits == 32
    return "arm-linux-gnueabihf-gcc" if is_small else "aarch64-linux-gnu-gcc"


def _terminal(terminal: Terminal) -> dict[str, Any]:
    type = terminal.type
    return {
        "name": terminal.name,
        "identifier": terminal.identifier,
        "dma": f"dma_{terminal.identifier}",
        "lanes": terminal.lanes,
        "lane_bits": terminal.lane_bits,
        "width": type.width,
        "signed": type.signed,
        "fraction": type.fractions[0] if type.is_scalar else list(type.fractions),
        "scale": type.meaning.scale if type.meaning else None,
        "zero_point": type.meaning.zero_point if type.meaning else 0,
        "ties_to_even": terminal.ties_to_even,
        "range": [type.low, type.high],
        "shape": list(model_shape(terminal)),
        "stream_shape": list(terminal.sizes),
        "strides": list(terminal.strides),
    }


def model_shape(terminal: Terminal) -> tuple[int, ...]:
    """A terminal's shape in the model's own layout, without the batch.

    A dimension's stride is the product of the later sizes, so that larger strides come first; of equal ones only the
    first can have a size other than 1. Stride 0 fills up to the terminal's five dimensions.
    """
    walked = zip(terminal.strides, terminal.sizes, strict=True)
    return tuple(size for stride, size in sorted(walked, key=lambda pair: (-pair[0], -pair[1])) if stride)


def _literal(value: int) -> str:
    """A C constant of int64_t. The most negative number has no literal of its own."""
    return f"(INT64_C({value + 1}) - 1)" if value == -(1 << 63) else f"INT64_C({value})"


def float_literal(value: float) -> str:
    """A C constant of a float32 number: ten digits tell it from every other."""
    return f"{value:.9e}F"
