"""Project folders: whole or not at all, never somebody else's, the same bytes every time, every damage noticed."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import toolchain.project
from tests.small import dense, listing, rows, run
from toolchain.compiler import compile_model
from toolchain.errors import ConfigurationError, ModelError
from toolchain.project import check_target, load, read_report, write_project

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    dense(folder / "net.onnx")
    np.save(folder / "x.npy", rows(12, 6))
    compile_model(folder / "net.onnx", folder / "project", calibrate=folder / "x.npy")
    return folder


@pytest.fixture
def project(made, tmp_path):
    shutil.copytree(made / "project", tmp_path / "project")
    return tmp_path / "project"


def files_of(made) -> dict[str, bytes]:
    found = listing(made / "project")
    return {name: content for name, content in found.items() if content is not None}


# Writing.


def test_write_into_nothing_and_into_an_empty_folder(made, tmp_path):
    files = files_of(made)
    write_project(tmp_path / "new", files)
    (tmp_path / "empty").mkdir()
    write_project(tmp_path / "empty", files)
    for name in ("new", "empty"):
        assert listing(tmp_path / name) == listing(made / "project")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "new"]


def test_a_project_is_replaced_only_with_force(made, project):
    files = files_of(made)
    (project / "hls/src/old.h").write_text("left over")
    with pytest.raises(ConfigurationError, match="--force"):
        write_project(project, files)
    assert (project / "hls/src/old.h").exists()
    write_project(project, files, force=True)
    assert listing(project) == listing(made / "project")
    assert [p.name for p in project.parent.iterdir()] == ["project"]


@pytest.mark.parametrize("content", ["", "{}", '{"format": "other"}', '{"format": "dct-toolchain', "[1]", "null"])
def test_a_foreign_folder_is_never_overwritten(made, tmp_path, content):
    """Not even one with a program.json, when it is not ours."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "program.json").write_text(content)
    (folder / "thesis.tex").write_text("years of work")
    before = listing(tmp_path)
    for force in (False, True):
        with pytest.raises(ConfigurationError, match="left alone"):
            check_target(folder, force)
        with pytest.raises(ConfigurationError, match="left alone"):
            write_project(folder, files_of(made), force)
        arguments = ["compile", made / "net.onnx", "--calibrate", made / "x.npy", "-o", folder]
        assert run(*arguments, *(["--force"] if force else [])) == 2
    assert listing(tmp_path) == before


def test_hidden_files_count(made, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/.git").mkdir()
    with pytest.raises(ConfigurationError, match="left alone"):
        write_project(tmp_path / "folder", files_of(made), force=True)


def test_links_and_files_are_no_targets(made, project, tmp_path):
    (tmp_path / "link").symlink_to(project)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    before = listing(tmp_path)
    for name in ("link", "dangling", "file"):
        with pytest.raises(ConfigurationError, match="no folder"):
            write_project(tmp_path / name, files_of(made), force=True)
    assert listing(tmp_path) == before


def test_odd_spellings_of_the_target(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_project(Path("./c/"), files_of(made))
    write_project(Path("x" * 250), files_of(made))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c", "x" * 250]


class Stop(BaseException):
    """As KeyboardInterrupt: no Exception."""


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), Stop(), MemoryError()])
@pytest.mark.parametrize("after", [0, 1, 7])
def test_an_error_while_writing_leaves_the_old_project(made, project, monkeypatch, error, after):
    before = listing(project.parent)
    counter = itertools.count()
    real = Path.write_bytes

    def write(self, data):
        if next(counter) == after:
            real(self, data[: len(data) // 2])
            raise error
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises((ConfigurationError, Stop, MemoryError)):
        write_project(project, files_of(made), force=True)
    monkeypatch.undo()
    assert listing(project.parent) == before


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), Stop()])
@pytest.mark.parametrize("at", [1, 2])
def test_an_error_while_renaming_leaves_the_old_project(made, project, monkeypatch, error, at):
    """The worst moment is between the two renames: the old project lies in the staging folder then."""
    before = listing(project.parent)
    counter = itertools.count(1)
    real = Path.rename

    def rename(self, target):
        if next(counter) == at:
            raise error
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises((ConfigurationError, Stop)):
        write_project(project, files_of(made), force=True)
    monkeypatch.undo()
    assert listing(project.parent) == before


SLOW = """
import sys, time
from pathlib import Path
import toolchain.codegen.project, toolchain.project
real = toolchain.codegen.project.write_files
def slow(root, files):
    real(root, {k: files[k] for k in sorted(files)[: len(files) // 2]})
    print("writing", flush=True)
    time.sleep(60)
toolchain.project.write_files = slow
from toolchain.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_a_signal_while_writing_leaves_the_old_project(made, project, sign):
    before = listing(project.parent)
    argv = [sys.executable, "-c", SLOW, "compile", made / "net.onnx", "--calibrate", made / "x.npy"]
    process = subprocess.Popen(
        [*map(str, argv), "--force", "-o", str(project)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    time.sleep(0.1)
    process.send_signal(sign)
    _, said = process.communicate(timeout=30)
    assert "Traceback" not in said
    left = listing(project.parent)
    if sign == signal.SIGINT:
        assert process.returncode == 130
        assert left == before
    else:
        # Nobody can clean up after SIGKILL. What is left has a name of its own and disturbs nothing.
        assert {k: v for k, v in left.items() if not k.startswith(".toolchain-")} == before
        load(project)
        arguments = ["compile", made / "net.onnx", "--calibrate", made / "x.npy", "-o", project, "--force"]
        assert run(*arguments) == 0


def test_two_at_once(made, tmp_path):
    """Two writers to one new folder: one project is there whole, whoever won."""
    argv = [sys.executable, "-m", "toolchain", "compile", made / "net.onnx", "--calibrate", made / "x.npy"]
    processes = [
        subprocess.Popen(
            [*map(str, argv), "-o", str(tmp_path / "p"), "--force"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for _ in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert {process.returncode for process in processes} <= {0, 2}
    assert any(process.returncode == 0 for process in processes)
    assert not any("Traceback" in text for text in said)
    assert listing(tmp_path / "p") == listing(made / "project")
    assert [p.name for p in tmp_path.iterdir()] == ["p"]


# The same bytes.


def test_same_bytes_everywhere(made, tmp_path):
    """Other folder, other hash seed, other locale, other time zone, other umask, other working folder."""
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(made / "net.onnx", tmp_path / "elsewhere/net.onnx")
    for seed, extra in (("1", {}), ("777", {"LC_ALL": "C", "TZ": "Asia/Tokyo", "OMP_NUM_THREADS": "1"})):
        target = tmp_path / f"p{seed}"
        argv = [sys.executable, "-m", "toolchain", "compile", "net.onnx", "--calibrate", str(made / "x.npy")]
        subprocess.run(
            [*argv, "-o", str(target)], cwd=tmp_path / "elsewhere", check=True, capture_output=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed, **extra},
        )  # fmt: skip
        assert listing(target) == listing(made / "project")


def test_no_paths_and_no_times(made):
    for name, content in files_of(made).items():
        text = content.decode(errors="replace")
        for word in (str(made), str(ROOT), "/tmp/", "/root/", os.uname().nodename):  # noqa: S108 - looked for, not used
            assert word not in text, (name, word)
        if not name.endswith((".h", ".dat")):
            assert not re.search(r"\b20\d\d-\d\d-\d\d|\b\d\d:\d\d:\d\d\b", text), name


def test_weights_breakdown_and_keys(made):
    report = json.loads((made / "project/report.json").read_text())
    assert sum(report["compression"]["breakdown"].values()) == 8 * (made / "project/weights.bin").stat().st_size
    for key in ("model", "board", "toolchain_version", "parameters", "macs", "multiplications", "hardware", "layers"):
        assert key in report


# Reading: every damage is noticed.


@pytest.mark.parametrize("name", ["program.json", "weights.bin", "report.json"])
def test_damaged_files(project, made, tmp_path, name, capsys):
    path = project / name
    whole = path.read_bytes()
    read = read_report if name == "report.json" else load
    step = max(1, len(whole) // 150)
    damaged = [whole[:end] for end in range(0, len(whole), step)]
    damaged += [
        whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :]
        for at in range(0, len(whole), step)
        for flip in (1, 128)
    ]
    damaged += [b"", b"{}", b"[]", b"null", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"1e999", whole * 2]
    for content in damaged:
        path.write_bytes(content)
        try:
            read(project)
        except ModelError:
            continue
        # White space, and the toolchain's version, are the only things that mean nothing.
        assert name == "program.json"
        differing = [k for k, (a, b) in enumerate(zip(whole, content, strict=True)) if a != b]
        start = whole.rindex(b"\n", 0, differing[0]) + 1 if b"\n" in whole[: differing[0]] else 0
        line = whole[start : whole.index(b"\n", start)]
        harmless = b'"toolchain"' in line or whole[differing[0] : differing[0] + 1].isspace()
        # load() does not read the report; read_report() compares the checksum that program.json holds of it.
        if not harmless:
            assert b"report" in whole[start - 20 : start + len(line)], line
            with pytest.raises(ModelError):
                read_report(project)
    verb = {"report.json": ["report", project]}.get(
        name, ["simulate", project, "--inputs", made / "x.npy", "-o", tmp_path / "y"]
    )
    path.write_bytes(whole[: len(whole) // 2])
    assert run(*verb) == 2
    path.unlink()
    assert run(*verb) == 2
    path.mkdir()
    assert run(*verb) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3
    assert not (tmp_path / "y").exists()


def reseal(project: Path, change) -> None:
    """Changes program.json and makes its checksums right again: what somebody who means harm would do."""
    import hashlib

    program = json.loads((project / "program.json").read_text())
    change(program)
    text = "\n".join(program["program"]) + "\n"
    program["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (project / "program.json").write_text(json.dumps(program))


def test_forged_programs(project):
    """Right checksums, wrong program: ModelError or another ToolchainError, never an exception of Python's."""
    from toolchain.errors import ToolchainError

    whole = (project / "program.json").read_text()
    lines = json.loads(whole)["program"]
    rng = np.random.default_rng(8)
    changes = [[*lines[:k], *lines[k + 1 :]] for k in range(len(lines))]
    changes += [[*lines[:k], lines[k], *lines[k:]] for k in range(len(lines))]
    changes += [[], ["program"], ["", ""], lines[::-1], [*lines, "input"], [*lines, '"']]
    for _ in range(300):
        copy = list(lines)
        k = int(rng.integers(len(copy)))
        at = int(rng.integers(len(copy[k])))
        if rng.integers(2):
            copy[k] = copy[k][:at] + str(rng.choice(list('0123456789-,[]{}"():<>abc'))) + copy[k][at + 1 :]
        else:
            copy[k] = re.sub(r"\d+", lambda m: str(rng.choice([m[0], 0, 1, 64, 1025, 2**63, -1])), copy[k])
        changes.append(copy)
    for changed in changes:
        (project / "program.json").write_text(whole)
        reseal(project, lambda program, changed=changed: program.update(program=changed))
        try:
            load(project).simulator("reference").predict_raw(rows(2, 6))
        except ToolchainError:
            continue


@pytest.mark.parametrize(
    ("key", "value"),
    [("version", 2), ("version", None), ("format", "x"), ("weights", []), ("weights", {}), ("sha256", 3),
     ("program", 3), ("program", [3]), ("program", {"a": 1}), ("weights", {"bytes": "12", "sha256": None})],
)  # fmt: skip
def test_wrong_keys(project, key, value):
    content = json.loads((project / "program.json").read_text())
    content[key] = value
    (project / "program.json").write_text(json.dumps(content))
    with pytest.raises(ModelError):
        load(project)
    del content[key]
    (project / "program.json").write_text(json.dumps(content))
    with pytest.raises(ModelError):
        load(project)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        *((text, 2) for text in ("", "[]", "null", '{"a": 1}', '{"a": "../../etc/passwd"}', "[" * 100_000, "cut")),
        *((text, 1) for text in ("{}", '{"first": "no_such"}')),  # a list of other layers is another program
    ],
)
def test_damaged_trace(project, made, content, code, capsys):
    path = project / "hls/trace.json"
    path.write_text(path.read_text()[:-9] if content == "cut" else content)
    assert run("verify", project, "--inputs", made / "x.npy") == code
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_project_is_frozen(made):
    project = load(made / "project")
    assert project.report["model"] == "net.onnx"
    assert toolchain.load(str(made / "project")).graph == project.graph
