"""Shrinkage: small coefficients become 0 and the others move towards it (CNNpack's third step).

The compiler's own choice of zeros is `toolchain.packing.compensation.round_compensated`, which knows what each one
costs at the layer's outputs. This is the published step, for comparison with it.
"""

from __future__ import annotations

import numpy as np

from toolchain.errors import PassError
from toolchain.ir.constant import Array


def relative_threshold(coefficients: Array, strength: float) -> float:
    """The threshold of a layer: `strength` (the paper's lambda) times the root mean square of its coefficients.

    Raises PassError for a negative strength.
    """
    if not strength >= 0:
        raise PassError(f"a shrinkage of {strength} is not 0 or more")
    return strength * float(np.sqrt(np.square(coefficients, dtype=np.float64).mean())) if coefficients.size else 0.0


def soft_threshold(coefficients: Array, threshold: float) -> Array:
    """sign(c) max(|c| - threshold, 0), of any shape.

    The closed form of argmin over x of (x - c)^2 / 2 + threshold |x|: the proximal operator of the l1 norm (Donoho,
    De-noising by soft-thresholding, 1995; Wang et al., CNNpack, NIPS 2016, section 3, l1 shrinkage of the residuals,
    whose lambda is twice the threshold: it leaves out the 1 / 2). Raises PassError for a negative threshold.
    """
    if not threshold >= 0:
        raise PassError(f"a threshold of {threshold} is not 0 or more")
    return np.asarray(np.copysign(np.maximum(np.abs(coefficients) - threshold, 0), coefficients))
