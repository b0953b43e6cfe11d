"""Runs a compiled network on its accelerator: real numbers in, real numbers or raw integers out.

    accelerator = open_accelerator("digits.bit")
    scores = accelerator.predict(pictures)

`accelerator.json` beside this file says what the accelerator looks like. Quantization, layout and scaling are those of
the toolchain's simulator, bit for bit. Python 3.8 and NumPy; the back ends want `pynq` or `pyxrt` in addition.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
FORMAT, VERSION = "dct-toolchain accelerator", 1
TRANSFER_LIMIT = (1 << 26) - 1
"""Bytes of one transfer: the DMA engines have length registers of 26 bits."""
BATCH_BYTES = 8 << 20
"""What the buffer of an input or output takes at most, unless a single frame is larger."""
WEIGHT_ERRORS = {
    1: "it is no weight container",
    2: "it has another version",
    3: "its length is wrong",
    4: "its checksum is wrong",
    5: "a dictionary is damaged",
    6: "a descriptor is damaged",
    7: "a payload is damaged",
    9: "an alphabet is too large",
    16: "it belongs to another network",
    17: "a layer has more nonzero weights than the hardware has room for",
    18: "a weight is wider than the hardware's",
    19: "no weights have been loaded",
}
NO_WEIGHTS = 19


class AcceleratorError(Exception):
    """Inputs, files or hardware are not what they have to be; the message says which and what to do."""


class Terminal:
    """An input or output: its type, and how frames lie in memory.

    `shape` is the model's own, without the batch. `order` gives for each element of the stream its flat index there.
    """

    def __init__(self, entry: dict[str, Any]) -> None:
        self.name = str(entry["name"])
        self.identifier = str(entry["identifier"])
        self.dma = str(entry["dma"])
        self.lanes, self.lane_bits = int(entry["lanes"]), int(entry["lane_bits"])
        self.width, self.signed = int(entry["width"]), bool(entry["signed"])
        self.shape = tuple(int(n) for n in entry["shape"])
        sizes, strides = entry["stream_shape"], entry["strides"]
        walk = np.zeros((), dtype=np.int64)
        for dimension in range(len(sizes)):
            walk = walk[..., None] + np.arange(sizes[dimension], dtype=np.int64) * strides[dimension]
        self.order = walk.reshape(-1)
        self.size = self.order.size
        self.element = np.dtype("<{}{}".format("i" if self.signed else "u", self.lane_bits // 8))
        self.raw_type = np.dtype(np.int64 if self.signed or self.width < 64 else np.uint64)
        self.fraction = self._fractions(entry["fraction"])
        self.scale = None if entry["scale"] is None else np.float32(entry["scale"])
        self.zero_point = int(entry["zero_point"])
        self.ties_to_even = bool(entry["ties_to_even"])
        self.low = -(1 << (self.width - 1)) if self.signed else 0
        self.high = (1 << (self.width - int(self.signed))) - 1

    def _fractions(self, fraction: int | list[int]) -> np.ndarray:
        """One number, or one for each element in the model's layout: several go with the stream's last dimension."""
        if isinstance(fraction, int):
            return np.asarray(fraction, dtype=np.int32)
        by_element = np.empty(self.size, dtype=np.int32)
        by_element[self.order] = np.tile(np.asarray(fraction), self.size // len(fraction))
        return by_element.reshape(self.shape)

    @property
    def frame_bytes(self) -> int:
        """What a frame takes in memory."""
        return self.size * self.element.itemsize

    @property
    def frame_beats(self) -> int:
        """How many beats of the stream a frame is."""
        return self.size // self.lanes

    def raw(self, values: np.ndarray) -> np.ndarray:
        """Raw integers of an input, (frames, *shape). Real numbers are quantized, integers are raw already."""
        array = np.asarray(values)
        where = f"input {self.name!r}"
        if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
            raise AcceleratorError(f"{where}: has elements of type {array.dtype}, numbers are needed")
        if array.shape[1:] != self.shape or array.ndim != len(self.shape) + 1:
            wanted = ", ".join(str(n) for n in ("rows", *self.shape))
            raise AcceleratorError(f"{where}: has the shape {list(array.shape)}. The model takes ({wanted}).")
        if len(array) == 0:
            raise AcceleratorError(f"{where}: has no rows")
        if array.dtype.kind == "f":
            return self.quantize(array)
        outside = (array < self.low) | (array > self.high)
        if outside.any():
            kind = "signed" if self.signed else "unsigned"
            raise AcceleratorError(
                f"{where}: the integer {array[outside][0]} does not fit {self.width} {kind} bits."
                " Integer arrays are taken as raw integers; give real values as floats."
            )
        return array.astype(self.raw_type)

    def quantize(self, values: np.ndarray) -> np.ndarray:
        """saturate(floor(x * 2**fraction + 1/2)), as if computed exactly. Refuses NaN and infinity.

        With a scale, saturate(round(x / scale) + zero_point) of a float32 quotient, half away from zero.
        Halves go to the even neighbour where the description says so.
        """
        real = np.asarray(values).astype(np.float64)
        finite = np.isfinite(real)
        if not finite.all():
            first = [int(n) for n in np.argwhere(~finite)[0]]
            raise AcceleratorError(f"input {self.name!r}: holds NaN or infinity at {first}. Clean the data first.")
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            # Infinite for what saturates in any case. Adding 1/2 could round across a tie; the remainder is exact.
            if self.scale is not None:
                quotients = (real.astype(np.float32) / self.scale).astype(np.float64)
                away = np.copysign(np.floor(np.abs(quotients) + 0.5), quotients)
                nearest = (np.rint(quotients) if self.ties_to_even else away) + self.zero_point
            else:
                scaled = np.ldexp(real, self.fraction)
                floor = np.floor(scaled)
                up = np.asarray(floor + (scaled - floor >= 0.5))
                nearest = np.rint(scaled) if self.ties_to_even else up
        above = nearest >= 2.0 ** (self.width - int(self.signed))
        below = nearest < float(self.low)
        result = np.where(above | below, 0.0, nearest).astype(self.raw_type)
        result[above] = self.high
        result[below] = self.low
        return result

    def dequantize(self, raw: np.ndarray) -> np.ndarray:
        """raw * 2**-fraction as float64. Refuses what float64 does not hold exactly: more than 53 significant bits.

        With a scale, (raw - zero_point) * scale.
        """
        if self.scale is not None:
            return np.asarray((raw.astype(np.int64) - self.zero_point) * np.float64(self.scale))
        # Two halves that float64 holds; their sum is exact when taking one off leaves the other.
        upper = (raw >> self.raw_type.type(32)).astype(np.float64) * 2.0**32
        lower = (raw & self.raw_type.type(0xFFFFFFFF)).astype(np.float64)
        mantissa = upper + lower
        exact = bool((mantissa - upper == lower).all())
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            values = np.asarray(np.ldexp(mantissa, -self.fraction))
            exact = exact and bool((np.ldexp(values, self.fraction) == mantissa).all())
        if not exact:
            raise AcceleratorError(f"output {self.name!r}: float64 cannot hold the values exactly. Take the raw ones.")
        return values

    def pack(self, raw: np.ndarray) -> np.ndarray:
        """Raw integers in the model's layout to the bytes of the stream, (frames, frame_bytes) uint8."""
        stream = np.ascontiguousarray(raw.reshape(len(raw), -1)[:, self.order].astype(self.element))
        return stream.view(np.uint8)

    def unpack(self, data: np.ndarray) -> np.ndarray:
        """The bytes of the stream, (frames, frame_bytes), to raw integers (frames, *shape)."""
        stream = np.ascontiguousarray(data).view(self.element)
        raw = np.empty(stream.shape, dtype=self.raw_type)
        raw[:, self.order] = stream
        return raw.reshape((len(raw), *self.shape))


class Description:
    """What `accelerator.json` says. Raises AcceleratorError when it cannot be read or is none."""

    def __init__(self, path: str | Path) -> None:
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            kind, version = content["format"], content["version"]
            if kind != FORMAT or version != VERSION:
                raise AcceleratorError(
                    f"{path}: is {kind!r} version {version}, this program reads {FORMAT!r} {VERSION}"
                )
            self.name, self.board, self.flow = str(content["name"]), str(content["board"]), str(content["flow"])
            self.build_id, self.loaded = int(content["build_id"]), bool(content["loaded"])
            self.streamed = bool(content["streamed"])
            self.offsets = {str(name): int(one["offset"]) for name, one in content["registers"].items()}
            self.pointers = [str(name) for name, one in content["registers"].items() if one["bits"] == 64]
            """Registers that hold the address of the weights."""
            self.inputs = [Terminal(entry) for entry in content["inputs"]]
            self.outputs = [Terminal(entry) for entry in content["outputs"]]
        except OSError as error:
            raise AcceleratorError(f"{path}: cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise AcceleratorError(f"{path}: is damaged. Take it from the project's folder host/ again.") from None

    @property
    def terminals(self) -> list[Terminal]:
        """Inputs, then outputs."""
        return self.inputs + self.outputs


class Accelerator:
    """The hardware and its description. `seconds` and `frames` are those of the last `predict`.

    A back end has `call(frames, buffers)`, `build_id()`, `weight_status()`, `load(data)` and `close()`; `dct_pynq.py`
    and `dct_xrt.py` are two. Raises AcceleratorError when the hardware is not the one that is described.
    """

    def __init__(self, description: Description, backend: Any, batch: int | None = None) -> None:
        self.description, self.backend = description, backend
        largest = max(one.frame_bytes for one in description.terminals)
        if largest > TRANSFER_LIMIT:
            raise AcceleratorError(f"a frame has {largest} bytes, a transfer at most {TRANSFER_LIMIT}")
        self.batch = max(1, min(batch or BATCH_BYTES // largest, TRANSFER_LIMIT // largest))
        self.frames, self.seconds = 0, 0.0
        self.build_id = int(backend.build_id())
        if self.build_id != description.build_id:
            raise AcceleratorError(
                f"the hardware has the build id {self.build_id:#010x}, {description.name} of this project has"
                f" {description.build_id:#010x}. Build the image from the same project as host/accelerator.json."
            )
        self.has_weights = not description.loaded or backend.weight_status() != NO_WEIGHTS

    def predict(self, x: np.ndarray | dict[str, np.ndarray]) -> np.ndarray | dict[str, np.ndarray]:
        """Outputs in the model's scale, float64, exactly raw integer times step.

        `x` is (rows, *shape) for one input, or a dictionary by name; the result is alike.
        """
        raw = self._run(x)
        return _single({one.name: one.dequantize(raw[one.name]) for one in self.description.outputs})

    def predict_raw(self, x: np.ndarray | dict[str, np.ndarray]) -> np.ndarray | dict[str, np.ndarray]:
        """Outputs as raw integers, int64 (uint64 where 64 unsigned bits ask for it)."""
        return _single(self._run(x))

    @property
    def frames_per_second(self) -> float:
        """Throughput of the last `predict`: transfers and accelerator, without quantizing and packing."""
        return self.frames / self.seconds if self.seconds > 0 else math.inf

    def load_weights(self, source: str | Path | bytes) -> None:
        """Replaces the weights by those of a container, a file or its bytes.

        Raises AcceleratorError when the hardware refuses them; it keeps those from before.
        """
        if not self.description.loaded:
            raise AcceleratorError(
                "the weights of this accelerator are constants. Compile with --weight-memory loaded to load others."
            )
        try:
            data = source if isinstance(source, bytes) else Path(source).read_bytes()
        except OSError as error:
            raise AcceleratorError(f"{source}: cannot be read: {error.strerror}") from None
        if not data:
            raise AcceleratorError("the weight container is empty")
        status = int(self.backend.load(data))
        if status:
            reason = WEIGHT_ERRORS.get(status, "the hardware gave no known reason")
            raise AcceleratorError(
                f"the weights were refused (status {status}): {reason}. Make them with: toolchain weights PROJECT"
            )
        self.has_weights = True

    def close(self) -> None:
        """Gives the hardware and its buffers back."""
        self.backend.close()

    def __enter__(self) -> Accelerator:  # noqa: PYI034 - typing.Self came with Python 3.11
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(self, x: np.ndarray | dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if not self.has_weights:
            raise AcceleratorError("the accelerator has no weights yet. Load some with load_weights or --weights.")
        inputs = self._inputs(x)
        rows = len(next(iter(inputs.values())))
        outputs = {one.name: np.empty((rows, one.frame_bytes), dtype=np.uint8) for one in self.description.outputs}
        self.frames, self.seconds = rows, 0.0
        for first in range(0, rows, self.batch):
            part = slice(first, min(first + self.batch, rows))
            begin = time.perf_counter()
            results = self.backend.call(part.stop - first, {name: data[part] for name, data in inputs.items()})
            self.seconds += time.perf_counter() - begin
            if self.description.streamed and (status := int(self.backend.weight_status())):
                raise AcceleratorError(
                    f"the weights in memory are not those that were loaded (status {status}). Load them again."
                )
            for name, data in results.items():
                outputs[name][part] = data
        return {one.name: one.unpack(outputs[one.name]) for one in self.description.outputs}

    def _inputs(self, x: np.ndarray | dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The bytes of every input, (frames, frame_bytes)."""
        names = [one.name for one in self.description.inputs]
        if not isinstance(x, dict):
            if len(names) != 1:
                raise AcceleratorError(f"the model has the inputs {', '.join(names)}. Give a dictionary by name.")
            x = {names[0]: x}
        different = sorted(set(x) ^ set(names))
        if different:
            raise AcceleratorError(f"the input {different[0]!r} is missing or unknown. There are {', '.join(names)}.")
        packed = {one.name: one.pack(one.raw(x[one.name])) for one in self.description.inputs}
        rows = sorted({len(data) for data in packed.values()})
        if len(rows) > 1:
            raise AcceleratorError(f"the inputs have {rows} rows, they need the same number")
        return packed


def open_accelerator(
    image: str | Path,
    description: str | Path = HERE / "accelerator.json",
    timeout: float = 10.0,
    batch: int | None = None,
    device: int = 0,
) -> Accelerator:
    """Programs the board with an image (`.bit` or `.xclbin`) and opens the accelerator in it.

    `timeout` are seconds for one call of up to `batch` frames, `device` is the number of an XRT device.
    """
    described = Description(description)
    if not Path(image).is_file():
        raise AcceleratorError(f"{image}: there is no such file")
    if described.flow == "vitis":
        from dct_xrt import XrtBackend

        return _opened(described, XrtBackend(described, str(image), timeout, device), batch)
    if described.flow == "ip":
        raise AcceleratorError(f"{described.board} has no processor that runs Python. Use the C driver in host/c.")
    from dct_pynq import PynqBackend

    return _opened(described, PynqBackend(described, str(image), timeout), batch)


def _opened(description: Description, backend: Any, batch: int | None) -> Accelerator:
    try:
        return Accelerator(description, backend, batch)
    except BaseException:
        backend.close()
        raise


def _single(outputs: dict[str, np.ndarray]) -> np.ndarray | dict[str, np.ndarray]:
    return next(iter(outputs.values())) if len(outputs) == 1 else outputs
