"""Builds the register-level model of a project and makes a stand-in image of it."""

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from toolchain.verification.csim import ap_types

XRT_HEADERS = Path("/usr/include/xrt")
HERE = Path(__file__).parent
CONTROL, DMA, WINDOW = 0x40000000, 0x40400000, 0x10000
FAULTS = {"none": 0, "never done": 1, "early last": 2, "missing beat": 3, "other build": 4, "no last": 5}


def glue(description) -> str:
    """The part of the model that knows the project: its streams, registers, and how its function is called."""
    name, registers = description["name"], description["registers"]
    terminals = description["inputs"] + description["outputs"]
    ports = [f"{one['identifier']}.stream" for one in terminals]
    fields, listed = [], []
    for one in terminals:
        size = int(np.prod(one["stream_shape"]))
        kind = f"model::typed_port<{one['identifier']}_beat, {one['lanes'] * one['lane_bits'] // 8}>"
        is_input = str(one in description["inputs"]).lower()
        fields.append(f'    {kind} {one["identifier"]}{{"{one["dma"]}", {is_input}, {size // one["lanes"]}}};')
        listed.append(f"&{one['identifier']}")
    table = []
    for one in registers.values():
        writable = str(one["direction"] == "in").lower()
        table += [f"{{{one['offset'] + 4 * k}, {writable}}}" for k in range(-(-one["bits"] // 32))]
    at = {key: f"values[{one['offset']}]" for key, one in registers.items()}
    arguments = [*ports, at["frames"], "id"]
    before, after, frames = "", "", at["frames"]
    if description["loaded"]:
        pointers = [one["offset"] for one in registers.values() if one["bits"] == 64]
        reads = "bytes != 0" if description["streamed"] else "load"
        before = f"""
        const bool load = values[{registers["load"]["offset"]}] & 1;
        const unsigned bytes = {at["weight_bytes"]};
        std::vector<ap_uint<32> > words[{len(pointers)}];
        const std::uint32_t pointers[] = {{{", ".join(map(str, pointers))}}};
        for (unsigned k = 0; k < {len(pointers)}; ++k) {{
            if ({reads} && !fetch(values, pointers[k], bytes, words[k])) {{
                model::problem("weights where there is no memory");
                return false;
            }}
            words[k].resize(words[k].size() + 1);
        }}
        int status = 0;"""
        after = f"\n        {at['weight_status']} = static_cast<std::uint32_t>(status);"
        data = [f"words[{k}].data()" for k in range(len(pointers))]
        arguments += [*data[:2], "bytes", "load", "status", *data[2:]]
        frames = f"(values[{registers['load']['offset']}] & 1) ? 0 : {at['frames']}"
    spoiled = "".join(f"\n        {one['identifier']}.spoil(planted);" for one in description["outputs"])
    return f"""// Made by tests/host/hardware.py.
#include "{name}.h"
#include "model.h"

struct glue {{
    typedef std::map<std::uint32_t, std::uint32_t> table;
{chr(10).join(fields)}

    const std::vector<model::port*>& ports() {{
        static const std::vector<model::port*> all = {{{", ".join(listed)}}};
        return all;
    }}

    static const std::map<std::uint32_t, bool>& registers() {{
        static const std::map<std::uint32_t, bool> all = {{{", ".join(table)}}};
        return all;
    }}

    std::uint64_t frames(table& values) {{ return {frames}; }}

    static bool fetch(table& values, std::uint32_t offset, unsigned bytes, std::vector<ap_uint<32> >& words) {{
        const std::uint64_t address = values[offset] | static_cast<std::uint64_t>(values[offset + 4]) << 32;
        const std::uint8_t* from = address % 4 ? nullptr : model::resolve(address, (bytes + 3) / 4 * 4);
        for (unsigned k = 0; from && k < (bytes + 3) / 4; ++k) {{
            std::uint32_t word;
            std::memcpy(&word, from + 4 * k, 4);
            words.push_back(word);
        }}
        return from;
    }}

    bool call(table& values, model::fault planted) {{
        unsigned id = 0;{before}
        {name}({", ".join(arguments)});
        {at["build_id"]} = id ^ (planted == model::OTHER_BUILD);{after}{spoiled}
        return true;
    }}
}};

namespace {{
model::board<glue> hardware;
}}

extern "C" {{
int model_contexts = 0;  // how many have the accelerator open
std::uint32_t model_read32(std::uint64_t address) {{ return hardware.read(address); }}
void model_write32(std::uint64_t address, std::uint32_t value) {{ hardware.write(address, value); }}
void model_map(std::uint64_t address, void* pointer, std::uint64_t size) {{
    model::memory()[address] = {{static_cast<std::uint8_t*>(pointer), size}};
}}
void model_unmap(std::uint64_t address) {{ model::memory().erase(address); }}
std::uint32_t model_beat_bytes(std::uint64_t engine) {{ return hardware.engine_at(engine)->beat_bytes(); }}
void model_plant(int fault) {{ hardware.plant(static_cast<model::fault>(fault)); }}
const char* model_problem() {{ return model::problem_text().c_str(); }}
}}
"""


def description_of(project: Path):
    return json.loads((project / "host/accelerator.json").read_text())


def build_model(project: Path, folder: Path, compiler: str = "g++") -> Path:
    """The model of a project as a shared library in the folder."""
    description = description_of(project)
    source, library = folder / "glue.cpp", folder / "libmodel.so"
    source.write_text(glue(description))
    hls = project / "hls"
    folders = [hls / "sim", hls / "src", hls / "src/kernels", HERE]
    subprocess.run(
        [
            *(compiler, "-std=c++20", "-O1", "-w", "-shared", "-fPIC"),
            *("-fno-gnu-unique", "-Wl,-Bsymbolic"),  # several copies in a process share nothing
            *(f"-I{one}" for one in folders),
            *("-isystem", ap_types()),
            *(source, hls / f"src/{description['name']}.cpp", "-o", library),
        ],
        check=True,
        timeout=600,
    )
    return library


def make_image(project: Path, library: Path, folder: Path) -> Path:
    """A stand-in bitstream: where the model is, and the addresses of its parts.

    The library is a copy: whoever loads it gets hardware that has just been programmed.
    """
    description = description_of(project)
    folder.mkdir(exist_ok=True)
    copy = folder / f"model_{len(list(folder.iterdir()))}.so"
    shutil.copy(library, copy)
    terminals = description["inputs"] + description["outputs"]
    parts = {one["dma"]: DMA + k * WINDOW for k, one in enumerate(terminals)}
    image = copy.with_suffix(".bit")
    image.write_text(json.dumps({"library": str(copy), "accelerator_0": CONTROL, "engines": parts}))
    return image


def open_model(library: Path) -> ctypes.CDLL:
    """The model's functions with their types."""
    model = ctypes.CDLL(str(library))
    model.model_read32.argtypes, model.model_read32.restype = [ctypes.c_uint64], ctypes.c_uint32
    model.model_write32.argtypes = [ctypes.c_uint64, ctypes.c_uint32]
    model.model_map.argtypes = [ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64]
    model.model_unmap.argtypes = [ctypes.c_uint64]
    model.model_problem.restype = ctypes.c_char_p
    return model


def run_host(project: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python3 run.py` in the project's host/, with the stand-ins on the path."""
    path = os.pathsep.join([str(HERE / "standin"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "run.py", *map(str, arguments)],
        cwd=project / "host",
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def refused(done: subprocess.CompletedProcess[str], text: str) -> None:
    """A host program that was asked for something impossible: one line, and no figures."""
    assert done.returncode == 2, done
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert text in done.stderr
    assert done.stdout == ""


def fault(image: Path, name: str) -> Path:
    """The image of a board that is broken in some way."""
    content = json.loads(image.read_text()) | {"fault": FAULTS[name]}
    image.write_text(json.dumps(content))
    return image


def needs(tool: str, package: str) -> pytest.MarkDecorator:
    """Skips where a Debian package is missing; on continuous integration that is a failure."""
    missing = shutil.which(tool) is None if "/" not in tool else not Path(tool).exists()
    return pytest.mark.skipif(
        missing and not os.environ.get("CI"), reason=f"{tool} is not installed: apt-get install {package}"
    )


COMPILERS = [
    pytest.param("gcc", (), marks=needs("gcc", "gcc")),
    pytest.param(
        "arm-linux-gnueabihf-gcc",
        ("qemu-arm", "-L", "/usr/arm-linux-gnueabihf"),
        marks=[needs("arm-linux-gnueabihf-gcc", "gcc-arm-linux-gnueabihf"), needs("qemu-arm", "qemu-user")],
    ),
    pytest.param(
        "aarch64-linux-gnu-gcc",
        ("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"),
        marks=[needs("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"), needs("qemu-aarch64", "qemu-user")],
    ),
]
"""Compilers for C, and what runs their programs here."""
