"""Every header stands on its own: it includes what it needs and compiles without a warning."""

import re
import subprocess

import pytest

from tests.cpp import WIDEST, ap_types_path, precompiled
from tests.hls_templates.harness import TEMPLATES, options

HEADERS = sorted(
    str(path.relative_to(TEMPLATES)) for path in TEMPLATES.glob("**/*.h") if TEMPLATES / "host" not in path.parents
)

pytestmark = pytest.mark.csim


def compile_only(source, *flags):
    command = ["g++", *flags, "-fsyntax-only", *options(), "-isystem", str(ap_types_path()), "-xc++", "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]


def included(header):
    """What a header includes of the templates, itself too, and what it includes from elsewhere."""
    inside, outside, waiting = set(), set(), [header]
    while waiting:
        path = TEMPLATES / waiting.pop()
        if path in inside:
            continue
        inside.add(path)
        for name in re.findall(r"^ *# *include [<\"](.*)[>\"]", path.read_text(), re.MULTILINE):
            places = [place / name for place in (path.parent, TEMPLATES, TEMPLATES / "sim") if (place / name).is_file()]
            if places:
                waiting.append(places[0].relative_to(TEMPLATES))
            else:
                outside.add(name)
    return inside, outside


@pytest.mark.parametrize("header", HEADERS)
def test_includes_come_first(header):
    """So that whatever a header includes is known to all of its own code."""
    text = re.sub(r"//[^\n]*|(?s:/\*.*?\*/)", "", (TEMPLATES / header).read_text())
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = max((k for k, line in enumerate(lines) if re.match("# *include", line)), default=0)
    assert [line for line in lines[:last] if not line.startswith("#")] == []


@pytest.mark.parametrize("header", HEADERS)
def test_compiles_alone(header, shared_folder):
    """Twice, for the include guard. Headers that include the vendor's ap_int.h find it compiled already."""
    flags = precompiled(shared_folder, "c++14") if "ap_int.h" in included(header)[1] else ("-std=c++14",)
    compile_only(f'#include "{header}"\n' * 2, *flags)


def test_the_precompiled_header_is_what_the_word_includes():
    text = (TEMPLATES / "word.h").read_text()
    first = re.search(r"#ifndef AP_INT_MAX_W\n(#define AP_INT_MAX_W \d+\n)#endif\n(#include <.*>\n)", text)
    assert first[1] + first[2] == WIDEST
    for header in HEADERS:
        inside, outside = included(header)
        if any(name.startswith("ap_") for name in outside):
            assert TEMPLATES / "word.h" in inside, f"{header} includes the vendor's headers without word.h"


@pytest.mark.parametrize("headers", [HEADERS, HEADERS[::-1]], ids=["forwards", "backwards"])
def test_compile_together_as_cpp20(headers):
    compile_only("".join(f'#include "{header}"\n' for header in headers), "-std=c++20")


@pytest.mark.parametrize(
    ("defines", "expected"),
    [
        (["-D__SYNTHESIS__"], "#pragma HLS array_partition variable = x cyclic factor = N dim = 1"),
        (["-D__SYNTHESIS__", "-DDCT_NO_PRAGMAS"], ""),
        ([], ""),
    ],
)
def test_pragmas_reach_the_hls_compiler_only(defines, expected):
    source = '#include "pragmas.h"\nbegin\nDCT_HLS(array_partition variable = x cyclic factor = N dim = 1)'
    command = ["g++", "-E", "-P", *defines, *options(), "-xc++", "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=True)
    assert done.stdout.partition("begin")[2].strip() == expected


@pytest.mark.parametrize("header", HEADERS)
def test_keeps_to_what_hls_compilers_accept(header):
    text = (TEMPLATES / header).read_text()
    assert "#pragma once" not in text
    assert not re.search(r"^\s*#pragma HLS", text, re.MULTILINE)
    if not header.startswith("sim/") and header not in {"testbench.h", "trace.h", "weight_file.h"}:
        for word in ("float", "double", "std::", ".empty(", "new "):
            assert word not in text


@pytest.mark.parametrize("header", sorted(path for path in TEMPLATES.rglob("*.h")), ids=lambda path: path.name)
def test_a_header_includes_what_it_multiplies_with(header):
    """Inside a template nothing is looked up before it is used, so that compiling a header alone does not show it."""
    text = header.read_text()
    if re.search(r"\bmultiply\(", text) and header.name != "multiply.h":
        assert '#include "multiply.h"' in text
