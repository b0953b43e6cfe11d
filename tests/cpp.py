"""Compiles C++ against the vendor's real arbitrary-precision headers and runs it."""

import fcntl
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

WIDEST = "#define AP_INT_MAX_W 4096\n#include <ap_int.h>\n"
"""How hls_templates/word.h includes it; test_headers.py compares them."""


def ap_types_path() -> Path:
    """The folder of ap_fixed.h and its relatives in the installed hls4ml wheel, found without importing it."""
    spec = importlib.util.find_spec("hls4ml")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "templates" / "vivado" / "ap_types"
        if (path / "ap_fixed.h").is_file():
            return path
    raise FileNotFoundError("hls4ml, whose wheel holds the ap_types headers, is not installed: pip install hls4ml")


def precompiled(folder: Path, standard: str = "c++20") -> tuple[str, ...]:
    """Flags for a translation unit that is not optimized and begins with the vendor's ap_int.h, as word.h includes it.

    Raises AssertionError where it does not compile. Without g++ whoever uses the flags says so.
    """
    header = folder / f"ap_int_{standard}.h"
    flags = ("-O0", f"-std={standard}")
    command = ["g++", *flags, "-isystem", str(ap_types_path())]
    if shutil.which("g++"):
        compile_once(header, WIDEST, lambda arguments: _run([*command, *arguments], b"", 600, "errors"))
    return *flags, "-include", str(header)


def compile_once(header: Path, text: str, run: Callable[[list[str]], object]) -> None:
    """Writes a header and compiles it, in whichever process or thread comes first; the others wait for it.

    g++ takes what lies beside a header in place of its text where its own flags are those of `run`, which gets the
    arguments that name the files.
    """
    compiled = header.with_name(f"{header.name}.gch")
    with header.with_name(f"{header.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not compiled.exists():
            header.write_text(text)
            unfinished = header.with_name(f"{header.name}.part")
            run(["-x", "c++-header", str(header), "-o", str(unfinished)])
            unfinished.rename(compiled)


def compile_and_run(
    source: str,
    folder: Path,
    *,
    flags: tuple[str, ...] = ("-O1",),
    standard: str = "c++20",
    stdin: bytes = b"",
    timeout: float = 600,
) -> bytes:
    """Compiles one translation unit with g++ and returns what it writes to standard output.

    Args:
        source: the C++ text; it may include <ap_fixed.h> and the like.
        folder: where the source and the program are put (tmp_path); nothing is kept elsewhere.
        flags: more compiler arguments.
        standard: the language.
        stdin: what the program reads.
        timeout: seconds, for each of the two steps.

    Raises:
        AssertionError: the source does not compile, or the program fails; with the start of what was said.
    """
    compiler = shutil.which("g++")
    if compiler is None:
        complain = pytest.fail if os.environ.get("CI") else pytest.skip
        complain("g++ is not installed, so nothing is compared with the real ap_fixed: apt-get install g++")
    code, program = folder / "main.cpp", folder / "main"
    code.write_text(source)
    command = [compiler, f"-std={standard}", *flags, "-isystem", str(ap_types_path()), str(code), "-o", str(program)]
    _run(command, b"", timeout, "errors")
    return _run([str(program)], stdin, timeout, "a failed run")


def _run(command: list[str], stdin: bytes, timeout: float, what: str) -> bytes:
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=timeout, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").splitlines()
        errors = [line for line in said if "error" in line.lower() or "assert" in line.lower()] or said
        shown = "\n".join(errors[:10])
        raise AssertionError(f"{what} (exit {done.returncode}) of: {' '.join(command)}\n{shown}")
    return done.stdout
