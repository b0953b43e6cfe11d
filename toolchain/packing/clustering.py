"""Clusters: blocks that look alike share a common part, and only what is left of each is coded (CNNpack, second step).

Here they are a re-coding of levels that are chosen already: nothing is lost by it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from toolchain.errors import PassError
from toolchain.ir.constant import Array, Constant
from toolchain.ir.types import needed_width
from toolchain.packing.entropy import MAGNITUDE_BITS
from toolchain.packing.packed import Clusters, Coding

CENTRES = 16
"""The paper's K."""
ITERATIONS = 30
"""Of Lloyd's algorithm at most."""
FITTED = 1 << 13
"""Blocks that centres are fitted to; all of them are then assigned to the nearest."""
SMALLEST_BLOCK = 4
"""Coefficients of a block: with fewer, the number of a centre takes about as many bits as the levels."""
MOST_BLOCKS = 1 << 20
"""Blocks of a kernel, over all outputs. Beyond, it is not tried: only huge matrices have more, and it takes seconds."""


def k_means(vectors: Array, count: int, seed: int = 0) -> tuple[Array, Array]:
    """Centres (K, size) and the number of the nearest for each of the vectors (rows, size).

    Minimizes the sum of squared distances: Lloyd's algorithm (Lloyd, Least squares quantization in PCM, 1982; Wang et
    al., CNNpack, NIPS 2016, section 3), started by k-means++ (Arthur and Vassilvitskii, 2007, section 2.2). K is
    `count`, or the number of different vectors where there are fewer; every centre has a vector. The same arguments
    give the same result. Raises PassError without vectors or for a count below 1.
    """
    if vectors.ndim != 2 or not len(vectors) or count < 1:
        raise PassError(f"{count} centres for vectors of shape {vectors.shape} cannot be found")
    points = np.ascontiguousarray(vectors, dtype=np.float64)
    centres = _start(points, count, np.random.default_rng(seed))
    indices = np.full(len(points), -1)
    for _ in range(ITERATIONS):
        nearest, distances = _nearest(points, centres)
        _fill(nearest, distances, len(centres))
        if np.array_equal(nearest, indices):
            break
        indices = nearest
        members = np.bincount(indices, minlength=len(centres))
        sums = [np.bincount(indices, column, len(centres)) for column in points.T]
        centres = np.stack(sums, 1) / members[:, None]
    return centres, indices.astype(np.int64)


def _nearest(points: Array, centres: Array) -> tuple[Array, Array]:
    """The number of the centre nearest to each point, the first of equals, and the squared distance.

    As one matrix product, which is far faster than `scipy.cluster.vq`; for integers it is exact, ties included.
    """
    closeness = points @ centres.T - np.square(centres).sum(1) / 2
    nearest = closeness.argmax(1)
    return nearest, np.square(points).sum(1) - 2 * closeness[np.arange(len(points)), nearest]


def _start(points: Array, count: int, rng: np.random.Generator) -> Array:
    """Different points, each drawn with the probability of its squared distance to the nearest before it."""
    chosen = [int(rng.integers(len(points)))]
    distances = np.square(points - points[chosen[0]]).sum(1)
    while len(chosen) < count and distances.any():
        chosen.append(int(rng.choice(len(points), p=distances / distances.sum())))
        distances = np.minimum(distances, np.square(points - points[chosen[-1]]).sum(1))
    return points[chosen]


def _fill(indices: Array, distances: Array, count: int) -> None:
    """Gives every empty cluster the point that is farthest from its centre, of clusters with more than one."""
    members = np.bincount(indices, minlength=count)
    empty = np.flatnonzero(members == 0).tolist()
    for point in np.argsort(-distances, kind="stable") if empty else ():
        if members[indices[point]] > 1:
            members[indices[point]] -= 1
            indices[point] = empty.pop()
            members[indices[point]] += 1
            if not empty:
                break


def can_cluster(coding: Coding) -> bool:
    """Are its blocks long enough, not too many, and residuals sure to fit the container?"""
    blocks = coding.levels.array.size // coding.transform.size
    largest = int(np.abs(coding.coefficients).max(initial=0))
    return coding.transform.size >= SMALLEST_BLOCK and 0 < blocks <= MOST_BLOCKS and not 2 * largest >> MAGNITUDE_BITS


def clustered(coding: Coding, count: int = CENTRES, seed: int = 0) -> Coding:
    """The same coefficients as centres and residuals: levels = coefficients - centre, exactly.

    Centres are those of `k_means`, fitted to some of the blocks and rounded, without equal and unused ones. Raises
    PassError unless `can_cluster`.
    """
    if not can_cluster(coding):
        raise PassError(f"{coding.transform} of {coding.levels.shape} levels is not clustered")
    transform, coefficients = coding.transform, coding.coefficients
    blocks = transform.blocks(coefficients)
    vectors = np.ascontiguousarray(blocks.reshape(transform.size, -1).T, dtype=np.float64)
    fitted = vectors
    if len(vectors) > FITTED:
        fitted = vectors[np.random.default_rng(seed).choice(len(vectors), FITTED, replace=False)]
    centres = np.unique(np.rint(k_means(fitted, count, seed)[0]), axis=0)
    used, indices = np.unique(_nearest(vectors, centres)[0], return_inverse=True)
    centres = centres[used].astype(np.int64)
    indices = indices.reshape(blocks.shape[1:])
    common = transform.joined(centres[indices].transpose(2, 0, 1), len(coefficients))
    clusters = Clusters(Constant(centres), Constant(indices))
    return replace(coding, levels=Constant(coefficients - common), clusters=clusters)


def cluster_bits(clusters: Clusters) -> int:
    """Bits of centres and indices as `toolchain.packing.container` stores them, paddings left out."""
    centres = clusters.centres.array
    width, signed = needed_width(int(centres.min()), int(centres.max()))
    indices = clusters.indices.array.size * (len(centres) - 1).bit_length()
    return int(centres.size) * (width + (not signed)) + indices
