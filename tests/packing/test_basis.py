"""Bases and block transforms: what is promised about rows, and identities that hold in integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.fft import dct
from scipy.signal import correlate2d

from toolchain.errors import PassError
from toolchain.packing.basis import EXACT, LARGEST, SCALE, Transform, basis

COHERENCE = 0.12
"""Cosine between different rows of a longer basis, at most."""
sizes = st.integers(1, LARGEST)


@st.composite
def transformed_shapes(draw):
    """A transform of any kind, and taps, channels and outputs that suit it."""
    kind = draw(st.sampled_from(["none", "taps", "channels"]))
    rows, columns = (1, 1) if kind == "none" else (draw(sizes), draw(sizes))
    transform = Transform(kind, rows, columns)
    taps = transform.size if kind == "taps" else draw(st.integers(1, 9))
    channels = draw(st.integers(1, 4)) * (transform.size if kind == "channels" else 1)
    return transform, (taps, channels, draw(st.integers(1, 5)))


def integers(shape, seed=0, reach=1000):
    return np.random.default_rng(seed).integers(-reach, reach, shape, endpoint=True)


def cosines(size):
    """The orthonormal DCT-II, a basis vector a row."""
    return dct(np.eye(size), norm="ortho", axis=0)


def unit_rows(matrix):
    return matrix / np.sqrt(np.square(matrix).sum(1, keepdims=True))


def coding_gain(matrix, correlation=0.95):
    """In dB, of orthonormal rows on a first-order autoregressive source."""
    size = len(matrix)
    covariance = correlation ** np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    return -10 * np.log10(np.einsum("ui,ij,uj->u", matrix, covariance, matrix)).mean()


# Bases.


@pytest.mark.parametrize("size", EXACT)
def test_short_bases_have_orthogonal_rows(size):
    rows = basis(size)
    products = rows @ rows.T
    assert np.array_equal(products, np.diag(np.diag(products)))
    assert (np.diag(products) > 0).all()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_shortest_are_the_cosine_transform(size):
    """Up to a positive factor for each row."""
    assert np.abs(unit_rows(basis(size)) - cosines(size)).max() < 1e-15


@pytest.mark.parametrize("size", range(1, LARGEST + 1))
def test_rows_are_close_to_cosines(size):
    """Row u points where row u of the DCT-II does, first row constant, and has its symmetry."""
    rows = basis(size)
    assert np.array_equal(rows[0], np.ones(size))
    assert np.einsum("ux,ux->u", unit_rows(rows), cosines(size)).min() > 0.94
    signs = (-1) ** np.arange(size)
    assert np.array_equal(rows[:, ::-1], rows * signs[:, None])


def test_coding_gains():
    assert coding_gain(cosines(5)) - coding_gain(unit_rows(basis(5))) < 0.06
    assert coding_gain(cosines(4)) - coding_gain(unit_rows(basis(4))) < 0.06
    assert coding_gain(np.eye(5)) == 0  # the measure is no constant: without a transform nothing is gained
    assert coding_gain(cosines(5)) > 6


@pytest.mark.parametrize("size", range(6, LARGEST + 1))
def test_longer_bases_are_invertible_and_nearly_orthogonal(size):
    rows = basis(size)
    assert np.abs(rows).max() <= SCALE
    products = np.abs(unit_rows(rows) @ unit_rows(rows).T) - np.eye(size)
    assert 0 < products.max() < COHERENCE
    assert np.linalg.cond(unit_rows(rows)) < 1.15


@pytest.mark.parametrize("size", [-1, 0, LARGEST + 1])
def test_other_sizes_are_refused(size):
    with pytest.raises(PassError, match=f"size {size}"):
        basis(size)


@pytest.mark.parametrize("size", [3, 7])
def test_a_basis_cannot_be_changed(size):
    """It is cached: a change would reach everybody."""
    with pytest.raises(ValueError, match="read-only"):
        basis(size)[0, 0] = 2


# Transforms.


@given(transformed_shapes())
def test_blocks_and_joined_are_inverse(case):
    transform, shape = case
    weights = integers(shape)
    blocks = transform.blocks(weights)
    assert blocks.shape == (transform.size, shape[0] * shape[1] // transform.size, shape[2])
    assert np.array_equal(transform.joined(blocks, shape[0]), weights)


@given(transformed_shapes())
def test_the_inverse_is_the_combination_of_basis_kernels(case):
    transform, shape = case
    coefficients = integers(shape, 1)
    blocks = transform.blocks(coefficients)
    wanted = sum(transform.matrix[f][:, None, None] * blocks[f] for f in range(transform.size))
    weights = transform.inverse(coefficients)
    assert weights.dtype == np.int64
    assert np.array_equal(transform.blocks(weights), wanted)


@given(transformed_shapes())
def test_forward_finds_the_coefficients(case):
    transform, shape = case
    coefficients = integers(shape, 2)
    assert np.abs(transform.forward(transform.inverse(coefficients)) - coefficients).max() < 1e-6
    weights = np.random.default_rng(3).normal(size=shape)
    assert np.abs(transform.inverse(transform.forward(weights)) - weights).max() < 1e-9


@given(transformed_shapes())
def test_the_basis_stage_gives_the_same_sums(case):
    """x . w == Z . c, for every output and in integers."""
    transform, shape = case
    taps, channels, outputs = shape
    x, coefficients = integers((2, 3, taps * channels), 4), integers(shape, 5)
    z = transform.along(x, taps)
    assert z.shape == x.shape
    assert z.dtype == np.int64
    weights = transform.inverse(coefficients)
    assert np.array_equal(x @ weights.reshape(-1, outputs), z @ coefficients.reshape(-1, outputs))


@given(transformed_shapes())
def test_frequencies_of_the_entries(case):
    transform, shape = case
    taps, channels, outputs = shape
    frequency = transform.frequency(taps, channels)
    assert frequency.shape == (taps, channels)
    numbers = np.broadcast_to(
        np.arange(transform.size)[:, None, None], (transform.size, taps * channels // transform.size, outputs)
    )
    assert np.array_equal(np.broadcast_to(frequency[:, :, None], shape), transform.joined(numbers, taps))


@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (5, 5), (4, 2), (1, 7), (6, 3), (11, 1)])
def test_convolution_is_the_sum_over_basis_kernels(rows, columns):
    """conv(x, sum of c B) == sum of c conv(x, B), the convolutions by another library."""
    transform = Transform("taps", rows, columns)
    x, coefficients = integers((13, 14), 6), integers((rows * columns, 1, 1), 7, 50)
    kernel = transform.inverse(coefficients).reshape(rows, columns)
    parts = [
        c * correlate2d(x, matrix.reshape(rows, columns), "full")
        for c, matrix in zip(coefficients.ravel(), transform.matrix, strict=True)
    ]
    assert np.array_equal(correlate2d(x, kernel, "full"), sum(parts))


def test_the_frequency_number_is_row_major():
    """Frequency (u, v) = (0, 2) of 3x3 is constant down the rows and of second order along the columns."""
    assert np.array_equal(Transform("taps", 3, 3).matrix[2].reshape(3, 3), [[1, -2, 1]] * 3)
    assert np.array_equal(Transform("channels", 1, 4).matrix, basis(4))


@pytest.mark.parametrize(
    ("transform", "taps", "channels", "fits"),
    [
        (Transform(), 9, 5, True),
        (Transform("taps", 3, 3), 9, 5, True),
        (Transform("taps", 3, 3), 8, 9, False),
        (Transform("channels", 1, 4), 1, 8, True),
        (Transform("channels", 2, 2), 3, 8, True),
        (Transform("channels", 2, 2), 4, 6, False),
        (Transform("none", 1, 2), 2, 2, False),
    ],
)
def test_what_fits(transform, taps, channels, fits):
    assert transform.fits(taps, channels) is fits


@pytest.mark.parametrize(
    "fields", [("taps", 9, 0), ("taps", -3, -3), ("channels", 0, 1), ("taps", 1, LARGEST + 1), ("other", 3, 3)]
)
def test_impossible_transforms_are_refused(fields):
    with pytest.raises(PassError, match=f"{fields[1]} x {fields[2]} {fields[0]}"):
        Transform(*fields)
