"""`toolchain deploy` through a real sshd: what passes, what differs, and what is refused before anything is sent."""

import getpass
import hashlib
import json
import shutil

import numpy as np
import pytest

from tests.deployment.board import Built, alive, deployed, errors, needs_sshd
from tests.small import run

pytestmark = needs_sshd


def test_a_deployment_that_passes(board, built, capfd):
    with board.serve():
        assert run("deploy", built.path, *board.arguments) == 0
    text = capfd.readouterr().out
    assert "8 inputs, 24 integers compared, 0 differ" in text
    assert "16.0 frames/s (0.500000 s)" in text
    assert f"build {built.build:08x}" in text
    assert f"{board.current}" in text
    assert board.folders == [board.current]
    folder = board.place / "current"
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == sorted(
        ["accelerator.json", "c/driver.h", f"{built.name}.bit", f"{built.name}.hwh", "expected_inputs.npy",
         "expected_outputs.npy", "plan.json", "run.py"]
    )  # fmt: skip
    assert (folder / f"{built.name}.bit").read_bytes() == (built.path / f"hls/out/{built.name}.bit").read_bytes()


def test_several_ports_own_inputs_and_loaded_weights(models, board, tmp_path, capfd):
    built = Built(shutil.copytree(models["ports"], tmp_path / "project"), "u250")
    rng = np.random.default_rng(4)
    given = {"a": rng.normal(size=(5, 2, 6, 6)), "b": rng.normal(size=(5, 4, 3, 3))}
    np.savez(tmp_path / "x.npz", **given)
    checksum = hashlib.sha256((built.path / "weights.bin").read_bytes()).hexdigest()
    built.plan(given, weights=checksum)
    built.describe(loaded=True)
    more = ["--inputs", tmp_path / "x.npz", "--frames", 3, "--repeat", 4]
    with board.serve():
        assert run("deploy", built.path, *board.arguments, *more) == 0
    text = capfd.readouterr().out
    assert f"3 inputs, {3 * (36 + 3)} integers compared, 0 differ" in text
    assert "24.0 frames/s" in text
    assert (board.place / "current/weights.bin").is_file()


def test_the_next_deployment_takes_the_place_of_the_first(board, built, capfd):
    first = deployed(board, built, capfd)
    arguments = [*board.arguments]
    arguments[1] = f"{getpass.getuser()}@127.0.0.1:{board.port}"
    other = board.place / f"{built.name}_other-00000001-abcdefgh"  # of another network
    other.mkdir()
    with board.serve():
        assert run("deploy", built.path, *arguments, "--keep") == 0
        second = board.current
        assert board.folders == sorted([first, second, other.name])
        assert run("deploy", built.path, *arguments) == 0
    assert "2 older removed" in capfd.readouterr().out
    assert board.folders == sorted([board.current, other.name])
    assert board.current not in {first, second}


def test_one_wrong_integer_is_found(board, built, capfd):
    first = deployed(board, built, capfd)
    expected = {}

    def change(outputs):
        expected["value"] = int(outputs["second"][6, 2])
        outputs["second"][6, 2] += 1

    built.plan(change=change)
    with board.serve():
        assert run("deploy", built.path, *board.arguments) == 1
    value = expected["value"]
    assert f"layer second index [6, 2]: expected {value}, got {value + 1}" in errors(capfd)
    assert board.current == first
    assert board.folders == [first]


@pytest.mark.parametrize("outputs", ["wide", "float", "short", "none"])
def test_outputs_of_another_kind(board, built, capfd, outputs):
    file = built.path / "host/expected_outputs.npy"
    values = np.load(file)
    np.save(
        file, {"wide": np.zeros((8, 900000), np.int64), "float": values * 1.0, "short": values[:5]}.get(outputs, values)
    )
    if outputs == "none":
        script = (built.path / "host/run.py").read_text()
        (built.path / "host/run.py").write_text(script.replace("np.save(options.outputs, answers)", "None"))
    with board.serve():
        code = run("deploy", built.path, *board.arguments)
    text = errors(capfd)
    wanted = {
        "wide": (2, "at most"),
        "float": (3, "float64 for second, raw integers"),
        "short": (1, "expected 24 values, got 15"),
        "none": (3, "no outputs.npy"),
    }[outputs]
    assert code == wanted[0]
    assert wanted[1] in text
    assert board.folders == []


def test_a_program_that_fails_says_why(board, built, capfd):
    built.plan(fail="dma_x_axis hangs")
    with board.serve():
        assert run("deploy", built.path, *board.arguments) == 3
    assert "run.py failed on the board with exit code 1: dma_x_axis hangs" in errors(capfd)
    assert board.folders == []


def test_another_bitstream_runs(board, built, capfd):
    built.plan(build=7)
    with board.serve():
        assert run("deploy", built.path, *board.arguments) == 2
    assert f"the board runs build 0x00000007, the project is {built.build:#010x}" in errors(capfd)


def test_a_program_that_does_not_end(board, built, capfd, tmp_path):
    built.plan(sleep=50, mark=str(tmp_path / "mark"))
    with board.serve():
        assert run("deploy", built.path, *board.arguments, "--timeout", 2) == 3
    assert "has not ended after 2 s" in errors(capfd)
    assert not alive(int((tmp_path / "mark").read_text()))
    assert board.folders == []


# What is refused before anything is sent


def test_nothing_is_built(board, built, capfd):
    (built.path / f"hls/out/{built.name}.hwh").unlink()
    assert run("deploy", built.path, *board.arguments) == 2
    text = errors(capfd)
    assert f"{built.name}.hwh is not there" in text
    assert f"Build it with toolchain build {built.path} --stage bitstream." in text


DAMAGES = {
    "host": (lambda p: shutil.rmtree(p / "host"), "the project has no host/"),
    "run.py": (lambda p: (p / "host/run.py").unlink(), "has no run.py"),
    "json": (lambda p: (p / "host/accelerator.json").write_text("{"), "is damaged"),
    "no json": (lambda p: (p / "host/accelerator.json").unlink(), "No such file"),
    "stray": (lambda p: (p / "host/a b").write_text(""), "does not belong there"),
    "build id": (
        lambda p: (p / "hls/src/build_id.h").write_text("BUILD_ID = 0x00000005;"),
        "the build id is 0x00000005",
    ),
    "words": (lambda p: (p / "hls/tb_data/inputs.dat").write_text("1 2 3 4 5 x\n"), "is damaged"),
    "short": (lambda p: (p / "hls/tb_data/inputs.dat").write_text("1 2 3\n"), "is damaged"),
    "no rows": (lambda p: (p / "hls/tb_data/inputs.dat").unlink(), "Give --inputs"),
    "weights": (lambda p: (p / "weights.bin").write_bytes(b""), "is damaged"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_project_that_is_not_whole(board, built, capfd, damage, message):
    damage(built.path)
    assert run("deploy", built.path, *board.arguments) == 2
    assert message in errors(capfd)


@pytest.mark.parametrize(
    "change",
    [{"name": "a;b"}, {"name": "../x"}, {"build_id": 0}, {"flow": "kria"}, {"version": 2}, {"loaded": "yes"}],
    ids=str,
)
def test_a_description_that_is_not_ours(board, built, capfd, change):
    built.describe(**change)
    assert run("deploy", built.path, *board.arguments) == 2
    assert "accelerator.json: is damaged" in errors(capfd)


def test_a_board_without_a_processor(models, board, tmp_path, capfd):
    built = Built(shutil.copytree(models["dense"], tmp_path / "project"), "arty-a7-100t")
    assert run("deploy", built.path, *board.arguments) == 2
    assert "arty-a7-100t has no processor to deploy to" in errors(capfd)


def test_inputs_that_cannot_be_run(board, built, capfd, tmp_path):
    np.save(tmp_path / "x.npy", np.full((2, 6), np.nan))
    assert run("deploy", built.path, *board.arguments, "--inputs", tmp_path / "x.npy") == 2
    assert "NaN" in errors(capfd)


def test_what_a_project_runs_is_its_test_bench(built):
    """Reals made from the raw integers of inputs.dat give the outputs.dat that `compile` wrote."""
    outputs = np.loadtxt(built.path / "hls/tb_data/outputs.dat", dtype=np.int64)
    assert np.array_equal(np.load(built.path / "host/expected_outputs.npy"), outputs)
    assert json.loads((built.path / "host/plan.json").read_text())["inputs"] == "expected_inputs.npy"
    assert (built.path / "host/expected_inputs.npy").stat().st_size > 8 * 6 * 8
