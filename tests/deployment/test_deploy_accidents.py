"""`toolchain deploy` through a real sshd: who is at the other end, and what an accident leaves behind."""

import fcntl
import subprocess
import sys
import time

import pytest

from tests.deployment.board import alive, deployed, errors, make_key, needs_sshd
from tests.small import run
from toolchain.deployment import deploy

pytestmark = needs_sshd


# Who is at the other end


def test_a_changed_host_key(board, built, capfd):
    board.know(make_key(board.root / "other_key"))
    with board.serve():
        assert run("deploy", built.path, *board.arguments) == 2
    text = errors(capfd)
    assert "its host key is not the one that is known" in text
    assert f"ssh-keygen -R '[127.0.0.1]:{board.port}'" in text
    assert not board.place.exists()


def test_an_unknown_host_key(board, built, capfd):
    board.know("")
    with board.serve():
        assert run("deploy", built.path, *board.arguments) == 2
    assert "its host key is not known. Connect once with ssh" in errors(capfd)
    assert "ed25519" not in (board.root / "known_hosts").read_text()


def test_a_board_that_does_not_let_us_in(board, built, capfd):
    (board.root / "authorized_keys").write_text("")
    with board.serve():
        assert run("deploy", built.path, *board.arguments) == 2
    assert "does not let us in" in errors(capfd)


def test_nobody_there(board, built, capfd):
    assert run("deploy", built.path, *board.arguments) == 2
    assert "cannot be reached: ssh: connect to host 127.0.0.1" in errors(capfd)


def test_no_ssh(board, built, capfd, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert run("deploy", built.path, *board.arguments) == 3
    assert "ssh is not installed" in errors(capfd)


def test_no_python_on_the_board(board, built, capfd):
    arguments = [*board.arguments[:-1], "python-of-nowhere"]
    with board.serve():
        assert run("deploy", built.path, *arguments) == 3
    text = errors(capfd)
    assert "python-of-nowhere" in text
    assert "Python 3.8 or newer" in text


def test_no_numpy_on_the_board(board, built, capfd, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    arguments = [*board.arguments[:-1], tmp_path / "bare/bin/python"]
    with board.serve():
        assert run("deploy", built.path, *arguments) == 3
    assert "has no NumPy: ModuleNotFoundError" in errors(capfd)
    assert board.folders == []


@pytest.mark.parametrize("lets", [True, False])
def test_sudo(board, built, capfd, tmp_path, lets):
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "sudo").write_text(
        '#!/bin/sh\n[ "$1" = -n ] || exit 9\nshift\nexec "$@"\n'
        if lets
        else "#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n"
    )
    (tools / "sudo").chmod(0o755)
    with board.serve(f"SetEnv PATH={tools}:/usr/local/bin:/usr/bin:/bin"):
        assert run("deploy", built.path, *board.arguments, "--sudo") == (0 if lets else 2)
    if not lets:
        assert "sudo: a password is required. Let the user sudo" in errors(capfd)


# Accidents


@pytest.mark.parametrize("mode", ["drop", "power"])
def test_a_connection_that_is_lost_while_copying(board, built, capfd, mode):
    first = deployed(board, built, capfd)
    with board.serve(board.meddle(mode, 400_000)):
        assert run("deploy", built.path, *board.arguments) == 2
        text = errors(capfd)
        assert f"the connection was lost (copying {built.name}.bit)" in text
        assert board.current == first
        if mode == "drop":  # the board itself cleans up
            board.wait_until(lambda: board.folders == [first])
    if mode == "power":  # it had no time to
        assert len(board.folders) == 2
        assert any(".partial-" in name for name in board.folders)
        with board.serve():
            assert run("deploy", built.path, *board.arguments) == 0
        assert "removed what 1 interrupted deployment(s) had left" in capfd.readouterr().out
        assert board.folders == [board.current]


def test_a_byte_that_changes_on_the_way(board, built, capfd):
    with board.serve(board.meddle("flip", 400_000)):
        assert run("deploy", built.path, *board.arguments) == 2
    assert f"{built.name}.bit arrived damaged (checksum)" in errors(capfd)
    assert board.folders == []


def test_a_full_disk(board, built, capfd):
    first = deployed(board, built, capfd)
    with board.serve(largest_file=300_000):
        assert run("deploy", built.path, *board.arguments) == 2
    assert f"the board cannot store {built.name}.bit: File too large" in errors(capfd)
    assert board.current == first
    assert board.folders == [first]


def test_too_little_room(board, built, capfd, monkeypatch):
    monkeypatch.setattr(deploy, "ROOM", 1 << 60)
    with board.serve():
        assert run("deploy", built.path, *board.arguments) == 2
    assert "MB are needed. Make room there" in errors(capfd)
    assert board.folders == []


def started(board, built, *more):
    """A deployment in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "toolchain", "deploy", built.path, *map(str, [*board.arguments, *more])],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_ctrl_c_while_the_board_runs(board, built, capfd, tmp_path):
    first = deployed(board, built, capfd)
    mark = tmp_path / "mark"
    built.plan(sleep=50, mark=str(mark))
    with board.serve():
        process = started(board, built)
        board.wait_until(lambda: mark.is_file() and mark.read_text())
        process.send_signal(2)
        assert process.wait(20) == 130
        assert process.stderr.read() == ""
        assert board.current == first
        assert board.folders == [first]
        assert not alive(int(mark.read_text()))


def test_ctrl_c_while_nothing_moves(board, built, capfd):
    """The line is stuck in the middle of a file: the first Ctrl-C waits for the board, the second does not."""
    first = deployed(board, built, capfd)
    with board.serve(board.meddle("stall", 400_000)):
        process = started(board, built)
        board.wait_until(lambda: list(board.place.glob("*.partial-*/*.bit")))
        process.send_signal(2)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(2)
        assert process.wait(5) == 130
        assert process.stderr.read() == ""
        assert board.current == first
        board.wait_until(lambda: board.folders == [first])


def test_one_at_a_time(board, built, capfd):
    board.place.mkdir()
    with (board.place / ".lock").open("w") as lock:
        lock.write("4321")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with board.serve():
            assert run("deploy", built.path, *board.arguments) == 2
    assert "another deployment is under way on the board, process 4321" in errors(capfd)


def test_a_current_that_is_not_ours_stays(board, built, capfd):
    (board.place / "current/things").mkdir(parents=True)
    with board.serve():
        assert run("deploy", built.path, *board.arguments) == 2
    assert "current" in errors(capfd)
    assert (board.place / "current/things").is_dir()
    assert board.folders == []
