"""The generated test bench's parts: what passes, and above all what must not pass."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.cpp import ap_types_path
from tests.hls_templates.harness import options, struct

pytestmark = pytest.mark.csim

SEED = 7
FRAMES, CHANNELS, HEIGHT, WIDTH, VECTOR = 3, 6, 2, 4, 4
PICTURE = {"OUT_0": 1, "OUT_1": 1, "OUT_2": HEIGHT, "OUT_3": WIDTH, "OUT_4": CHANNELS} | {
    "STRIDE_0": 0, "STRIDE_1": 0, "STRIDE_2": WIDTH, "STRIDE_3": 1, "STRIDE_4": HEIGHT * WIDTH,
    "COUNT": HEIGHT * WIDTH * 2, "LANES": 3, "LANE_BITS": 8, "element_t": "ap_uint<8>",
}  # fmt: skip
NUMBERS = {"OUT_0": 1, "OUT_1": 1, "OUT_2": 1, "OUT_3": 1, "OUT_4": VECTOR} | {
    "STRIDE_0": 0, "STRIDE_1": 0, "STRIDE_2": 0, "STRIDE_3": 0, "STRIDE_4": 1,
    "COUNT": 2, "LANES": 2, "LANE_BITS": 16, "element_t": "ap_int<6>",
}  # fmt: skip
PIXELS = CHANNELS * HEIGHT * WIDTH

# The network: it hands both tensors through. The environment plants a mistake in its last frame.
PROGRAM = f"""
#include "axis.h"
#include "testbench.h"
{struct("picture", PICTURE)}
{struct("numbers", NUMBERS)}
typedef ap_axis<24, 0, 0, 0> picture_beat;
typedef ap_axis<32, 0, 0, 0> numbers_beat;
static std::string mistake;

template <class C, class B>
void through(hls::stream<B>& in, hls::stream<B>& out) {{
    hls::stream<dct::word_t<typename C::element_t, C::LANES> > words;
    DCT_TRACE(words, typename C::element_t, C::LANES);
    dct::read_axis<C>(in, words);
    if (mistake == "starve") words.read();
    hls::stream<B> beats;
    dct::write_axis<C>(words, 0, 1, beats);
    while (!beats.empty()) {{
        B beat = beats.read();
        if (beat.keep.and_reduce() == 0 || beat.strb.and_reduce() == 0) std::exit(9);
        if (mistake == "value" && beat.last) beat.data ^= 1;
        if (mistake == "early" && beats.size() == 1) beat.last = 1;
        if (mistake == "never") beat.last = 0;
        if (mistake != "short" || !beat.last) out.write(beat);
        if (mistake == "long" && beat.last) out.write(beat);
    }}
}}

int main(int argc, char** argv) {{
    dct::testbench bench(argc, argv, {PIXELS + VECTOR}, {PIXELS + VECTOR});
    for (int frame = 0; frame < bench.frames(); ++frame) {{
        if (frame + 1 == bench.frames() && std::getenv("MISTAKE")) mistake = std::getenv("MISTAKE");
        hls::stream<picture_beat> picture_in, picture_out;
        hls::stream<numbers_beat> numbers_in, numbers_out;
        dct::send<picture>(bench.inputs(frame), picture_in);
        dct::send<numbers>(bench.inputs(frame) + {PIXELS}, numbers_in);
        through<picture>(picture_in, picture_out);
        through<numbers>(numbers_in, numbers_out);
        dct::receive<picture>(picture_out, bench.outputs(frame), bench, "conv", frame, true);
        dct::receive<numbers>(numbers_out, bench.outputs(frame) + {PIXELS}, bench, "dense", frame, true);
    }}
    return bench.finish();
}}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("testbench")
    (folder / "main.cpp").write_text(PROGRAM)
    command = ["g++", "-std=c++14", *options(), "-isystem", ap_types_path(), folder / "main.cpp", "-o", folder / "main"]
    subprocess.run(command, check=True)
    return folder / "main"


@pytest.fixture
def frames(tmp_path, monkeypatch):
    """A folder with good files; the values, a frame a row."""
    monkeypatch.chdir(tmp_path)
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    values = np.hstack([rng.integers(0, 256, (FRAMES, PIXELS)), rng.integers(-32, 32, (FRAMES, VECTOR))])
    Path("tb_data").mkdir()
    np.savetxt("tb_data/inputs.dat", values, fmt="%d")
    np.savetxt("tb_data/outputs.dat", values, fmt="%d")
    return values


def run(program, *arguments, mistake=""):
    environment = {**os.environ, "MISTAKE": mistake}
    return subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, check=False)


def test_passes(program, frames):
    done = run(program)
    assert (done.returncode, done.stdout) == (0, f"PASS frames={FRAMES} values={frames.size}\n")


def test_first_wrong_integer_is_named(program, frames):
    wrong = frames.copy()
    wrong[1, 5] += 1
    wrong[1, 9] += 1
    wrong[2, PIXELS + 3] += 1
    np.savetxt("wrong.dat", wrong, fmt="%d")
    done = run(program, "--outputs", "wrong.dat")
    assert done.returncode == 1
    assert done.stdout == f"FAIL layer=conv frame=1 index=5 expected={wrong[1, 5]} got={frames[1, 5]}\n"


def test_wrong_integer_of_the_second_output(program, frames):
    wrong = frames.copy()
    wrong[0, PIXELS + 3] = -7
    np.savetxt("wrong.dat", wrong, fmt="%d")
    done = run(program, "--outputs", "wrong.dat")
    assert done.returncode == 1
    assert done.stdout == f"FAIL layer=dense frame=0 index=3 expected=-7 got={frames[0, PIXELS + 3]}\n"


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("value", "FAIL layer=conv frame=2 index="),
        ("early", "FAIL layer=conv frame=2 beat=14 TLAST expected=0 got=1"),
        ("never", "FAIL layer=conv frame=2 beat=15 TLAST expected=1 got=0"),
        ("short", "FAIL layer=conv frame=2 beat=15 of 16 is missing"),
        ("long", "FAIL layer=conv frame=2 more beats than the frame has"),
        ("starve", "FAIL hls::stream: read from an empty stream after 16 words"),
    ],
)
def test_mistake_of_the_hardware_is_caught(program, frames, mistake, message):
    done = run(program, mistake=mistake)
    assert done.returncode == 1
    assert done.stdout.startswith(message)
    assert "PASS" not in done.stdout


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("inputs", "1 2 3", "3 values are no whole number of frames of 52"),
        ("inputs", "", "0 values are no whole number of frames of 52"),
        ("inputs", "1 2 x3", "value 3 is no integer: x3"),
        ("inputs", "1 2.5", "value 2 is no integer: 2.5"),
        ("inputs", "1 99999999999999999999", "value 2 is no integer: 99999999999999999999"),
        ("inputs", "1 \0 2", "holds a zero byte"),
        ("inputs", "256 " * 156, "input value 256 does not fit in 8 bits"),
        ("outputs", "1 " * 104, "104 values, expected 3 frames of 52"),
        ("outputs", "nan", "value 1 is no integer: nan"),
    ],
)
def test_faulty_file_is_refused(program, frames, file, text, message):
    Path("tb_data", f"{file}.dat").write_text(text)
    done = run(program)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


@pytest.mark.parametrize("arguments", [["--inputs", "no.dat"], ["--outputs", "."], ["--input", "a"], ["--dump"]])
def test_faulty_option_is_refused(program, frames, arguments):
    done = run(program, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


def test_dump_writes_what_came_out(program, frames):
    assert run(program, "--dump", "out.txt").returncode == 0
    np.testing.assert_array_equal(np.loadtxt("out.txt", dtype=int), frames.ravel())


def test_trace_holds_the_stream_of_all_frames_of_one_run(program, frames):
    Path("traces").mkdir()
    for _ in range(2):
        assert run(program, "--trace", "traces").returncode == 0
    pictures = frames[:, :PIXELS].reshape(FRAMES, CHANNELS, HEIGHT, WIDTH).transpose(0, 2, 3, 1).reshape(FRAMES, -1)
    expected = np.hstack([pictures, frames[:, PIXELS:]])  # both streams of the program are called `words`
    np.testing.assert_array_equal(np.fromfile("traces/words.bin", dtype="<i8"), expected.ravel())


def test_trace_into_a_missing_folder_is_an_error(program, frames):
    done = run(program, "--trace", "missing")
    assert done.returncode != 0
    assert "missing" in done.stdout + done.stderr
