"""Projects for every flow, a bench of stand-ins for tools, a board behind a real sshd."""

import shutil
from pathlib import Path

import pytest

from tests.deployment.board import Board, Built, compiled
from tests.small import dense, two_ports
from tests.verification.networks import generate

BUILT = ("pynq-z2", "kv260", "u250", "vck190", "arty-a7-100t")


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("build")
    return {board: generate("vector", root / board, board).parent for board in BUILT}


@pytest.fixture
def project(made, tmp_path):
    return lambda board="pynq-z2": Path(shutil.copytree(made[board], tmp_path / board))


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A folder of stand-ins that is all there is on PATH, but for dtc, make and the compiler."""
    folder, system = tmp_path / "tools", tmp_path / "system"
    folder.mkdir()
    system.mkdir()
    for name in ("dtc", "make", "g++", "python3", "sh", "mkdir", "as", "ld"):
        if found := shutil.which(name):
            (system / name).symlink_to(found)
    monkeypatch.setenv("PATH", f"{folder}:{system}")
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("deployed")
    return {
        "dense": compiled(dense(root / "dense.onnx"), root / "dense"),
        "ports": compiled(two_ports(root / "ports.onnx"), root / "ports"),
    }


@pytest.fixture
def board(tmp_path):
    found = Board(tmp_path)
    found.prepare()
    return found


@pytest.fixture
def built(models, tmp_path):
    return Built(shutil.copytree(models["dense"], tmp_path / "project"), image=1 << 20)
