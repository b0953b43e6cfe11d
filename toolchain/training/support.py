"""Which coefficients stay: the support within a budget of bits and of multiplications."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolchain.ir import Array

MIXTURES = 21


@dataclass(frozen=True)
class Layer:
    """Coefficients in steps (any shape) and the mean squared gradient of the loss for each of them.

    Each nonzero one is multiplied at so many `pixels`; `mask` is 1 for those that are left, else 0.
    """

    coefficients: Array
    curvature: Array
    pixels: int
    mask: Array

    @property
    def nonzero(self) -> Array:
        """Which coefficients have a level that is not 0."""
        return np.asarray((np.floor(self.coefficients + 0.5) != 0) & (self.mask != 0))


def multiplications(layers: Sequence[Layer]) -> int:
    """Of one inference, with all nonzero levels of all layers."""
    return sum(int(layer.nonzero.sum()) * layer.pixels for layer in layers)


def nonzeros(layers: Sequence[Layer]) -> int:
    """Levels that are not 0."""
    return sum(int(layer.nonzero.sum()) for layer in layers)


def chosen(layers: Sequence[Layer], count: float, products: float) -> list[Array]:
    """Masks that keep at most `count` nonzero levels and `products` multiplications, at the least harm to the loss.

    Setting a coefficient c to 0 changes the loss by about c**2 E[g**2] / 2, g its gradient: the diagonal of the Fisher
    information stands for that of the Hessian (LeCun, Denker and Solla, *Optimal Brain Damage*, 1990, eq. 5; Theis et
    al., 2018). Kept is what has the most of it for its cost, a mixture of both budgets; of several mixtures the one
    that keeps the most is taken. What has the level 0 already costs nothing and stays free to grow.
    """
    worth = np.concatenate([(np.square(one.coefficients) * one.curvature)[one.nonzero] for one in layers])
    pixels = np.concatenate([np.full(int(one.nonzero.sum()), float(one.pixels)) for one in layers])
    best: tuple[float, Array] | None = None
    for share in np.linspace(0, 1, MIXTURES):
        cost = share / max(count, 1.0) + (1 - share) * pixels / max(products, 1.0)
        order = np.argsort(-worth / cost, kind="stable")
        fits = (np.arange(1, len(order) + 1) <= count) & (np.cumsum(pixels[order]) <= products)
        kept = order[: len(order) if fits.all() else int(np.argmin(fits))]
        total = float(worth[kept].sum())
        if best is None or total > best[0]:
            best = total, kept
    assert best is not None
    is_kept = np.zeros(len(worth), dtype=bool)
    is_kept[best[1]] = True
    masks, at = [], 0
    for layer in layers:
        size = int(layer.nonzero.sum())
        mask = layer.mask.copy()
        mask[layer.nonzero] = is_kept[at : at + size]
        masks.append(mask)
        at += size
    return masks
