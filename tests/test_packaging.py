"""The wheel is complete and works from an empty folder, far from the checkout."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from toolchain.version import __version__

ROOT = Path(__file__).resolve().parents[1]
PACKED = {"toolchain": "toolchain"} | {name: f"toolchain/{name}" for name in ("hls_templates", "c_templates", "boards")}


def run(*argv: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(a) for a in argv],
        cwd=cwd,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, f"{argv}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built without network from a copy in which files lie about that must not be packed."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, copy)
    for name in PACKED:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / name / ".env").write_text("SECRET=1\n")
        (copy / name / "stray.o").write_bytes(b"")
    (copy / "notes.txt").write_text("not for the wheel\n")
    target = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", target, copy, cwd=copy)
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder the wheel was installed into, without its dependencies: those of the running Python serve."""
    target = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", target, wheel, cwd=target)
    return target


@pytest.fixture
def toolchain(installed, tmp_path):
    """`toolchain ARGUMENTS` of the installed wheel, in an empty folder."""

    def call(*arguments: object) -> str:
        argv = (sys.executable, "-P", "-m", "toolchain", *arguments)
        return run(*argv, cwd=tmp_path, PYTHONPATH=str(installed), COLUMNS="200").stdout

    return call


def test_wheel_holds_every_file_and_nothing_else(wheel):
    expected = {
        f"{packed}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, packed in PACKED.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert archive.testzip() is None
    assert names == expected
    assert any(name.startswith("toolchain/hls_templates/") for name in names)
    assert "toolchain/py.typed" in names


def test_metadata(wheel):
    assert wheel.name == f"dct_toolchain-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        info = f"dct_toolchain-{__version__}.dist-info"
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        assert metadata["Version"] == __version__
        assert metadata["License-Expression"] == "Apache-2.0"
        assert metadata["Requires-Python"] == ">=3.11"
        assert "toolchain = toolchain.cli:main" in archive.read(f"{info}/entry_points.txt").decode()
        assert archive.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
        core = " ".join(r for r in metadata.get_all("Requires-Dist") if "extra ==" not in r)
    assert "da4ml" not in core  # LGPL
    assert "tensorflow" not in core
    assert "keras" not in core


def test_package_is_imported_from_the_wheel(installed, tmp_path):
    code = "import toolchain; print(toolchain.__file__)"
    place = run(sys.executable, "-P", "-c", code, cwd=tmp_path, PYTHONPATH=str(installed)).stdout.strip()
    assert Path(place).is_relative_to(installed)


def test_help_lists_the_commands(toolchain):
    text = toolchain("--help")
    for command in ("inspect", "compile", "simulate", "verify", "evaluate", "report", "boards"):
        assert command in text


def test_boards_are_in_the_wheel(toolchain):
    text = toolchain("boards")
    for board in ("pynq-z2", "zcu104", "u250"):
        assert board in text


@pytest.mark.csim
@pytest.mark.slow
def test_demo_from_an_empty_folder(installed, tmp_path):
    """`make demo` with the wheel: the HLS templates are found, the generated C++ compiles and agrees bit for bit."""
    argv = (sys.executable, "-P", ROOT / "examples/digits/demo.py", "-o", "out", "--verify", "2")
    text = run(*argv, cwd=tmp_path, PYTHONPATH=str(installed), COLUMNS="200").stdout
    (differing,) = re.findall(r"differing bits.* (\d+) ", text)
    (accuracy,) = re.findall(r"accuracy, integer.* ([\d.]+)%", text)
    assert int(differing) == 0
    assert float(accuracy) >= 98
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    assert (tmp_path / "out/project/hls/src").is_dir()
