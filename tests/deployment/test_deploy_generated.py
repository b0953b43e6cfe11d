"""Deployment of what `compile` writes, whole: the generated host program runs behind sshd, over the C simulation."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.deployment.board import Board, compiled, needs_sshd
from tests.host.hardware import FAULTS, build_model, description_of, make_image
from tests.small import dense, run

pytestmark = [needs_sshd, pytest.mark.csim, pytest.mark.slow]
STANDIN = Path(__file__).parents[1] / "host/standin"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("generated")


@pytest.fixture(scope="module")
def project(root):
    return compiled(dense(root / "dense.onnx"), root / "project")


@pytest.fixture
def board(tmp_path):
    """One with a stand-in for the package pynq: the program called Python adds it to the path."""
    found = Board(tmp_path)
    found.prepare()
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={STANDIN} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return found


def program(project, hardware, folder):
    """Lays the bitstream of `hardware` into the project."""
    out, name = project / "hls/out", description_of(project)["name"]
    out.mkdir(exist_ok=True)
    folder.mkdir()
    image = make_image(hardware, build_model(hardware, folder), folder / "images")
    shutil.copy(image, out / f"{name}.bit")
    (out / f"{name}.hwh").write_text("addresses")
    return out / f"{name}.bit"


def deploy(board, project):
    with board.serve():
        return run("deploy", project, *board.arguments[:-1], board.root / "python")


def test_the_hardware_gives_what_the_simulation_gives(project, board, tmp_path, capfd):
    image = program(project, project, tmp_path / "hardware")
    assert deploy(board, project) == 0
    text = capfd.readouterr().out
    assert "8 inputs, 24 integers compared, 0 differ" in text
    assert re.search(r"\n\d+\.\d frames/s", text)
    assert f'"fault": {FAULTS["other build"]}' not in image.read_text()
    image.write_text(image.read_text().replace("{", f'{{"fault": {FAULTS["other build"]}, ', 1))
    first = board.current
    assert deploy(board, project) == 3
    assert "run.py failed on the board with exit code 2" in capfd.readouterr().err
    assert board.folders == [first]


def test_a_weight_that_differs_in_the_hardware_is_found(project, board, tmp_path, capfd):
    other = Path(shutil.copytree(project, tmp_path / "other"))
    constants = other / "hls/src/constants.h"
    text = constants.read_text()
    changed = re.sub(r"(_weights\w*\[[^{]*\{\s*\{?)(0x[0-9a-f]+|-?\d+)", lambda m: m[1] + "0x1", text, count=1)
    assert changed != text
    constants.write_text(changed)
    program(project, other, tmp_path / "hardware")
    assert deploy(board, project) == 1
    assert re.search(r"layer second index \[\d, \d\]: expected -?\d+, got -?\d+", capfd.readouterr().err)
    assert board.folders == []
