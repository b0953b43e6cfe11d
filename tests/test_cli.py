"""The command line as a hostile user meets it: exit codes, one clear line, nothing left behind, never a traceback."""

import contextlib
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.small import Model, dense, listing, rows, run, two_ports
from toolchain import cli
from toolchain.compiler import compile_model

VERBS = ("inspect", "compile", "simulate", "verify", "evaluate", "report", "build", "boards")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a model, data, and a compiled project."""
    folder = tmp_path_factory.mktemp("cli")
    dense(folder / "net.onnx")
    np.save(folder / "x.npy", rows(12, 6))
    np.save(folder / "labels.npy", np.arange(12) % 3)
    compile_model(folder / "net.onnx", folder / "project", calibrate=folder / "x.npy")
    return folder


@pytest.fixture
def place(made, tmp_path):
    """A fresh copy, so that what a command leaves behind can be seen."""
    shutil.copytree(made, tmp_path / "w", symlinks=True)
    return tmp_path / "w"


def spawn(*arguments, cwd=None, **environment):
    """The command in a process of its own, as a user runs it."""
    argv = [sys.executable, "-m", "toolchain", *map(str, arguments)]
    root = str(Path(__file__).parents[1])
    return subprocess.run(
        argv, cwd=cwd, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": root, **environment},
    )  # fmt: skip


def refused(place, capsys, *arguments, code=2, without=()):
    """Runs a command that must fail, leave nothing, and say one line; returns that line."""
    before = listing(place)
    capsys.readouterr()
    assert run(*arguments) == code
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    lines = [line for line in said.err.splitlines() if line]
    assert len(lines) == 1, said.err
    assert lines[0].startswith("error: ")
    assert listing(place) == before
    for word in without:
        assert word not in lines[0]
    return lines[0]


# Processes: the exit codes that scripts rely on.


def test_process_exit_codes(place):
    done = spawn("simulate", "project", "--inputs", "x.npy", "-o", "y.npy", cwd=place)
    assert (done.returncode, done.stderr) == (0, "")
    assert np.load(place / "y.npy").shape == (12, 3)
    done = spawn("inspect", "missing.onnx", cwd=place)
    assert done.returncode == 2
    assert done.stderr == "error: missing.onnx: is no file\n"
    done = spawn("verify", "project", "--inputs", "x.npy", cwd=place, PATH="/nowhere")
    assert done.returncode == 3
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    done = spawn("--version")
    assert done.returncode == 0
    assert done.stdout.strip() == cli.__version__


def test_a_bug_is_no_difference_of_a_verification(capsys, monkeypatch):
    """Exit code 1 is what `verify` says about integers; an exception that nobody expected has a code of its own."""

    def broken(*_):
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("toolchain.report.tables.board_list", broken)
    with pytest.raises(SystemExit) as left:
        cli.main(["boards"])
    assert left.value.code == os.EX_SOFTWARE == 70
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "ZeroDivisionError: surprise" in said


def test_closed_pipe_is_no_traceback(place):
    argv = f"{sys.executable} -m toolchain report project --json | head -c 1"
    done = subprocess.run(
        ["bash", "-c", argv], cwd=place, capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb(verb, capsys):
    assert run(verb, "--help") == 0
    assert verb in capsys.readouterr().out


def test_help_and_no_arguments(capsys):
    assert run("--help") == 0
    assert all(verb in capsys.readouterr().out for verb in VERBS[:1])
    assert run() in (0, 2)
    said = capsys.readouterr()
    assert "Commands" in said.out + said.err


def test_keyboard_interrupt(place, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    before = listing(place)
    monkeypatch.setattr("toolchain.compiler.lower_packed", interrupted)
    assert run("compile", place / "net.onnx", "--calibrate", place / "x.npy", "-o", place / "p") == 130
    assert listing(place) == before
    assert "Traceback" not in capsys.readouterr().err


# The command line itself.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compil"], "compile"),
        (["inspect"], "MODEL"),
        (["compile", "net.onnx"], "output"),
        (["compile", "net.onnx", "-o", "p", "--weigth-bits", "8"], "--weight-bits"),
        (["compile", "net.onnx", "-o", "p", "--weight-bits", "eight"], "eight"),
        (["compile", "net.onnx", "-o", "p", "--weight-bits"], "--weight-bits"),
        (["simulate", "project", "-o", "y.npy"], "--inputs"),
        (["simulate", "project", "--inputs", "x.npy", "-o", "y.npy", "--threads", "0"], "--threads"),
        (["boards", "a", "b"], "b"),
        (["--no-such"], "--no-such"),
    ],
)
def test_wrong_command_lines(place, capsys, monkeypatch, arguments, said):
    monkeypatch.chdir(place)
    assert said in refused(place, capsys, *arguments)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--board", "zcu10"], "zcu104"),
        (["--board", "../boards/zcu104"], "unknown"),
        (["--board", ""], "zcu104"),
        (["--weight-bits", "1"], "weight_bits"),
        (["--weight-bits", "999999999999999999999"], "weight_bits"),
        (["--activation-bits", "25"], "activation_bits"),
        (["--activation-bits", "-8"], "activation_bits"),
        (["--pack", "zip"], "pack"),
        (["--execute", "quickly"], "execute"),
        (["--budget", "28"], "28x, 450000B or 300kMAC"),
        (["--budget", "-3x"], "28x, 450000B or 300kMAC"),
        (["--budget", "0x"], "28x, 450000B or 300kMAC"),
        (["--budget", "nanB"], "28x, 450000B or 300kMAC"),
        (["--budget", "28x", "--pack", "none"], "--pack none"),
        (["--budget", "10B"], "cannot be reached, the least that is possible is"),
        (["--target", "verilog"], "verilog"),
        (["--ram", "1000"], "--target embedded"),
        (["--target", "embedded", "--ram", "0"], "--ram"),
        (["--target", "embedded", "--ram", "1"], "the arena needs"),
        (["--clock", "0"], "--clock"),
        (["--clock", "nan"], "--clock"),
        (["--clock", "1e9"], "--clock"),
        (["--target-fps", "0"], "--target-fps"),
        (["--target-fps", "-1"], "--target-fps"),
        (["--target-fps", "nan"], "--target-fps"),
        (["--target-fps", "inf"], "--target-fps"),
        (["--config", "missing.toml"], "missing.toml"),
        (["--config", "."], "cannot be read"),
        (["--config", "x.npy"], "TOML"),
        (["--weights", "x.npy"], "Keras"),
        (["--input-shape", "x"], "NAME="),
        (["--input-shape", "x="], "NAME="),
        (["--input-shape", "=1,6"], "has no input"),
        (["--input-shape", "x=1,0"], "NAME="),
        (["--input-shape", "x=1,-6"], "NAME="),
        (["--input-shape", "x=1,6.5"], "NAME="),
        (["--input-shape", "x=1,7"], "dimension 1"),
        (["--input-shape", "x=1,6,1"], "dimensions"),
        (["--input-shape", "y=1,6"], "has no input"),
        (["--input-shape", f"x={2**70},6"], "input"),
        (["--input-shape", f"x=1,{2**70}"], "input"),
        (["--input-shape", "x=1,6", "--input-shape", "x=1,6"], "twice"),
        (["--calibrate", "missing.npy"], "missing.npy"),
        (["-o", "nowhere/p"], "does not exist"),
        (["-o", "net.onnx"], "no folder"),
        (["-o", "net.onnx/p"], ""),
        (["-o", "."], "other files"),
        (["-o", "project"], "--force"),
        (["-o", "a" * 300], ""),
        (["-o", "/proc/p"], ""),
        (["-o", ""], ""),
    ],
)
def test_refused_options(place, capsys, monkeypatch, options, said):
    monkeypatch.chdir(place)
    arguments = ["compile", "net.onnx", *options]
    if "--calibrate" not in options:
        arguments += ["--calibrate", "x.npy"]
    if "-o" not in options:
        arguments += ["-o", "p"]
    assert said in refused(place, capsys, *arguments, without=("Errno", "Exception"))


@pytest.mark.parametrize("fps", ["1e-300", "1e-9", "1e300"])
def test_extreme_rates_compile(place, monkeypatch, fps):
    monkeypatch.chdir(place)
    assert run("compile", "net.onnx", "--calibrate", "x.npy", "-o", "p", "--target-fps", fps) == 0


def test_free_batch_in_input_shape(place, monkeypatch):
    """The batch is free: any size for it compiles to the same program."""
    monkeypatch.chdir(place)
    for name, shape in (("p", "x=1,6"), ("q", "x=77,6")):
        assert run("compile", "net.onnx", "--calibrate", "x.npy", "-o", name, "--input-shape", shape) == 0
    assert listing(place / "p") == listing(place / "q")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[modell]\nweight_bits = 8", "'model'"),
        ("[model]\nweight_bit = 8", "'weight_bits'"),
        ("[model]\nboard = 'x'", "Known are"),
        ("model = 3", "table"),
        ("layers = 3", "table"),
        ("[layers]\nfirst = 3", "table"),
        ("[model]\nweight_bits = 'eight'", "weight_bits"),
        ("[model]\nweight_bits = 8.5", "weight_bits"),
        ("[model]\nweight_bits = true", "weight_bits"),
        ("[model]\npack = 'zip'", "pack"),
        ("[layers.first]\nwieght = 'fixed<8,3>'", "'weight'"),
        ("[layers.frist]\nweight = 'fixed<8,3>'", "'first'"),
        ("[layers.first]\nweight = 8", "weight"),
        ("[layers.first]\nweight = ['fixed<8,3>']", "weight"),
        ("[layers.first]\nweight = 'float'", "fixed<8,3,RND,SAT>"),
        ("[layers.first]\nweight = 'fixed<0,3>'", "width"),
        ("[layers.first]\nweight = 'fixed<33,3>'", "32"),
        ("[layers.first]\nweight = 'fixed<8,3,RND,CLIP>'", "CLIP"),
        ("[layers.first]\nweight = 'ufixed<8,3,RND,WRAP_SM>'", "WRAP_SM"),
        ("[layers.first]\nweight = 'fixed<8,3,RND,SAT,2>'", "fifth"),
        ("[layers.first]\nweight = 'fixed<8,99999>'", "step"),
        ("[layers.first]\noutput = 'fixed<1025,3>'", "1024"),
        ("[layers.first]\npe = 0", "pe"),
        ("[layers.first]\npe = 1.5", "pe"),
        ("[layers.first]\npe = true", "pe"),
        ("[layers.first]\npe = 4", "pe"),
        ("[layers.first]\nsimd = 1000000000000", "simd"),
        ("[layers.first]\npack = 'spatial'\nweight = 'fixed<8,3>'", "pack"),
        ("[layers.first]\nexecute = 'often'", "execute"),
        ("[layers.first", "TOML"),
        ("\x00", "TOML"),
    ],
)
def test_refused_configurations(place, capsys, text, said):
    (place / "c.toml").write_text(text)
    arguments = ["compile", place / "net.onnx", "--calibrate", place / "x.npy", "-o", place / "p"]
    assert said in refused(place, capsys, *arguments, "--config", place / "c.toml")


@pytest.mark.parametrize("what", ["weight", "input", "output", "accumulator"])
@pytest.mark.parametrize(
    "type",
    ["fixed<1,1>", "fixed<1024,1024>", "fixed<1024,2>", "fixed<16,-900>", "ufixed<16,900>", "fixed<65,8>",
     "fixed<64,64>", "fixed<32,-200>", "ufixed<8,0,RND,SAT_SYM>", "fixed<5,3,RND_CONV,WRAP_SM>"],
)  # fmt: skip
def test_extreme_formats_compile_or_are_refused(place, capsys, what, type):
    (place / "c.toml").write_text(f"[layers.first]\n{what} = '{type}'")
    before = listing(place)
    arguments = ["compile", place / "net.onnx", "--calibrate", place / "x.npy", "--config", place / "c.toml"]
    code = run(*arguments, "-o", place / "p")
    said = capsys.readouterr().err
    assert code in (0, 2), said
    if code:
        assert listing(place) == before
        assert len(said.splitlines()) == 1
    else:
        for engine in ("fast", "reference"):
            given = ["simulate", place / "p", "--inputs", place / "x.npy", "--engine", engine, "--raw"]
            assert run(*given, "-o", place / f"{engine}.npy") == 0
        assert np.array_equal(np.load(place / "fast.npy"), np.load(place / "reference.npy"))


def test_unicode_error_in_configuration(place, capsys):
    (place / "c.toml").write_bytes(b"[model]\n# \xff\xfe\n")
    arguments = ["compile", place / "net.onnx", "--calibrate", place / "x.npy", "-o", place / "p"]
    assert "c.toml" in refused(place, capsys, *arguments, "--config", place / "c.toml")


# Arrays.


class Evil:
    def __reduce__(self):
        return (os.system, ("touch pwned",))


def corrupt_zip(path, name="x.npy", content=b"", **changes):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    data = bytearray(path.read_bytes())
    for offset, value in changes.items():
        data[int(offset[1:])] ^= value
    path.write_bytes(bytes(data))
    return bytes(data)


def npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def bad_arrays(place):
    x = rows(4, 6)
    nan, infinite = x.copy(), x.copy()
    nan[2, 3], infinite[1, 0] = np.nan, -np.inf
    for name, array in {
        "nan": nan, "infinite": infinite, "narrow": x[:, :5], "flat": x.ravel(), "deep": x[..., None],
        "transposed": x.T, "none": x[:0], "scalar": np.float32(1), "complex": x.astype(complex),
        "text": np.full((4, 6), "a"), "dates": np.zeros((4, 6), "M8[s]"), "records": np.zeros((4, 6), "i4,f4"),
        "bytes": np.zeros((4, 6), "S3"), "void": np.zeros((4, 6), "V4"),
    }.items():  # fmt: skip
        np.save(place / f"{name}.npy", array)
    np.save(place / "pickled.npy", np.array([[Evil()] * 6] * 4, dtype=object), allow_pickle=True)
    (place / "pickle.npy").write_bytes(pickle.dumps(Evil()))
    np.savez(place / "pickled.npz", x=np.array([Evil()], dtype=object))
    np.savez(place / "names.npz", a=x, b=x)
    np.savez(place / "empty.npz")
    (place / "empty.npy").write_bytes(b"")
    (place / "short.npy").write_bytes((place / "x.npy").read_bytes()[:-5])
    (place / "head.npy").write_bytes((place / "x.npy").read_bytes()[:40])
    huge = npy(x).replace(b"(4, 6)", b"(%d, 6)" % 10**15)
    (place / "huge.npy").write_bytes(huge)
    (place / "negative.npy").write_bytes(npy(x).replace(b"(4, 6)", b"(-4, 6)"))
    (place / "code.npy").write_bytes(npy(x).replace(b"(4, 6)", b"(4+0,6)"))
    (place / "text.txt").write_text("1 2 3 4 5 6\n")
    (place / "folder.npy").mkdir()
    corrupt_zip(place / "member.npz", "x", b"no array")
    corrupt_zip(place / "member2.npz", "x.npy", b"no array")
    member = corrupt_zip(place / "method.npz", "x.npy", npy(x))
    (place / "method.npz").write_bytes(
        member.replace(b"PK\x01\x02\x14\x03\x14\0\0\0\x08", b"PK\x01\x02\x14\x03\x14\0\0\0\x63")
    )
    corrupt_zip(place / "crc.npz", "x.npy", npy(x), o60=0x01)
    corrupt_zip(place / "deflate.npz", "x.npy", npy(x), o40=0xFF, o41=0xFF)
    return sorted({p.name for p in place.iterdir()} - {"net.onnx", "x.npy", "labels.npy", "project"} | {"missing.npy"})


def test_every_bad_array_is_refused_by_every_verb(place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    for name in bad_arrays(place):
        line = refused(place, capsys, "compile", "net.onnx", "--calibrate", name, "-o", "p")
        assert "array" in line or name in line or "input" in line, (name, line)
        refused(place, capsys, "simulate", "project", "--inputs", name, "-o", "y.npy")
        refused(place, capsys, "verify", "project", "--inputs", name)
        refused(place, capsys, "evaluate", "project", "--inputs", name, "--labels", "labels.npy")
        refused(place, capsys, "evaluate", "project", "--inputs", "x.npy", "--labels", name)
    assert not (place / "pwned").exists()


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_damaged_array_files_are_never_a_traceback(tmp_path, kind):
    """Every byte of a header flipped, and every truncation: read or refused with InputError."""
    from toolchain.errors import InputError
    from toolchain.simulation.arrays import load_arrays

    x = rows(2, 3)
    data = npy(x)
    if kind == "npz":
        file = io.BytesIO()
        np.savez_compressed(file, x=x)
        data = file.getvalue()
    path = tmp_path / f"a.{kind}"
    damaged = [data[:end] for end in range(0, len(data), 3)]
    for at in range(len(data)):
        damaged += [data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :] for flip in (0x01, 0x20, 0x80)]
    for content in damaged:
        path.write_bytes(content)
        with contextlib.suppress(InputError):
            load_arrays(path, ["x"])


@pytest.mark.parametrize("kind", ["float16", "float64", "float128", "int8", "uint64", "bool", ">f4", ">i2"])
def test_number_types(place, capsys, monkeypatch, kind):
    """Any number type is read or refused; a big-endian file gives what the same numbers give otherwise."""
    monkeypatch.chdir(place)
    np.save("k.npy", (rows(4, 6) * 3).astype(kind))
    code = run("simulate", "project", "--inputs", "k.npy", "-o", "y.npy")
    assert code in (0, 2)
    assert (place / "y.npy").exists() == (code == 0)
    assert run("compile", "net.onnx", "--calibrate", "k.npy", "-o", "p") in (0, 2)


def test_wide_integers_are_refused_or_right(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    for number, values in enumerate(([2**63 - 1, -(2**63)], [2**53 + 1, 0])):
        np.save("k.npy", np.array([values * 3, values[::-1] * 3], dtype=np.int64))
        refused(place, capsys, "simulate", "project", "--inputs", "k.npy", "-o", "y.npy")
        code = run("compile", "net.onnx", "--calibrate", "k.npy", "-o", f"p{number}")
        assert code in (0, 2), capsys.readouterr().err
        if code == 0:
            given = ["simulate", f"p{number}", "--inputs", "k.npy", "--raw"]
            assert run(*given, "-o", "a.npy") == 0
            assert run(*given, "-o", "b.npy", "--engine", "reference") == 0
            assert np.array_equal(np.load("a.npy"), np.load("b.npy"))


# Simulate.


def test_simulate_and_its_files(place, monkeypatch):
    monkeypatch.chdir(place)
    assert run("simulate", "project", "--inputs", "x.npy", "-o", "y.npy") == 0
    assert run("simulate", "project", "--inputs", "x.npy", "-o", "r.npy", "--raw", "--trace", "t") == 0
    y, r = np.load("y.npy"), np.load("r.npy")
    assert (y.dtype, r.dtype) == (np.float64, np.int64)
    index = json.loads((place / "t/index.json").read_text())
    last = np.load(place / "t" / index[-1]["file"])
    assert np.array_equal(last, r)
    fraction = np.log2(r[r != 0] / y[r != 0])
    assert len(set(fraction)) == 1
    assert float(fraction[0]).is_integer()
    np.savez("one.npz", anything=rows(12, 6))
    assert run("simulate", "project", "--inputs", "one.npz", "-o", "z.npz") == 0
    assert np.array_equal(np.load("z.npz")["second"], y)


@pytest.mark.parametrize(
    "arguments",
    [
        ["-o", "nowhere/y.npy"], ["-o", "folder"], ["-o", "/proc/y.npy"], ["-o", "a" * 300], ["-o", "net.onnx/y"],
        ["-o", "y.npy", "--engine", "quick"], ["-o", "y.npy", "--trace", "project"], ["-o", "y.npy", "--trace",
        "x.npy"],
        ["-o", "y.npy", "--trace", "nowhere/t"], ["-o", "y.npy", "--trace", "/proc/t"], ["-o", "folder", "--trace",
        "t"],
    ],
)  # fmt: skip
def test_simulate_refuses_places(place, capsys, monkeypatch, arguments):
    monkeypatch.chdir(place)
    (place / "folder").mkdir()
    line = refused(place, capsys, "simulate", "project", "--inputs", "x.npy", *arguments)
    assert "Errno" not in line


@pytest.mark.parametrize("verb", ["simulate", "verify", "evaluate", "report", "build"])
def test_no_project(place, capsys, monkeypatch, verb):
    monkeypatch.chdir(place)
    (place / "empty").mkdir()
    more = {"simulate": ["--inputs", "x.npy", "-o", "y.npy"], "verify": ["--inputs", "x.npy"],
            "evaluate": ["--inputs", "x.npy", "--labels", "labels.npy"]}.get(verb, [])  # fmt: skip
    for name in ("missing", "empty", "net.onnx", "a" * 300):
        refused(place, capsys, verb, name, *more)


# Verify, evaluate, report, build, boards.


@pytest.mark.usefixtures("quick")
def test_verify_finds_a_changed_weight_and_says_both_numbers(place, capsys):
    path = place / "project/hls/src/constants.h"
    text = path.read_text()
    start = text.index("{", text.index("first")) + 1
    head, body = text[:start], text[start:]
    at = next(k for k, c in enumerate(body) if c in "123456")
    path.write_text(head + body[:at] + str(int(body[at]) + 1) + body[at + 1 :])
    line = refused(place, capsys, "verify", place / "project", "--inputs", place / "x.npy", code=1)
    assert "first" in line
    assert "expected" in line
    assert "got" in line


def test_verify_options_of_later_versions(place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    for options in (["--against", "embedded"], ["--against", "hls,rtl"], ["--against", "gpu"], ["--against", ""],
                    ["--machine", "cortex-m4"], ["--machine", "pdp11"], ["--trace"]):  # fmt: skip
        refused(place, capsys, "verify", "project", "--inputs", "x.npy", *options)


def test_missing_compiler_is_exit_3(place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("PATH", "/nowhere")
    assert "not installed" in refused(place, capsys, "verify", "project", "--inputs", "x.npy", code=3)
    for stage in ("csynth", "cosim", "ip", "bitstream"):
        assert "PATH" in refused(place, capsys, "build", "project", "--stage", stage, code=3)
    refused(place, capsys, "build", "project", "--stage", "csim", code=3)
    refused(place, capsys, "build", "project", "--stage", "everything")


def test_evaluate(place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    arguments = ["evaluate", "project", "--inputs", "x.npy", "--labels", "labels.npy", "--model", "net.onnx", "--json"]
    assert run(*arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["samples"] == 12
    assert result["agreement"] >= 0.9
    assert 0 <= result["integer_accuracy"] <= 1
    np.save("short.npy", np.arange(11))
    np.save("real.npy", np.arange(12.0))
    for labels in ("short.npy", "real.npy", "x.npy"):
        refused(place, capsys, "evaluate", "project", "--inputs", "x.npy", "--labels", labels)


def test_evaluate_with_another_model(place, capsys, monkeypatch):
    """The float model has to be the project's: other names or shapes are the user's mistake."""
    monkeypatch.chdir(place)
    two_ports(place / "other.onnx")
    m = Model()
    m.input("x", 1, 7)
    m.output(m.add("Gemm", "x", m.noise(7, 3)))
    m.save(place / "wide.onnx")
    m = Model()
    m.input("y", 1, 6)
    m.output(m.add("Gemm", "y", m.noise(6, 3)))
    m.save(place / "name.onnx")
    arguments = ["evaluate", "project", "--inputs", "x.npy", "--labels", "labels.npy"]
    for model in ("other.onnx", "wide.onnx", "name.onnx", "x.npy", "missing.onnx"):
        refused(place, capsys, *arguments, "--model", model)


def test_report(place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    assert run("report", "project") == 0
    assert "second" in capsys.readouterr().out
    assert run("report", "project", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content == json.loads((place / "project/report.json").read_text())
    assert sum(content["compression"]["breakdown"].values()) == 8 * (place / "project/weights.bin").stat().st_size
    assert content["multiplications"]["dense"] == 6 * 5 + 5 * 3
    assert run("report", "project", "--html", "r.html") == 0
    assert "second" in (place / "r.html").read_text()
    for target in ("nowhere/r.html", ".", "/proc/r.html"):
        refused(place, capsys, "report", "project", "--html", target)


def test_boards(capsys, tmp_path):
    assert run("boards") == 0
    assert "zcu104" in capsys.readouterr().out
    assert run("boards", "pynq-z2") == 0
    assert "220" in capsys.readouterr().out
    assert "pynq-z2" in refused(tmp_path, capsys, "boards", "pynqz2")
    for name in ("../zcu104", "", "a" * 5000, "zcu104.toml"):
        refused(tmp_path, capsys, "boards", name)


HOSTILE = [
    "[/red]", "[bold]", ":smile:", "\x1b[2J\x1b[31mred", "a\nb", "quote'\"`", "back\\slash", "$(id)", "{x}", "}{",
    "naïve ü 名前 \u202e", "%s%n", "*/", "//", "a" * 3000,
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_on_the_terminal(tmp_path, capsys, name):
    m = Model()
    m.input(name, 1, 4)
    layer = m.add("Gemm", name, m.noise(4, 3), name=name, out="out " + name)
    m.output(m.add("Relu", layer, name="relu " + name, out=name + " out"))
    path = m.save(tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", rows(4, 4))
    assert run("inspect", path) == 0
    assert run("compile", path, "--calibrate", tmp_path / "x.npy", "-o", tmp_path / "p") == 0
    assert run("report", tmp_path / "p") == 0
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    if len(name) < 20 and name.isprintable():
        assert name in said.out
    assert run("report", tmp_path / "p", "--html", tmp_path / "r.html") == 0
    assert run("simulate", tmp_path / "p", "--inputs", tmp_path / "x.npy", "-o", tmp_path / "y.npz") == 0
    assert run("simulate", tmp_path / "p", "--inputs", tmp_path / "p/report.json", "-o", tmp_path / "z") == 2
    m.nodes[0].op_type = "Atan"
    del m.nodes[0].input[1:]
    m.save(path)
    capsys.readouterr()
    assert run("inspect", path) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 2  # what is wrong, and a line for each operator
    assert "\x1b" not in said


@pytest.mark.parametrize("name", ["[bold]p", "[red]p", ":smile:", "-p", "p q", "名前", "a'b\"c", "$HOME"])
def test_hostile_file_names(place, capsys, monkeypatch, name):
    monkeypatch.chdir(place)
    (place / "net.onnx").rename(place / f"{name}.onnx")
    separator = ["--"] if name.startswith("-") else []
    assert run("compile", "--calibrate", "x.npy", "-o", f"./{name}", *separator, f"{name}.onnx") == 0
    assert name in capsys.readouterr().out
    assert run("report", f"./{name}") == 0
    assert run("report", f"./{name}/no") == 2
