"""What `report.json` must hold: its keys are a contract, DESIGN section 7, and a project may come from anybody."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, ValidationError, model_validator

Text = InstanceOf[str]
"""Not `str`, of which pydantic refuses lone surrogates: file names hold them."""
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Number = Annotated[float, Field(le=1e300, ge=-1e300)]
Amount = Annotated[float, Field(le=1e300, ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    """Further keys are allowed: nothing here reads them."""

    model_config = ConfigDict(strict=True)


class _Compression(_Part):
    ratio_float32: Amount
    ratio_int8: Amount
    bits_per_weight: Amount
    mean_code_length: Amount
    breakdown: dict[Text, Count]
    output_error: float
    plain_output_error: float


class _Multiplications(_Part):
    dense: Count
    packed: Count
    basis_additions: Count
    centre_responses: Count


class _Total(_Multiplications):
    ratio: Amount


class _Excess(_Part):
    used: Amount
    limit: Amount


class _Hardware(_Part):
    weight_memory: Text = ""
    weight_traffic_bytes: Count = 0
    latency_cycles: Count
    interval_cycles: Annotated[Count, Field(gt=0)]
    clock_mhz: Annotated[Amount, Field(gt=0)]
    dsp: Amount
    bram36: Amount
    lut: Count
    ff: Amount
    uram: Count = 0
    fits: bool
    interval_wanted: Annotated[Count, Field(gt=0)] | None
    exceeded: dict[Text, _Excess]


class _Embedded(_Part):
    arena_bytes: Count
    input_bytes: Count
    output_bytes: Count
    constants: dict[Text, Count]


class _Input(_Part):
    name: Text
    type: Text
    saturations: Count


class _Engine(_Part):
    unit: Text | None
    lanes: Count = 0
    pixels: Count = 0
    binds: Text = ""

    @model_validator(mode="after")
    def _size_is_whole(self) -> _Engine:
        if len(self.model_fields_set & {"lanes", "pixels"}) == 1:
            raise ValueError("lanes and pixels come together")
        return self


class _Storage(_Part):
    coder: Text
    longest_run: Count
    substreams: Count
    bits: dict[Text, Count]
    bits_per_weight: Amount
    mean_code_length: Amount
    redundancy: Number


class _Alternative(_Part):
    coded: Text
    relative_error: float
    bits: Count = 0
    multiplications: Count = 0

    @model_validator(mode="after")
    def _has_a_rate(self) -> _Alternative:
        if not self.model_fields_set & {"bits", "multiplications"}:
            raise ValueError("bits or multiplications are missing")
        return self


class _Capacity(_Part):
    nonzeros: Count
    weight_bits: Count


class _Layer(_Part):
    name: Text
    layer: Text
    op: Text
    coding: Text
    coded: Text
    execution: Text
    engine: _Engine
    density: Amount
    multiplications: _Multiplications
    storage: _Storage | None
    alternatives: list[_Alternative]
    spectrum: Annotated[list[Annotated[list[Share], Field(min_length=1)]], Field(min_length=1)] | None
    input_type: Text
    weight_type: Text | None
    accumulator_type: Text
    output_type: Text
    input_shape: list[Count]
    output_shape: list[Count]
    parameters: Count
    macs: Count
    cycles: Count
    dsp: Amount
    bram36: Amount
    lut: Amount
    uram: Count = 0
    pe: Count
    simd: Count
    capacity: _Capacity = _Capacity(nonzeros=0, weight_bits=0)
    saturations: Count
    weight_saturations: Count
    relative_error: float


class _Report(_Part):
    model: Text
    board: Text
    toolchain_version: Text
    parameters: Count
    macs: Count
    compression: _Compression
    multiplications: _Total
    hardware: _Hardware
    inputs: list[_Input]
    layers: list[_Layer]
    embedded: _Embedded = _Embedded(arena_bytes=0, input_bytes=0, output_bytes=0, constants={})
    targets: list[Text] = ["hls"]
    vendor: dict[Text, dict[Text, Text | bool | Number | None]] = {}


def find_fault(report: dict[str, Any]) -> str | None:
    """The first key that is missing or holds what it must not, and why: `layers[2].dsp: is missing`."""
    try:
        _Report.model_validate(report)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        message = "is missing" if first["type"] == "missing" else first["msg"].removeprefix("Value error, ")
        return f"{place.removeprefix('.')}: {message[0].lower()}{message[1:]}"
    return None
