"""Every header stands on its own: it includes what it needs and compiles without a warning."""

import re
import subprocess

import pytest

from tests.cpp import ap_types_path
from tests.hls_templates.harness import TEMPLATES, options

HEADERS = sorted(
    str(path.relative_to(TEMPLATES)) for path in TEMPLATES.glob("**/*.h") if TEMPLATES / "host" not in path.parents
)

pytestmark = pytest.mark.csim


def compile_only(source, standard):
    command = ["g++", f"-std={standard}", "-fsyntax-only", *options(), "-isystem", str(ap_types_path()), "-xc++", "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]


@pytest.mark.parametrize("header", HEADERS)
def test_compiles_alone(header):
    # Twice, for the include guard.
    compile_only(f'#include "{header}"\n' * 2, "c++14")


@pytest.mark.parametrize("headers", [HEADERS, HEADERS[::-1]], ids=["forwards", "backwards"])
def test_compile_together_as_cpp20(headers):
    compile_only("".join(f'#include "{header}"\n' for header in headers), "c++20")


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
