"""Boards as data: one TOML file each in `boards/`. Adding a board touches nothing else."""

from __future__ import annotations

import difflib
import tomllib
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from toolchain.errors import BoardError
from toolchain.resources import folder


class Resources(BaseModel):
    """What the whole part has, in pieces: DSP slices, block RAMs of 36 Kib, UltraRAMs of 288 Kib, LUTs, flip-flops.

    A Versal DSP58 counts as one slice.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dsp: int = Field(ge=0)
    bram36: int = Field(ge=0)
    uram: int = Field(ge=0)
    lut: int = Field(gt=0)
    ff: int = Field(gt=0)


class Memory(BaseModel):
    """A memory beside the part (or in its package, for HBM).

    `mib` is its size in MiB over all `banks`, `gbps` their peak bandwidth together in GB/s = 10^9 bytes a second. Banks
    are separately addressed channels; those of HBM are its pseudo channels. Both are left out where they are unknown.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["ddr3", "ddr3l", "ddr4", "lpddr4", "hbm2"]
    mib: int = Field(gt=0)
    banks: int | None = Field(default=None, gt=0)
    gbps: float | None = Field(default=None, gt=0)


class Processor(BaseModel):
    """The application processor inside the part: `count` cores of `bits` bits that run the host program."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    core: Literal["arm_cortex_a9", "arm_cortex_a53", "arm_cortex_a72"]
    count: int = Field(gt=0)
    bits: Literal[32, 64]


class Board(BaseModel):
    """A board, what it takes to build for it, and where each fact stands.

    - `name` is that of the file, `title` what people call it.
    - `part` is the vendor's full name with package and speed grade; `family` that of the vendor's tools.
    - `clock_mhz` is the default clock of the fabric in MHz: one that HLS dataflow designs reach comfortably.
    - `flow` says what is built:
        - `vivado`: block design with the processing system and AXI DMA, then bitstream and XSA;
        - `kria`: the same, and a device-tree overlay and `shell.json` for `xmutil`;
        - `vitis`: `v++` links the kernel with a platform into an xclbin (Alveo, Versal);
        - `ip`: packaged IP only, for boards that are nothing but fabric.
    - `board_part` is the id of the vendor's board file, `platform` the Vitis platform that `flow = "vitis"` links with.
    - `reserved` says in words which part of the resources the platform keeps; `resources` are those of the whole part.
    - `memories`: the one that host and fabric share comes first.
    - `processor` is missing where the host is a computer beside the board, or there is none.
    - `sources` name the public document of each group of facts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    part: str
    family: Literal["artix7", "zynq", "zynquplus", "virtexuplus", "virtexuplushbm", "versal"]
    clock_mhz: float = Field(gt=0)
    flow: Literal["vivado", "kria", "vitis", "ip"]
    board_part: str | None = None
    platform: str | None = None
    reserved: str | None = None
    resources: Resources
    memories: tuple[Memory, ...] = ()
    processor: Processor | None = None
    sources: dict[str, str]

    @model_validator(mode="after")
    def _flow_has_what_it_needs(self) -> Self:
        if self.flow in ("vivado", "kria") and self.processor is None:
            raise ValueError(f"the flow {self.flow!r} needs a processor")
        if (self.flow == "vitis") != (self.platform is not None):
            raise ValueError("the flow 'vitis' needs a platform, and no other flow has one")
        if self.flow == "ip" and self.processor is not None:
            raise ValueError("the flow 'ip' is for boards without a processor")
        return self


def board_names() -> list[str]:
    """All boards there are."""
    return sorted(path.stem for path in folder("boards").glob("*.toml"))


def load_board(name: str) -> Board:
    """Raises BoardError for a board that is not known, naming the nearest ones."""
    names = board_names()
    if name not in names:
        raise BoardError(f"the board {name!r} is unknown", fix=_hint(name.lower(), names))
    try:
        return Board.model_validate(tomllib.loads((folder("boards") / f"{name}.toml").read_text()))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise BoardError(f"is damaged: {error}", where=f"boards/{name}.toml") from None


def _hint(name: str, names: list[str]) -> str:
    """Several are named when they are equally near: `zcu10` is one letter from three boards."""
    close = difflib.get_close_matches(name, names, len(names), 0.4)
    if not close:
        return f"Known are {', '.join(names)}."
    ratios = [difflib.SequenceMatcher(None, other, name).ratio() for other in close]  # in the order difflib uses
    nearest = sorted(other for other, ratio in zip(close, ratios, strict=True) if ratio == max(ratios))
    return f"Did you mean {' or '.join(map(repr, nearest))}?"
