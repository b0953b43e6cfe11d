import pickle

import pytest

from toolchain import errors
from toolchain.errors import (
    BoardError,
    CalibrationError,
    ConfigurationError,
    InputError,
    MismatchError,
    ModelError,
    PassError,
    ToolchainError,
    ToolError,
    UnsafeModel,
    UnsupportedOperator,
)

EXIT_CODES = {
    ToolchainError: 2,
    ModelError: 2,
    UnsupportedOperator: 2,
    UnsafeModel: 2,
    ConfigurationError: 2,
    CalibrationError: 2,
    InputError: 2,
    PassError: 2,
    ToolError: 3,
    BoardError: 2,
    MismatchError: 1,
}


def test_every_class_has_its_exit_code_and_names_it():
    classes = {c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, Exception)}
    assert classes == set(EXIT_CODES)
    for kind, code in EXIT_CODES.items():
        assert kind.exit_code == code
        assert f"xit code {code}" in kind.__doc__
        assert issubclass(kind, ToolchainError)
    assert issubclass(UnsupportedOperator, ModelError)
    assert issubclass(UnsafeModel, ModelError)


@pytest.mark.parametrize(
    ("where", "fix", "text"),
    [
        (None, None, "no such thing"),
        ("conv1", None, "conv1: no such thing"),
        (None, "Take another.", "no such thing. Take another."),
        ("conv1", "Take another.", "conv1: no such thing. Take another."),
    ],
)
def test_text(where, fix, text):
    assert str(ConfigurationError("no such thing", where=where, fix=fix)) == text


def test_the_text_is_one_line_whatever_a_model_is_called():
    error = ModelError("bad\nname", where="a\r\nerror: forged", fix="x\ty")
    assert str(error) == "a error: forged: bad name. x y"


def test_mismatch_says_where_and_what():
    error = MismatchError("conv1", (0, 3, 5), -7, 9, seed=42, where="hls")
    assert str(error) == "hls: layer conv1 index [0, 3, 5]: expected -7, got 9 (seed 42)"
    assert (error.layer, error.index, error.expected, error.got, error.seed) == ("conv1", (0, 3, 5), -7, 9, 42)
    assert str(MismatchError("conv1", 4, 1, 2)) == "layer conv1 index [4]: expected 1, got 2"


@pytest.mark.parametrize("error", [ToolError("gone", where="vitis", fix="Install it."), MismatchError("a", 1, 2, 3, 4)])
def test_errors_cross_process_borders(error):
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.__dict__ == error.__dict__
