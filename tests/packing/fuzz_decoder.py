"""Builds the fuzzer of the C decoders and runs it: `python -m tests.packing.fuzz_decoder --seconds 600`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.packing.codings import random_tensor
from toolchain.packing.container import pack
from toolchain.resources import folder

HARNESS = Path(__file__).with_name("fuzz_decoder.c")
SANITIZERS = "-fsanitize=fuzzer,address,undefined"


def build(place: Path) -> Path:
    """The fuzzer. Raises CalledProcessError when clang does not compile it."""
    program, sources = place / "fuzz_decoder", folder("c_templates")
    files = [HARNESS, sources / "weights.c", sources / "dct_packed.c"]
    options = ["-g", "-O1", "-std=c99", SANITIZERS, "-fno-sanitize-recover=all", f"-I{sources}"]
    subprocess.run(["clang", *options, *files, "-o", program], check=True)
    return program


def write_seeds(place: Path) -> None:
    """Real containers, and constants: a first byte says what the others are."""
    place.mkdir()
    for number in range(12):
        rng = np.random.default_rng(number)
        (place / f"container_{number}").write_bytes(b"\0" + pack([random_tensor(rng, number)])[0])
        (place / f"constants_{number}").write_bytes(b"\1" + rng.integers(0, 256, 400, dtype=np.uint8).tobytes())


def run(place: Path, *limits: str) -> subprocess.CompletedProcess[str]:
    """Fuzzes with libFuzzer's limits, `-runs=N` or `-max_total_time=SECONDS`; what it finds stays in `place`."""
    write_seeds(place / "seeds")
    argv = [str(build(place)), "-seed=1", "-max_len=4096", *limits, str(place / "seeds")]
    return subprocess.run(argv, cwd=place, capture_output=True, text=True, errors="replace", check=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    place = Path(tempfile.mkdtemp(prefix="fuzz-decoder-"))
    done = run(place, f"-max_total_time={parser.parse_args().seconds}", "-print_final_stats=1")
    print(done.stderr[-2000:])
    print(
        f"found: {sorted(one.name for one in place.glob('crash-*'))}, kept in {place}" if done.returncode else "clean"
    )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
