"""python -m tests.fuzz --networks 1000 --inputs 32 --seed 7: random networks through every rendering."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.generate import Case, generate
from tests.fuzz.reduce import keep, reduce
from tests.fuzz.run import Failure, Summary, campaign, check, precompiled_header


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--networks", type=int, default=64)
    parser.add_argument("--inputs", type=int, default=32, help="rows for each network")
    parser.add_argument("--seed", type=int, default=7, help="the first network's; each next one has one more")
    parser.add_argument("--no-keep", dest="keep", action="store_false", help="do not save failures as tests")
    arguments = parser.parse_args()
    begin = time.monotonic()
    print(f"seeds {arguments.seed} to {arguments.seed + arguments.networks - 1}", flush=True)

    def progress(summary: Summary) -> None:
        print(f"{time.monotonic() - begin:6.0f} s  {summary}", flush=True)

    with tempfile.TemporaryDirectory(prefix="fuzz_") as name:
        folder = Path(name)
        cases = (generate(arguments.seed + k) for k in range(arguments.networks))
        summary = campaign(cases, arguments.inputs, folder, progress)
        for case, failure in summary.failures:
            report(case, failure, arguments.inputs, folder, arguments.keep)
    print(f"{time.monotonic() - begin:6.0f} s  {summary}")
    return int(bool(summary.failures))


def report(case: Case, failure: Failure, rows: int, folder: Path, kept: bool) -> Case:
    """Reduces a failure, prints and saves it."""
    header = precompiled_header(folder) if failure.kind in ("csim", "C++ compiler") else None
    smaller = reduce(case, failure, lambda c: check(c, rows, folder, header))
    print(f"seed {case.settings.seed}: {failure}")
    print(f"  reduced to {', '.join(node.op_type for node in smaller.model.graph.node)}; {smaller.settings}")
    if kept:
        print(f"  kept as {keep(smaller, failure)}")
    return smaller


if __name__ == "__main__":
    sys.exit(main())
