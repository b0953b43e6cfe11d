"""Writes HGQ2's model files by hand, and says in numpy what its quantizers do: no HGQ2 is needed to test."""

import numpy as np

from tests.frontends.keras_files import keras3, layer, write_keras

RNG = np.random.default_rng(23)
ROUND = {
    "RND": lambda x: np.floor(x + 0.5),
    "RND_CONV": np.rint,
    "TRN": np.floor,
    "TRN_ZERO": np.trunc,
    "RND_ZERO": lambda x: np.sign(x) * -np.floor(-np.abs(x) + 0.5),
    "RND_MIN_INF": lambda x: -np.floor(-x + 0.5),
    "RND_INF": lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5),
}


def wanted(x, k, i, f, rounding="RND", overflow="WRAP"):
    """`quantizers/fixed_point` and `FixedPointQuantizerBase.call` in inference, word by word, in float64."""
    x, k, i, f = (np.asarray(v, dtype=np.float64) for v in (x, k, i, f))
    kept, i = k + i + f > 0, np.maximum(i, -f)
    if overflow != "WRAP":
        high = 2.0**i - 2.0**-f
        x = np.clip(x, -k * (high if overflow == "SAT_SYM" else 2.0**i), high)
    x = ROUND[rounding](x * 2.0**f) / 2.0**f
    if overflow == "WRAP":
        bias = k * 2.0 ** (i + k - 1)
        x = (x + bias) % 2.0 ** (i + k) - bias
    return np.where(kept, x, 0.0)


class Bits:
    """A quantizer: its configuration, its variables as the file has them, and what it does."""

    def __init__(self, k, i, f, kind="kif", rounding="RND", overflow="WRAP", *, weight=False, **settings):
        self.k, self.i, self.f = k, i, f
        self.kind, self.rounding, self.overflow = kind, rounding, overflow
        self.settings = {"homogeneous_axis": [] if weight else [0], "heterogeneous_axis": None, **settings}

    @property
    def conf(self):
        config = {
            "q_type": self.kind, "place": "datalane", "scaler": None, "affine": None, "qnoise_factor": None,
            "round_mode": self.rounding, "overflow_mode": self.overflow, "bw_mapper": None, "trainable": True,
            "k0": True, "i0": 2, "is_weight": False, "i_decay_speed": 0.01, **self.settings,
        }  # fmt: skip
        name = "QuantizerConfig"
        return {
            "class_name": name,
            "module": "hgq.quantizer.config",
            "config": config,
            "registered_name": f"hgq>{name}",
        }

    @property
    def variables(self):
        k, i, f = np.asarray(self.k, np.uint8), np.float32(self.i), np.float32(self.f)
        first = [f] if self.kind == "kif" else [i + f]
        if self.overflow == "WRAP":
            return [*first, k, i, np.float32(0.01)]
        return [i, f, k] if self.kind == "kif" else [i + f, i, k]

    def __call__(self, x):
        return wanted(x, self.k, self.i, self.f, self.rounding.removeprefix("S_"), self.overflow)


def some(shape, low, high):
    return RNG.integers(low, high + 1, shape)


def mixed(shape, **options):
    """Formats of every kind, elements of no bits among them."""
    return Bits(some(shape, 0, 1), some(shape, -1, 2), some(shape, 0, 5), **options)


def weight(shape):
    return Bits(np.ones(shape), some(shape, 0, 1), some(shape, -1, 6), "kbi", "RND", "SAT_SYM", weight=True)


def bias(size):
    return Bits(np.ones(size), np.full(size, 2), some(size, 2, 7), "kbi", weight=True)


def hgq(kind, name, calls=None, counters=True, **config):
    """One layer of HGQ2; quantizers stand for their configurations."""
    plain = {"enable_ebops": counters, "beta0": {}, "ebops_factor": 1.0, "enable_iq": True, "enable_oq": False}
    config = {**plain, "oq_conf": None, **config}
    told = {key: value.conf if isinstance(value, Bits) else value for key, value in config.items()}
    return layer(kind, name, calls, **told)


def as_hgq(config):
    """Keras 3's form, in which HGQ2's classes have modules of their own."""
    config = keras3(config)
    for member in config["config"]["layers"]:
        if member["class_name"].startswith("Q"):
            member |= {"module": "hgq.layers", "registered_name": f"hgq>{member['class_name']}"}
    return config


def counted(*arrays):
    return [*arrays, np.float32(1e-5), np.uint32(7)]


def stored(prefix, arrays, **quantizers):
    """The groups of one layer: its own tensors, and those of its quantizers below."""
    groups = {prefix: arrays}
    for place, one in quantizers.items():
        groups[f"{prefix}/{place.replace('__', '/')}/quantizer"] = one.variables
    return groups


def written(folder, config, groups):
    return write_keras(folder / "m.keras", as_hgq(config), groups)
