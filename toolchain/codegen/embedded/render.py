"""Renders an integer program as a C99 project: same program in, same bytes out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import jinja2

from toolchain.codegen.embedded.model import Model
from toolchain.codegen.embedded.storage import storage
from toolchain.codegen.hls import c_string, comment
from toolchain.codegen.host import float_literal
from toolchain.codegen.project import Files
from toolchain.errors import ConfigurationError, PassError
from toolchain.ir import Graph
from toolchain.resources import folder
from toolchain.version import __version__

SOURCES = ("dct_integers.h", "dct_kernels.h")
UNPACKING = ("dct_packed.c", "dct_packed.h")
"""Further ones, for packed weights."""
SHARED = ("numbers.c", "numbers.h")
"""Files of the hosts' driver that the project shares: how real numbers enter and leave."""
MANIFEST = "manifest.json"
FOOTPRINT = ("arena_bytes", "input_bytes", "output_bytes", "constants")
"""Keys of the manifest that the report has too."""
TUNED = tuple((x, w, 32) for x in ("s8", "u8", "s16") for w in ("s8", "s16"))
"""Dot products that dct_kernels.h has for some processors."""


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder("c_templates") / "project"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - C and make; names go through Identifiers, comment or c_string
    )


@dataclass(frozen=True)
class Embedded:
    """The files of `embedded/`, and what they take of a microcontroller's memories, in bytes."""

    files: Files
    footprint: dict[str, Any]


def render_embedded(graph: Graph, ram: int | None = None) -> Embedded:
    """The C project of a program, within so many bytes of RAM for its arena.

    Raises PassError, with the layer, for what C99 has no integers for, and ConfigurationError when RAM is missing.
    """
    try:
        model = Model(graph, ram)
    except PassError as error:
        error.fix = error.fix or "Use --target hls, or narrower formats for this layer."
        raise
    dots = sorted(model.dots, key=lambda dot: (dot[0].short, dot[1].short, dot[2]))
    values: dict[str, Any] = {
        "model": model,
        "name": model.name,
        "prefix": model.name.upper(),
        "dots": dots,
        "sparse_dots": sorted(model.sparse_dots, key=lambda dot: (dot[0].short, dot[1])),
        "tables": model.tables.all,
        "crc": model.tables.checksum,
        "stages": list(zip(model.stages, model.texts.values(), strict=True)),
        "tuned": TUNED,
        "storage": storage,
        "comment": comment,
        "c_string": c_string,
        "float_literal": float_literal,
        "version": __version__,
    }
    files: Files = {}
    source = folder("c_templates") / "project"
    for path in sorted(source.glob("*.j2")):
        target = path.name.removesuffix(".j2").replace("model", model.name)
        files[target] = _environment().get_template(path.name).render(values)
    for name in (*SOURCES, *(UNPACKING if model.packed.packed else ())):
        files[name] = (folder("c_templates") / name).read_text()
    for name in SHARED:
        files[name] = (folder("hls_templates") / "host/c" / name).read_text()
    described = manifest(model)
    files[MANIFEST] = json.dumps(described, indent=1) + "\n"
    if ram is not None and model.arena.bytes > ram:
        raise ConfigurationError(f"--ram {ram} is not enough: the arena needs {model.arena.bytes} bytes")
    return Embedded(files, {key: described[key] for key in FOOTPRINT})


def manifest(model: Model) -> dict[str, Any]:
    """What `verify` and the report have to know about the C."""
    flash: dict[str, int] = {}
    for table in model.tables.all:
        flash[table.kind] = flash.get(table.kind, 0) + table.bytes
    if model.packed.packed:
        flash["dictionaries"] = flash.get("dictionaries", 0) + model.packed.dictionary_bytes
    return {
        "format": "dct-toolchain embedded",
        "name": model.name,
        "arena_bytes": model.arena.bytes,
        "input_bytes": sum(one.type.size * one.lane_bits // 8 for one in model.inputs),
        "output_bytes": sum(one.type.size * one.lane_bits // 8 for one in model.outputs),
        "constants": flash,
        "stages": [[node.name for node in stage.nodes] for stage in model.stages] + [[one] for one in model.copied],
        "trace_bytes": model.trace_bytes,
        "trace": model.trace,
    }
