"""For all tests: hypothesis draws the same examples each time, and on continuous integration a skipped test is a
failure.

A test may skip where its tool is missing on somebody's machine. On CI everything is installed, so a skip there is an
installation step that got lost. Tests of things that CI leaves out on purpose are marked `optional`.
"""

import os
import signal

import ortools.sat.python.cp_model  # noqa: F401 - before TensorFlow, which some tests load: see toolchain/apart.py
import pytest
from hypothesis import settings

from tests.cpp import precompiled

# The same examples in every run, so that a failure can be repeated; no deadline, since machines are shared.
settings.register_profile("toolchain", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("toolchain")

# A run in the background ignores Ctrl-C, and so would the programs that tests start and interrupt: they never ended.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """One folder for all processes of a test run."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def quick_cxxflags(shared_folder):
    """CXXFLAGS for generated projects: not optimized, since small designs compile longer than they run."""
    return " ".join(precompiled(shared_folder))


@pytest.fixture
def quick(quick_cxxflags, monkeypatch):
    """The C simulations of this test are built with `quick_cxxflags`."""
    monkeypatch.setenv("CXXFLAGS", quick_cxxflags)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    if item.get_closest_marker("optional") is None:
        _refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    report = yield
    _refuse(report)
    return report


def _refuse(report):
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason}\nA skipped test counts as failed where CI is set, see tests/conftest.py."
