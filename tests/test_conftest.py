"""A test of the tests: what is skipped on CI fails, and is only listed elsewhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TESTS = """
import pytest

def test_skips():
    pytest.skip("no such tool")

@pytest.mark.optional
def test_may_skip():
    pytest.skip("left out on purpose")

@pytest.mark.xfail
def test_known_to_fail():
    assert False

def test_passes():
    pass
"""
MODULE = """
import pytest

pytest.importorskip("no_such_module")
"""


def outcome(folder, ci):
    (folder / "pytest.toml").write_text('[pytest]\nmarkers = ["optional"]\n')
    (folder / "test_some.py").write_text(TESTS)
    (folder / "test_module.py").write_text(MODULE)
    environment = {name: value for name, value in os.environ.items() if name != "CI" and "PYTEST" not in name}
    environment |= {"PYTHONPATH": str(ROOT)} | ({"CI": "true"} if ci else {})
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.conftest",
            "-p",
            "no:cacheprovider",
            "--continue-on-collection-errors",
        ],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()[-1]


@pytest.mark.parametrize("ci", [False, True])
def test_skip_fails_on_ci_only(tmp_path, ci):
    code, summary = outcome(tmp_path, ci)
    expected = "1 failed, 1 passed, 1 skipped, 1 xfailed, 1 error" if ci else "1 passed, 3 skipped, 1 xfailed"
    assert expected in summary
    assert code == (1 if ci else 0)
