"""Boards are data that validates; identifiers are legal C++, unique, and keep apart what is derived from them."""

import re
import tomllib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.hardware.designs import DESIGNS, design_of
from tests.small import Model, rows, run
from toolchain.compiler import compile_model
from toolchain.errors import BoardError, ModelError
from toolchain.hardware.board import Board, board_names, load_board
from toolchain.hardware.identifiers import RESERVED, Identifiers
from toolchain.resources import folder


@pytest.mark.parametrize("name", board_names())
def test_boards_validate(name):
    board = load_board(name)
    assert board.name == name
    assert re.fullmatch(r"x[\w-]+", board.part)
    assert 50 <= board.clock_mhz <= 500
    assert board.sources
    content = tomllib.loads((folder("boards") / f"{name}.toml").read_text())
    for change in ({"clock_mhz": 0}, {"flow": "quartus"}, {"family": "stratix"}, {"price": 5}, {"resources": {}}):
        with pytest.raises(ValidationError):
            Board.model_validate(content | change)


@pytest.mark.parametrize(
    ("name", "nearest"), [("zcu10", "zcu104"), ("PYNQ-Z2", "pynq-z2"), ("alveo-u55c", "u55c"), ("qqqq", "Known")]
)
def test_unknown_boards(name, nearest):
    with pytest.raises(BoardError, match=nearest):
        load_board(name)


@given(st.lists(st.text(max_size=60), max_size=20))
@settings(max_examples=200)
def test_identifiers_of_any_text(names):
    identifiers = Identifiers()
    made = [identifiers.make(name) for name in names]
    assert len({name.lower() for name in made}) == len(made)
    for name in made:
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*", name), name
        assert name.lower() not in RESERVED
        assert "__" not in name


@given(
    st.lists(
        st.sampled_from(["a", "a_config", "a_weights", "a_2", "a_2_config", "a_config_config", "A", "a b", "a_"]),
        max_size=12,
    )
)
def test_derived_identifiers_never_meet(names):
    identifiers = Identifiers()
    every: list[str] = []
    for position, name in enumerate(names):
        suffixes = ("_config", "_weights") if position % 2 else ()
        made = identifiers.make(name, *suffixes)
        every += [made + suffix for suffix in ("", *suffixes)]
    assert len({name.lower() for name in every}) == len(every)


@pytest.mark.parametrize(
    "word", ["int", "nullptr", "constexpr", "errno", "NULL", "DCT_HLS", "AP_RND", "ap_int", "module", "stdin", "EOF"]
)
def test_words_of_the_language_are_avoided(word):
    assert Identifiers().make(word) == f"n_{word}"


@pytest.mark.parametrize("name", DESIGNS)
def test_names_in_a_design_are_unique(tmp_path, name):
    network = design_of(DESIGNS[name](), tmp_path).network
    names = [network.name, *network.streams, *(p.name for p in network.processes)]
    names += [terminal.identifier for terminal in (*network.inputs, *network.outputs)]
    assert len({n.lower() for n in names}) == len(names)


def relu(path, *shape):
    m = Model()
    m.input("pictures", "N", *shape)
    m.output(m.add("Relu", "pictures", name="relu"))
    return m.save(path)


def test_more_dimensions_than_the_test_bench_walks_are_refused(tmp_path, capsys):
    path = relu(tmp_path / "m.onnx", 2, 1, 3, 2, 1, 2)
    with pytest.raises(ModelError, match="6 dimensions"):
        compile_model(path, tmp_path / "p", calibrate=rows(3, 2, 1, 3, 2, 1, 2))
    np.save(tmp_path / "x.npy", rows(3, 2, 1, 3, 2, 1, 2))
    assert run("compile", path, "-o", tmp_path / "p", "--calibrate", tmp_path / "x.npy") == 2
    assert "pictures" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()
    compile_model(relu(tmp_path / "five.onnx", 2, 1, 3, 2, 2), tmp_path / "p", calibrate=rows(3, 2, 1, 3, 2, 2))


def test_an_output_of_too_many_dimensions_is_refused(tmp_path):
    m = Model()
    m.input("x", "N", 8)
    m.output(m.add("Reshape", "x", m.integers(-1, 2, 1, 2, 1, 2, 1), name="spread"))
    with pytest.raises(ModelError, match="6 dimensions"):
        compile_model(m.save(tmp_path / "m.onnx"), tmp_path / "p", calibrate=rows(3, 8))
