"""The C++ kernels against numpy models that are obviously right, every integer and every loop iteration."""

from itertools import product
from math import prod

import numpy as np
import pytest

from tests.hls_templates.harness import Case, Stream, array, run_cases, weight_array
from toolchain.packing.basis import basis

pytestmark = pytest.mark.csim

SEED = 20240607
rng = np.random.default_rng(SEED)
FRAMES = 2  # a kernel that keeps something from one frame to the next must be caught
CASES: list[Case] = []


def int_type(width, signed=True):
    return f"ap_{'' if signed else 'u'}int<{width}>"


def int_range(width, signed=True):
    return (-(2 ** (width - 1)), 2 ** (width - 1)) if signed else (0, 2**width)


def random_values(shape, width, signed=True):
    low, high = int_range(width, signed)
    values = rng.integers(low, high, shape, dtype=np.int64)
    flat = values.reshape(-1)
    flat[: min(2, flat.size)] = [low, high - 1][: flat.size]  # the extremes are where things break
    return values


def wrap(values, width, signed=True):
    low, _ = int_range(width, signed)
    return (np.asarray(values) - low) % 2**width + low


def case(name, header, call, config, inputs, outputs, steps, constants=""):
    """Inputs and outputs are (type, lanes, values); the values have FRAMES in front."""
    streams = [[Stream(*stream) for stream in side] for side in (inputs, outputs)]
    CASES.append(Case(name, header, call, config, *streams, steps, FRAMES, constants))


def serial(prefix):
    return f"{prefix}_{sum(c.name.startswith(prefix + '_') for c in CASES)}"


# ---------------------------------------------------------------------------------------------- sliding window


def sliding_window(size, channels, lanes, kernel, stride=(1, 1), dilation=(1, 1), pads=(0, 0, 0, 0), **options):
    """pads: top, left, bottom, right."""
    width, signed = options.get("width", 8), options.get("signed", True)
    block, padding = options.get("block", channels), options.get("padding", 0)
    extent = [(kernel[i] - 1) * dilation[i] + 1 for i in range(2)]
    out = [(size[i] + pads[i] + pads[i + 2] - extent[i]) // stride[i] + 1 for i in range(2)]
    x = random_values((FRAMES, *size, channels), width, signed)
    padded = np.pad(x, ((0, 0), (pads[0], pads[2]), (pads[1], pads[3]), (0, 0)), constant_values=padding)
    expected = np.array(
        [
            padded[f, oy * stride[0] + ky * dilation[0], ox * stride[1] + kx * dilation[1], b : b + block]
            for f in range(FRAMES)
            for oy in range(out[0])
            for ox in range(out[1])
            for b in range(0, channels, block)
            for ky in range(kernel[0])
            for kx in range(kernel[1])
        ]
    )
    row, emitted = size[1] * channels // lanes, out[1] * channels // lanes * prod(kernel)
    loaded = [min(max(oy * stride[0] - pads[0] + extent[0], 0), size[0]) for oy in range(out[0])]
    steps = loaded[0] * row + out[0] * max(emitted, stride[0] * row) + (size[0] - loaded[-1]) * row
    config = {
        "HEIGHT": size[0], "WIDTH": size[1], "CHANNELS": channels, "LANES": lanes, "CHANNEL_BLOCK": block,
        "KERNEL_HEIGHT": kernel[0], "KERNEL_WIDTH": kernel[1], "STRIDE_HEIGHT": stride[0], "STRIDE_WIDTH": stride[1],
        "DILATION_HEIGHT": dilation[0], "DILATION_WIDTH": dilation[1], "PAD_TOP": pads[0], "PAD_LEFT": pads[1],
        "OUT_HEIGHT": out[0], "OUT_WIDTH": out[1], "PADDING": padding, "input_t": int_type(width, signed),
    }  # fmt: skip
    stream = int_type(width, signed), lanes
    case(
        serial("sliding_window"), "sliding_window.h", "dct::sliding_window<C>(in0, out0)", config,
        [(*stream, x)], [(*stream, expected)], steps,
    )  # fmt: skip


sliding_window((5, 6), 4, 1, (3, 3), pads=(1, 1, 1, 1))
sliding_window((5, 6), 4, 2, (3, 3), pads=(1, 1, 1, 1), padding=-128)
sliding_window((5, 6), 4, 4, (3, 3), block=4)
sliding_window((6, 5), 4, 2, (2, 3), block=2, pads=(1, 0, 0, 2), padding=7)
sliding_window((6, 5), 6, 1, (2, 2), block=2)
sliding_window((7, 7), 2, 2, (3, 3), stride=(2, 2), pads=(0, 1, 1, 0))
sliding_window((9, 8), 3, 3, (2, 2), stride=(3, 4))  # stride beyond the extent
sliding_window((11, 4), 2, 1, (1, 1), stride=(4, 3))
sliding_window((12, 3), 1, 1, (2, 1), stride=(5, 1), pads=(3, 0, 4, 0))
sliding_window((9, 9), 2, 2, (3, 3), dilation=(2, 3), pads=(2, 3, 2, 3))
sliding_window((7, 9), 2, 1, (3, 2), dilation=(3, 1), stride=(2, 2), pads=(1, 1, 0, 0), signed=False, padding=200)
sliding_window((1, 13), 2, 2, (1, 5), stride=(1, 2), pads=(0, 2, 0, 2))  # one-dimensional
sliding_window((13, 1), 2, 1, (4, 1), pads=(3, 0, 0, 0))
sliding_window((2, 3), 2, 2, (5, 5), pads=(4, 4, 4, 4), padding=-3)  # the kernel never lies inside
sliding_window((3, 2), 1, 1, (3, 3), stride=(2, 1), pads=(7, 2, 6, 2), padding=5)  # first rows see nothing
sliding_window((1, 1), 1, 1, (1, 1))
sliding_window((1, 1), 1, 1, (3, 3), pads=(1, 1, 1, 1))
sliding_window((4, 4), 40, 40, (2, 2), width=9, padding=-256)  # words of 360 bits
sliding_window((4, 3), 24, 12, (2, 2), width=7, block=12, signed=False, padding=127)  # of 84 bits


# ---------------------------------------------------------------------------------------------- weighted layers


def pairs(factor, common):
    """Do two products share a multiplier of 25 x 18 bits?"""
    (width, signed), (common_width, common_signed) = factor, common
    return int((signed or common_signed) and 2 * width + common_width < 25 and common_width + (not common_signed) <= 18)


def matrix_vector(pixels, groups, rows, columns, pe, simd, weight, **options):
    """weight: (width, signed)."""
    width, signed = options.get("input", (8, True))
    output = options.get("output", 40)
    x = random_values((FRAMES, pixels, groups, columns), width, signed)
    w = random_values((groups, rows, columns), *weight)
    bias = rng.integers(-(2**30), 2**30, (groups, rows))
    expected = wrap(np.einsum("fpgc,grc->fpgr", x, w) + bias, output)
    folds = w.reshape(groups, rows // pe, pe, columns // simd, simd).transpose(0, 1, 3, 2, 4).reshape(-1, pe * simd)
    config = {
        "PIXELS": pixels, "GROUPS": groups, "ROWS": rows, "COLUMNS": columns, "PE": pe, "SIMD": simd,
        "MULTIPLIER": options.get("multiplier", pairs(weight, (width, signed))),
        "input_t": int_type(width, signed), "weight_t": int_type(*weight), "output_t": int_type(output),
    }  # fmt: skip
    constants = weight_array(folds, weight[0]) + array("bias", bias, options.get("bias", "int"))
    case(
        serial("matrix_vector"), "matrix_vector.h", "dct::matrix_vector<C>(in0, weights, bias, out0)", config,
        [(int_type(width, signed), simd, x)], [(int_type(output), pe, expected)],
        pixels * groups * (rows // pe) * (columns // simd), constants,
    )  # fmt: skip


for kind in range(3):
    matrix_vector(3, 1, 9, 6, 3, 2, (8, True), multiplier=kind)
    matrix_vector(3, 2, 4, 6, 4, 3, (7, False), multiplier=kind)
for weight_width in range(1, 17):
    matrix_vector(2, 1, 4, 6, 2, 3, (weight_width, True))
for weight_width in (1, 5, 6, 8):
    matrix_vector(2, 2, 2, 6, 1, 6, (weight_width, False), input=(5, False))
matrix_vector(3, 1, 6, 8, 1, 1, (8, True))
matrix_vector(3, 1, 6, 8, 6, 8, (6, True))  # everything in one fold
matrix_vector(3, 1, 6, 8, 6, 1, (5, True))  # one row fold
matrix_vector(3, 1, 6, 8, 1, 8, (5, True))  # one column fold
matrix_vector(2, 3, 4, 5, 2, 5, (8, True), bias="long long")
matrix_vector(2, 4, 3, 4, 3, 2, (8, True), output=12)  # wraps
matrix_vector(1, 2, 4, 6, 2, 3, (32, True), input=(16, True), output=60)
matrix_vector(1, 1, 20, 48, 10, 48, (8, True), output=26)  # words of 384 and 260 bits


def depthwise(pixels, channels, lanes, taps, multiplier, weight, output=40):
    x = random_values((FRAMES, pixels, channels // lanes, taps, lanes), 8)
    w = random_values((channels // lanes, taps, lanes, multiplier), *weight)
    bias = rng.integers(-(2**20), 2**20, (channels // lanes, lanes, multiplier))
    expected = wrap(np.einsum("fpbtl,btlm->fpblm", x, w) + bias, output)
    config = {
        "PIXELS": pixels, "CHANNELS": channels, "LANES": lanes, "TAPS": taps, "MULTIPLIER": multiplier,
        "input_t": "ap_int<8>", "weight_t": int_type(*weight), "output_t": int_type(output),
    }  # fmt: skip
    constants = weight_array(w.reshape(-1, lanes * multiplier), weight[0]) + array("bias", bias, "int")
    case(
        serial("depthwise"), "depthwise.h", "dct::depthwise<C>(in0, weights, bias, out0)", config,
        [("ap_int<8>", lanes, x)], [(int_type(output), lanes * multiplier, expected)],
        pixels * (channels // lanes) * taps, constants,
    )  # fmt: skip


depthwise(4, 6, 1, 9, 1, (8, True))
depthwise(4, 6, 2, 9, 1, (6, True))
depthwise(3, 6, 6, 4, 2, (5, False))
depthwise(3, 4, 2, 1, 3, (8, True), output=13)
depthwise(2, 16, 16, 2, 1, (12, True), output=24)


# ---------------------------------------------------------------------------------------------- sparse unit and basis


def sparse(pixels, inputs, outputs, macs, group, simd, pe, **options):
    """Nonzeros in the order of the outputs, cut into `macs` pieces; what the schedule holds is written out by hand."""
    width, signed = options.get("input", (8, True))
    weight, output = options.get("weight", (6, True)), options.get("output", 40)
    x = random_values((FRAMES, pixels, inputs), width, signed)
    w = random_values((outputs, inputs), *weight) * (rng.random((outputs, inputs)) < options.get("density", 0.4))
    w[options.get("empty", [])] = 0
    bias = rng.integers(-(2**20), 2**20, outputs)
    entries = [(m, k, int(w[m, k])) for m in range(outputs) for k in (np.flatnonzero(w[m]).tolist() or [0])]
    steps = -(-len(entries) // macs)
    select_bits, address_bits = (simd - 1).bit_length(), (inputs // simd - 1).bit_length()
    schedule = np.zeros((steps, macs), dtype=object)
    partials, results = [], []
    for lane, start in enumerate(range(0, len(entries), steps)):
        piece = entries[start : start + steps]
        results.append(0)
        for at in range(steps):
            m, k, value = piece[at] if at < len(piece) else (None, 0, 0)
            following = [e[0] for e in entries[start + at + 1 : start + at + 2]]
            ends_lane = at == steps - 1
            last = ends_lane or (m is not None and following not in ([], [m]))  # zeros behind the last weight
            fields = (
                (k % simd, select_bits), (k // simd, address_bits), (value % 2 ** weight[0], weight[0]), (int(last), 1)
            )  # fmt: skip
            shift = 0
            for field, bits in fields:
                schedule[at, lane] += field << shift
                shift += bits
            if m is not None and (at == len(piece) - 1 or following != [m]):
                partials.append((following != [m]) + 2 * (at == len(piece) - 1))
                results[-1] += 1
    fill, emit, groups = group * inputs // simd, group * outputs // pe, pixels // group
    lengths = {0: fill, 1: steps, 2: len(partials), 3: emit}
    total = sum(max(n for late, n in lengths.items() if 0 <= r - late < groups) for r in range(groups + 3))
    per_chunk = 64 // shift
    rows = [
        [sum(e << (i * shift) for i, e in enumerate(row[c : c + per_chunk])) for c in range(0, macs, per_chunk)]
        for row in schedule.tolist()
    ]
    table = ", ".join("{" + ", ".join(f"{chunk}ULL" for chunk in row) + "}" for row in rows)
    config = {
        "PIXELS": pixels, "INPUTS": inputs, "OUTPUTS": outputs, "SIMD": simd, "PE": pe, "MACS": macs,
        "GROUP_PIXELS": group, "FILL": fill, "STEPS": steps, "PARTIALS": len(partials), "EMIT": emit,
        "DRAIN": max(len(partials), emit), "NONZEROS": len(entries), "FREQUENCY": 0, "RESULTS": max(results),
        "SELECT_BITS": select_bits, "ADDRESS_BITS": address_bits,
        "MULTIPLIER": options.get("multiplier", pairs((width, signed), weight)),
        "input_t": int_type(width, signed), "weight_t": int_type(*weight), "output_t": int_type(output),
    }  # fmt: skip
    constants = f"const unsigned long long schedule[{steps}][{len(rows[0])}] = {{{table}}};"
    constants += array("partials", partials, "unsigned char") + array("bias", bias, "int")
    case(
        serial("sparse"), "sparse_matrix_vector.h",
        "dct::sparse_matrix_vector<C>(in0, schedule, partials, bias, out0)", config,
        [(int_type(width, signed), simd, x)], [(int_type(output), pe, wrap(x @ w.T + bias, output))], total, constants,
    )  # fmt: skip


sparse(4, 12, 5, 1, 1, 1, 1)
sparse(6, 12, 6, 3, 2, 4, 2)
sparse(6, 12, 6, 4, 3, 3, 6, empty=[0, 5])
sparse(8, 20, 4, 16, 4, 5, 1)  # outputs lie over several lanes
sparse(1, 30, 7, 4, 1, 6, 7, weight=(12, True), input=(16, False))  # a single group
sparse(2, 9, 3, 2, 1, 9, 1)
sparse(8, 6, 4, 64, 8, 3, 4)  # more lanes than nonzeros
sparse(5, 8, 4, 3, 1, 2, 1, density=0)  # nothing but bias
sparse(4, 8, 6, 5, 2, 1, 3, density=1, output=12)  # wraps
sparse(16, 4, 16, 2, 4, 4, 1)  # emission binds
sparse(3, 40, 3, 7, 1, 40, 3, weight=(32, True), input=(16, True), output=60)
sparse(2, 1, 1, 1, 2, 1, 1)
for kind in range(3):
    sparse(10, 9, 6, 4, 5, 3, 3, multiplier=kind)


def responses(windows, rows, columns, shifts):
    """Basis responses of (..., rows * columns) values."""
    return (windows @ np.kron(basis(rows), basis(columns)).T) << np.array(shifts)


def response_types(rows, columns, shifts, width, signed):
    """Types of responses along columns, along both axes, and after the shifts, a bit to spare in each."""
    one, both = (int(np.abs(m).sum(axis=1).max()).bit_length() for m in (basis(rows), basis_of(rows, columns)))
    return {
        "input_t": int_type(width, signed), "column_t": int_type(width + one + 1), "sum_t": int_type(width + both + 1),
        "output_t": int_type(width + both + 1 + max(shifts)),
        "shifts_t": f"dct::shift_list<{', '.join(map(str, shifts))}>",
    }  # fmt: skip


def basis_of(rows, columns):
    return np.kron(basis(rows), basis(columns))


def basis_window(size, channels, lanes, kernel, stride=(1, 1), dilation=(1, 1), pads=(0, 0, 0, 0), **options):
    """pads: top, left, bottom, right."""
    width, signed = options.get("width", 8), options.get("signed", True)
    shifts = options.get("shifts") or rng.integers(0, 5, prod(kernel)).tolist()
    extent = [(kernel[i] - 1) * dilation[i] + 1 for i in range(2)]
    out = [(size[i] + pads[i] + pads[i + 2] - extent[i]) // stride[i] + 1 for i in range(2)]
    x = random_values((FRAMES, *size, channels), width, signed)
    padded = np.pad(x, ((0, 0), (pads[0], pads[2]), (pads[1], pads[3]), (0, 0)))
    windows = np.array(
        [
            [
                padded[f, oy * stride[0] + ky * dilation[0], ox * stride[1] + kx * dilation[1]]
                for ky in range(kernel[0])
                for kx in range(kernel[1])
            ]
            for f in range(FRAMES)
            for oy in range(out[0])
            for ox in range(out[1])
        ]
    )
    z = responses(windows.transpose(0, 2, 1), *kernel, shifts)  # (pixel, channel, frequency)
    expected = z.reshape(-1, channels // lanes, lanes, prod(kernel)).transpose(0, 1, 3, 2)
    row = size[1] * channels // lanes
    edge = extent[1] - 1 - pads[1]
    visited = (edge + (out[1] - 1) * stride[1] - min(edge, 0) + 1) * channels // lanes
    loaded = [min(max(oy * stride[0] - pads[0] + extent[0], 0), size[0]) for oy in range(out[0])]
    steps = loaded[0] * row + out[0] * max(visited, stride[0] * row) + (size[0] - loaded[-1]) * row
    config = {
        "HEIGHT": size[0], "WIDTH": size[1], "CHANNELS": channels, "LANES": lanes,
        "KERNEL_HEIGHT": kernel[0], "KERNEL_WIDTH": kernel[1], "STRIDE_HEIGHT": stride[0], "STRIDE_WIDTH": stride[1],
        "DILATION_HEIGHT": dilation[0], "DILATION_WIDTH": dilation[1], "PAD_TOP": pads[0], "PAD_LEFT": pads[1],
        "OUT_HEIGHT": out[0], "OUT_WIDTH": out[1], **response_types(*kernel, shifts, width, signed),
    }  # fmt: skip
    case(
        serial("basis_window"), "basis_window.h", "dct::basis_window<C>(in0, out0)", config,
        [(int_type(width, signed), lanes, x)], [(config["output_t"], lanes * prod(kernel), expected)], steps,
    )  # fmt: skip


basis_window((5, 6), 4, 1, (3, 3), pads=(1, 1, 1, 1))
basis_window((5, 6), 4, 4, (3, 3), pads=(1, 1, 1, 1), signed=False)
basis_window((7, 8), 2, 2, (3, 3), stride=(2, 2), pads=(0, 1, 1, 0))
basis_window((6, 5), 6, 3, (2, 2), width=5)
basis_window((6, 5), 3, 1, (3, 2), stride=(1, 2), pads=(2, 0, 0, 1))
basis_window((9, 9), 2, 2, (3, 3), dilation=(2, 3), pads=(2, 3, 2, 3))
basis_window((9, 8), 3, 3, (2, 2), stride=(3, 4))  # stride beyond the extent
basis_window((8, 7), 2, 1, (5, 5), pads=(2, 2, 2, 2))
basis_window((9, 8), 1, 1, (7, 7), stride=(1, 2), pads=(3, 3, 3, 3))
basis_window((4, 6), 2, 2, (4, 6))  # covers the picture
basis_window((4, 3), 2, 1, (1, 1), shifts=[3])
basis_window((1, 13), 2, 2, (1, 5), stride=(1, 2), pads=(0, 2, 0, 2))  # one-dimensional
basis_window((13, 1), 2, 1, (4, 1), pads=(3, 0, 0, 0))
basis_window((2, 3), 2, 2, (5, 5), pads=(4, 7, 4, 7))  # windows beside the picture
basis_window((12, 13), 1, 1, (11, 8), width=3)
basis_window((10, 11), 1, 1, (9, 10), width=4, stride=(1, 2), pads=(1, 1, 1, 1))


def basis_channels(count, lanes, rows, columns, width=8, signed=True):
    shifts = rng.integers(0, 4, rows * columns).tolist()
    x = random_values((FRAMES, count, lanes // (rows * columns), rows * columns), width, signed)
    config = {
        "COUNT": count, "LANES": lanes, "ROWS": rows, "COLUMNS": columns,
        **response_types(rows, columns, shifts, width, signed),
    }  # fmt: skip
    case(
        serial("basis_channels"), "basis_channels.h", "dct::basis_channels<C>(in0, out0)", config,
        [(int_type(width, signed), lanes, x)],
        [(config["output_t"], lanes, responses(x, rows, columns, shifts))], count,
    )  # fmt: skip


basis_channels(5, 4, 1, 4)
basis_channels(5, 12, 2, 2, signed=False)
basis_channels(4, 16, 4, 4, width=6)
basis_channels(3, 6, 6, 1)
basis_channels(3, 10, 2, 5)
basis_channels(3, 3, 1, 1)


def centre_responses(count, lanes, taps, centres, per_step, width=8, signed=True, centre_width=4):
    z = random_values((FRAMES, count, taps, lanes), width, signed)
    table = random_values((centres, taps), centre_width, True)
    sums = np.einsum("fntl,kt->fnkl", z, table)
    config = {
        "COUNT": count, "LANES": lanes, "TAPS": taps, "CENTRES": centres, "PER_STEP": per_step,
        "input_t": int_type(width, signed), "centre_t": f"ap_int<{centre_width}>",
        "output_t": f"ap_int<{width + centre_width + taps.bit_length()}>",
    }  # fmt: skip
    case(
        serial("centre_responses"), "centre_responses.h", "dct::centre_responses<C>(in0, weights, out0)", config,
        [(int_type(width, signed), taps * lanes, z)],
        [(config["output_t"], (taps + centres) * lanes, np.concatenate([z, sums], 2))],
        count * (centres // per_step), weight_array(table.reshape(centres // per_step, -1), centre_width),
    )  # fmt: skip


centre_responses(5, 1, 9, 4, 1)
centre_responses(5, 2, 9, 6, 3, signed=False)
centre_responses(4, 4, 4, 16, 16, width=6)
centre_responses(3, 1, 25, 1, 1, centre_width=13)


# ---------------------------------------------------------------------------------------------- requantize


def rounded(value, shift, mode):
    """value * 2^-shift on the integers, in Python's own arithmetic."""
    if shift <= 0:
        return value << -shift
    floor, rest, half = value >> shift, value & ((1 << shift) - 1), 1 << (shift - 1)
    tie_goes_up = {
        "AP_RND": True,
        "AP_RND_ZERO": value < 0,
        "AP_RND_MIN_INF": False,
        "AP_RND_INF": value >= 0,
        "AP_RND_CONV": floor % 2 == 1,
    }
    if mode == "AP_TRN":
        return floor
    if mode == "AP_TRN_ZERO":
        return floor + (value < 0 and rest > 0)
    return floor + (rest > half or (rest == half and tie_goes_up[mode]))


def overflowed(value, floor, width, signed, mode):
    """`floor` is the value before rounding: AP_WRAP_SM takes the sign from there."""
    low, high = int_range(width, signed)
    high -= 1
    if mode == "AP_SAT_SYM" and signed:
        low = -high
    if low <= value <= high:
        return value
    if mode in {"AP_SAT", "AP_SAT_SYM"}:
        return min(max(value, low), high)
    if mode == "AP_SAT_ZERO":
        return 0
    wrapped = int(wrap(value, width, signed))
    if mode == "AP_WRAP_SM" and (floor >> width & 1) != (wrapped >> (width - 1) & 1):
        wrapped = ~wrapped  # the lowest bit that was cut off becomes the sign
    return wrapped


ROUNDINGS = ["AP_TRN", "AP_TRN_ZERO", "AP_RND", "AP_RND_ZERO", "AP_RND_MIN_INF", "AP_RND_INF", "AP_RND_CONV"]
OVERFLOWS = ["AP_WRAP", "AP_SAT", "AP_SAT_ZERO", "AP_SAT_SYM", "AP_WRAP_SM"]


def requantize(source, target, shift, rounding, overflow, lanes=4, left=None, x=None):
    """source, target: (width, signed); left: shifts of PERIOD * lanes channels."""
    period = 1 if left is None else len(left) // lanes
    if x is None:
        x = random_values((FRAMES, 8 * period * lanes), *source)
    lefts = np.resize([0] if left is None else left, x.shape[1])
    exact = [
        overflowed(rounded(v, shift, rounding), rounded(v, shift, "AP_TRN"), *target, overflow)
        for frame in x
        for v in (int(value) << int(left) for value, left in zip(frame, lefts, strict=True))
    ]
    fixed = f"ap_{'' if target[1] else 'u'}fixed<{target[0]}, {target[0]}, {rounding}, {overflow}>"
    config = {
        "COUNT": x.shape[1] // lanes, "LANES": lanes, "SHIFT": shift, "PERIOD": period,
        "LEFT_MAX": 0 if left is None else int(max(left)),
        "input_t": int_type(*source), "output_t": int_type(*target), "fixed_t": fixed,
    }  # fmt: skip
    argument = "" if left is None else "left, "
    constants = "" if left is None else array("left", left, "unsigned char")
    case(
        serial("requantize"), "ops/requantize.h", f"dct::requantize<C>(in0, {argument}out0)", config,
        [(config["input_t"], lanes, x)], [(config["output_t"], lanes, np.array(exact))],
        x.shape[1] // lanes, constants,
    )  # fmt: skip


EVERY_7_BITS = np.resize(np.arange(-64, 64), (FRAMES, 128))
for q, o in product(ROUNDINGS, OVERFLOWS):
    requantize((7, True), (3, True), 2, q, o, x=EVERY_7_BITS)
for q in ROUNDINGS:  # all the rest, one dimension at a time
    requantize((7, False), (3, False), 3, q, "AP_SAT", x=EVERY_7_BITS + 64)
    requantize((7, True), (4, False), 2, q, "AP_SAT", x=EVERY_7_BITS)
    requantize((7, True), (3, True), 7, q, "AP_SAT", x=EVERY_7_BITS)  # only the sign is left, or less
    requantize((7, True), (3, True), 9, q, "AP_SAT", x=EVERY_7_BITS)
    requantize((24, True), (8, True), 9, q, "AP_SAT", left=[0, 1, 2, 3, 3, 0, 1, 0])
for o in OVERFLOWS:
    requantize((7, True), (5, True), -3, "AP_RND", o, x=EVERY_7_BITS)
    requantize((7, True), (7, True), 0, "AP_RND", o, x=EVERY_7_BITS)
    if o != "AP_WRAP_SM":  # the vendor refuses it for unsigned numbers
        requantize((7, True), (4, False), 1, "AP_RND", o, x=EVERY_7_BITS)
requantize((16, False), (9, True), 8, "AP_RND_CONV", "AP_SAT", lanes=1, left=[5, 0, 1])
requantize((40, True), (8, True), 24, "AP_RND", "AP_SAT", lanes=16)  # words of 640 bits
requantize((60, True), (12, True), 50, "AP_RND", "AP_SAT", lanes=2, left=[7, 0, 3, 1])  # 67 bits inside
requantize((8, True), (20, True), -9, "AP_TRN", "AP_WRAP", lanes=2, left=[2, 0])


# ---------------------------------------------------------------------------------------------- element by element


def add(a, b, lefts, subtract, output, lanes=3, words=6):
    x, y = (random_values((FRAMES, words * lanes), *t) for t in (a, b))
    expected = (x << lefts[0]) + (-1 if subtract else 1) * (y << lefts[1])
    config = {
        "COUNT": words, "LANES": lanes, "a_t": int_type(*a), "b_t": int_type(*b), "output_t": int_type(*output),
        "LEFT_A": lefts[0], "LEFT_B": lefts[1], "SUBTRACT": int(subtract),
    }  # fmt: skip
    case(
        serial("add"), "ops/add.h", "dct::add<C>(in0, in1, out0)", config,
        [(int_type(*a), lanes, x), (int_type(*b), lanes, y)], [(int_type(*output), lanes, expected)], words,
    )  # fmt: skip


add((8, True), (8, True), (0, 0), False, (9, True))
add((8, True), (6, False), (0, 3), True, (11, True))
add((4, False), (8, False), (5, 0), False, (10, False))
add((16, True), (16, True), (4, 0), False, (21, True), lanes=16)
add((8, False), (8, False), (0, 0), True, (9, True), lanes=1)


def table(source, target, lanes, type):
    x = np.concatenate([np.arange(*int_range(*source))] * FRAMES)
    entries = random_values(2 ** source[0], *target)
    config = {
        "COUNT": x.size // FRAMES // lanes, "LANES": lanes, "SIZE": entries.size,
        "input_t": int_type(*source), "output_t": int_type(*target),
    }  # fmt: skip
    case(
        serial("table"), "ops/table.h", "dct::table<C>(in0, entries, out0)", config,
        [(int_type(*source), lanes, x)], [(int_type(*target), lanes, entries[x % entries.size])],
        config["COUNT"], array("entries", entries, type),
    )  # fmt: skip


table((6, True), (8, True), 1, "int")
table((6, False), (16, False), 8, "int")
table((5, True), (40, True), 4, "long long")


def prelu(period, lanes, fraction, width, signed=True):
    x = random_values((FRAMES, 4, period * lanes), width, signed)
    slopes = rng.integers(-(2**fraction), 2**fraction, period * lanes)
    expected = np.where(x >= 0, x << fraction, x * slopes)
    output = width + fraction + 1
    config = {
        "COUNT": 4 * period, "LANES": lanes, "PERIOD": period, "FRACTION": fraction,
        "input_t": int_type(width, signed), "output_t": int_type(output),
    }  # fmt: skip
    case(
        serial("prelu"), "ops/prelu.h", "dct::prelu<C>(in0, slopes, out0)", config,
        [(int_type(width, signed), lanes, x)], [(int_type(output), lanes, expected)], 4 * period,
        array("slopes", slopes, "int"),
    )  # fmt: skip


prelu(1, 1, 8, 8)
prelu(3, 2, 5, 8)
prelu(2, 9, 7, 12)
prelu(2, 2, 4, 6, signed=False)


def affine(period, lanes, width, scale, output):
    x = random_values((FRAMES, 4, period * lanes), width)
    scales, offsets = random_values(period * lanes, *scale), random_values(period * lanes, 20)
    config = {
        "COUNT": 4 * period, "LANES": lanes, "PERIOD": period,
        "input_t": int_type(width), "scale_t": int_type(*scale), "output_t": int_type(output),
    }  # fmt: skip
    case(
        serial("affine"), "ops/affine.h", "dct::affine<C>(in0, scale, offset, out0)", config,
        [(int_type(width), lanes, x)], [(int_type(output), lanes, wrap(x * scales + offsets, output))], 4 * period,
        array("scale", scales, "int") + array("offset", offsets),
    )  # fmt: skip


affine(1, 1, 8, (8, True), 22)
affine(3, 2, 8, (7, False), 22)
affine(2, 8, 12, (9, True), 24)


def clip(source, target, bounds, lanes):
    """A bound None is one that no value passes."""
    x = random_values((FRAMES, 8 * lanes), *source)
    config = {
        "COUNT": 8, "LANES": lanes, "LOW": bounds[0] or 0, "HIGH": bounds[1] or 0,
        "CLIPS_LOW": int(bounds[0] is not None), "CLIPS_HIGH": int(bounds[1] is not None),
        "input_t": int_type(*source), "output_t": int_type(*target),
    }  # fmt: skip
    case(
        serial("clip"), "ops/clip.h", "dct::clip<C>(in0, out0)", config,
        [(int_type(*source), lanes, x)], [(int_type(*target), lanes, np.clip(x, *bounds))], 8,
    )  # fmt: skip


clip((8, True), (6, False), (0, 60), 4)
clip((8, True), (8, True), (-100, None), 1)
clip((8, False), (8, False), (None, 96), 3)
clip((8, False), (10, False), (1000, 1000), 2)  # all values lie below
clip((8, False), (4, True), (-7, -7), 2)  # all values lie above
clip((40, True), (40, True), (-(2**35), 2**34), 2)
clip((64, True), (64, True), (-(2**62), 2**62 + 5), 2)
clip((64, True), (63, False), (0, None), 1)
clip((63, False), (62, False), (3, 2**61), 1)


# ---------------------------------------------------------------------------------------------- pooling


def max_pool(count, taps, lanes, width, signed=True):
    x = random_values((FRAMES, count, taps, lanes), width, signed)
    stream = int_type(width, signed), lanes
    config = {"COUNT": count, "TAPS": taps, "LANES": lanes, "input_t": stream[0]}
    case(
        serial("max_pool"), "ops/max_pool.h", "dct::max_pool<C>(in0, out0)", config,
        [(*stream, x)], [(*stream, x.max(axis=2))], count * taps,
    )  # fmt: skip


max_pool(5, 4, 1, 8)
max_pool(5, 9, 3, 8, signed=False)
max_pool(3, 1, 2, 5)
max_pool(3, 4, 40, 8)


def global_pool(pixels, channels, lanes, width, signed=True):
    x = random_values((FRAMES, pixels, channels), width, signed)
    stream = int_type(width, signed), lanes
    config = {"PIXELS": pixels, "CHANNELS": channels, "LANES": lanes, "input_t": stream[0]}
    steps = pixels * channels // lanes
    case(
        serial("global_max_pool"), "ops/max_pool.h", "dct::global_max_pool<C>(in0, out0)", config,
        [(*stream, x)], [(*stream, x.max(axis=1))], steps,
    )  # fmt: skip
    multiplier, shift = reciprocal(pixels)
    sum_width = width + pixels.bit_length()
    config |= {
        "sum_t": int_type(sum_width, signed), "output_t": stream[0], "product_t": int_type(sum_width + 24),
        "ROUND_SHIFT": shift, "ROUND": 1 << (shift - 1), "POSITIONS": 1,
    }  # fmt: skip
    expected = (x.sum(axis=1) * multiplier + 2 ** (shift - 1)) >> shift
    case(
        serial("global_average_pool"), "ops/average_pool.h", "dct::global_average_pool<C>(in0, multipliers, out0)",
        config, [(*stream, x)], [(*stream, expected)], steps, array("multipliers", [multiplier]),
    )  # fmt: skip


def reciprocal(n, shift=20):
    return round(2**shift / n), shift


global_pool(7, 6, 1, 8)
global_pool(6, 6, 3, 8)
global_pool(5, 6, 6, 8, signed=False)
global_pool(1, 4, 2, 6)
global_pool(49, 20, 20, 8)


def average_pool(pixels, channels, lanes, taps, positions, signed=True):
    x = random_values((FRAMES, pixels, channels // lanes, taps, lanes), 8, signed)
    multipliers = np.array([reciprocal(taps - i % 2)[0] for i in range(positions)])
    scaled = x.sum(axis=3) * np.resize(multipliers, pixels)[None, :, None, None]
    config = {
        "PIXELS": pixels, "CHANNELS": channels, "LANES": lanes, "TAPS": taps, "POSITIONS": positions,
        "ROUND_SHIFT": 20, "ROUND": 2**19 + 2**15,
        "input_t": int_type(8, signed), "sum_t": int_type(16, signed), "product_t": "ap_int<44>",
        "output_t": int_type(9, signed),
    }  # fmt: skip
    case(
        serial("average_pool"), "ops/average_pool.h", "dct::average_pool<C>(in0, multipliers, out0)", config,
        [(int_type(8, signed), lanes, x)], [(int_type(9, signed), lanes, (scaled + 2**19 + 2**15) >> 20)],
        pixels * channels // lanes * taps, array("multipliers", multipliers),
    )  # fmt: skip


average_pool(6, 4, 1, 4, 1)
average_pool(6, 4, 2, 9, 6)
average_pool(3, 12, 12, 9, 3, signed=False)


# ---------------------------------------------------------------------------------------------- softmax


def softmax(pixels, channels, lanes, width, index_shift, size, fraction, output, signed=True):
    x = random_values((FRAMES, pixels, channels), width, signed)
    x[:, -1, :] = x[:, -1, :1]  # all equal
    table = np.array([round(1000 * np.exp(-i / 8)) for i in range(size)])
    distance = x.max(axis=-1, keepdims=True) - x
    half = 2 ** (index_shift - 1) if index_shift > 0 else 0
    index = np.minimum(distance * 2 ** max(-index_shift, 0) + half >> max(index_shift, 0), size - 1)
    e = table[index]
    total = e.sum(axis=-1, keepdims=True)
    expected = np.minimum((2 * e * 2**fraction + total) // (2 * total), 2**output - 1)
    config = {
        "PIXELS": pixels, "CHANNELS": channels, "LANES": lanes, "INDEX_SHIFT": index_shift, "FRACTION": fraction,
        "SIZE": size, "input_t": int_type(width, signed), "index_t": int_type((size - 1).bit_length(), False),
        "entry_t": "ap_uint<10>", "sum_t": "ap_uint<16>", "output_t": int_type(output, False),
    }  # fmt: skip
    case(
        serial("softmax"), "ops/softmax.h", "dct::softmax<C>(in0, exponentials, out0)", config,
        [(int_type(width, signed), lanes, x)], [(int_type(output, False), lanes, expected)],
        3 * pixels * channels // lanes, array("exponentials", table, "int"),
    )  # fmt: skip


softmax(3, 10, 1, 8, 0, 64, 8, 9)
softmax(3, 10, 5, 8, 2, 64, 8, 8)  # a probability of 1 saturates
softmax(3, 10, 10, 16, 9, 100, 15, 16)
softmax(2, 1, 1, 8, 1, 16, 8, 8)
softmax(2, 6, 3, 4, 0, 100, 8, 9)  # a table longer than any distance
softmax(3, 4, 2, 5, -3, 64, 8, 9)
softmax(3, 4, 2, 5, 12, 64, 8, 9, signed=False)


# ---------------------------------------------------------------------------------------------- data movement


def concat(outer, words, lanes, width):
    a, b = (random_values((FRAMES, outer, n * lanes), width) for n in words)
    config = {"OUTER": outer, "WORDS_A": words[0], "WORDS_B": words[1], "LANES": lanes, "BITS": width}
    case(
        serial("concat"), "ops/concat.h", "dct::concat<C>(in0, in1, out0)", config,
        [(int_type(width), lanes, a), (int_type(width), lanes, b)],
        [(int_type(width), lanes, np.concatenate([a, b], axis=-1))], outer * sum(words),
    )  # fmt: skip


concat(4, (2, 3), 2, 8)
concat(1, (1, 5), 11, 7)


def pad(inside, before, after, lanes, width, value):
    """The last of the three dimensions counts words."""
    x = random_values((FRAMES, *inside, lanes), width)
    pads = [(0, 0), *zip(before, after, strict=True), (0, 0)]
    expected = np.pad(x, pads, constant_values=value)
    config = {"LANES": lanes, "BITS": width, "VALUE": value}
    for i in range(3):
        config |= {f"IN_{i}": inside[i], f"BEFORE_{i}": before[i], f"OUT_{i}": expected.shape[i + 1]}
    stream = int_type(width), lanes
    case(
        serial("pad"), "ops/pad.h", "dct::pad<C>(in0, out0)", config,
        [(*stream, x)], [(*stream, expected)], prod(expected.shape[1:4]),
    )  # fmt: skip


pad((3, 4, 2), (1, 0, 0), (0, 2, 0), 2, 8, -5)
pad((2, 2, 2), (1, 2, 3), (3, 2, 1), 1, 8, 127)
pad((1, 2, 3), (0, 1, 0), (0, 0, 2), 9, 9, -256)


def slice_(size, start, step, count, lanes=1, width=8):
    x = random_values((FRAMES, *size, lanes), width)
    picks = [np.arange(n) * s + b for b, s, n in zip(start, step, count, strict=True)]
    config = {"LANES": lanes, "BITS": width}
    for i in range(3):
        config |= {f"IN_{i}": size[i], f"START_{i}": start[i], f"STEP_{i}": step[i], f"OUT_{i}": count[i]}
    stream = int_type(width), lanes
    case(
        serial("slice"), "ops/slice.h", "dct::slice<C>(in0, out0)", config,
        [(*stream, x)], [(*stream, x[:, picks[0]][:, :, picks[1]][:, :, :, picks[2]])], prod(size),
    )  # fmt: skip


slice_((4, 5, 6), (1, 0, 2), (1, 2, 3), (3, 3, 2))
slice_((4, 5, 6), (0, 1, 5), (3, 1, 4), (1, 2, 1), lanes=3)
slice_((1, 1, 7), (0, 0, 0), (1, 1, 2), (1, 1, 4), lanes=10, width=7)
slice_((3, 3, 3), (0, 2, 1), (1, 1, 1), (3, 1, 1))


def transpose(shape, order, width=8):
    x = random_values((FRAMES, *shape), width)
    strides = [prod(shape[i + 1 :]) for i in range(5)]
    config = {"TOTAL": prod(shape), "BITS": width}
    for i, axis in enumerate(order):
        config |= {f"OUT_{i}": shape[axis], f"STRIDE_{i}": strides[axis]}
    case(
        serial("transpose"), "ops/transpose.h", "dct::transpose<C>(in0, out0)", config,
        [(int_type(width), 1, x)], [(int_type(width), 1, x.transpose(0, *(axis + 1 for axis in order)))],
        2 * prod(shape),
    )  # fmt: skip


transpose((1, 1, 2, 3, 4), (0, 1, 4, 2, 3))
transpose((2, 3, 2, 3, 2), (4, 2, 0, 3, 1), width=11)


def repack(count, source, target, width):
    x = random_values((FRAMES, count), width)
    config = {"COUNT": count, "IN_LANES": source, "OUT_LANES": target, "BITS": width}
    case(
        serial("repack"), "repack.h", "dct::repack<C>(in0, out0)", config,
        [(int_type(width), source, x)], [(int_type(width), target, x)], count // min(source, target),
    )  # fmt: skip


for lanes_in, lanes_out in [(1, 1), (1, 6), (6, 1), (2, 6), (6, 2), (3, 3), (1, 24), (24, 1), (24, 12), (12, 24)]:
    repack(48, lanes_in, lanes_out, 8)
repack(120, 60, 20, 5)
repack(120, 20, 60, 5)


def fork(ways, lanes, width):
    x = random_values((FRAMES, 7 * lanes), width)
    stream = int_type(width), lanes, x
    outs = ", ".join(f"out{i}" for i in range(ways))
    config = {"COUNT": 7, "BITS": width * lanes}
    case(serial("fork"), "fork.h", f"dct::fork<C>(in0, {outs})", config, [stream], [stream] * ways, 7)


fork(2, 3, 8)
fork(3, 12, 8)


# ---------------------------------------------------------------------------------------------- the tests


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    print(f"seed {SEED}")
    return run_cases(CASES, tmp_path_factory.mktemp("kernels"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_kernel_matches_model(case, results):
    outputs, steps, left = results[case.name]
    for got, stream in zip(outputs, case.outputs, strict=True):
        np.testing.assert_array_equal(got, np.ravel(stream.values))
    assert left == 0
    assert steps == case.steps
