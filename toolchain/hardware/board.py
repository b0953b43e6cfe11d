"""Boards as data: one TOML file each in `boards/`."""

from __future__ import annotations

import difflib
import tomllib
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from toolchain.errors import BoardError
from toolchain.resources import folder


class Resources(BaseModel):
    """What the part has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dsp: int = Field(ge=0)
    bram36: int = Field(ge=0)
    uram: int = Field(ge=0)
    lut: int = Field(gt=0)
    ff: int = Field(gt=0)


class Board(BaseModel):
    """A board: its part, default clock in MHz, resources, build flow, and where the facts come from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    part: str
    family: Literal["artix7", "zynq", "zynquplus", "virtexuplus", "virtexuplushbm", "versal"]
    clock_mhz: float = Field(gt=0)
    flow: Literal["vivado", "vitis"]
    resources: Resources
    sources: dict[str, str]


def board_names() -> list[str]:
    """All boards there are."""
    return sorted(path.stem for path in folder("boards").glob("*.toml"))


def load_board(name: str) -> Board:
    """Raises BoardError for a board that is not known, naming the nearest one."""
    names = board_names()
    if name not in names:
        close = difflib.get_close_matches(name.lower(), names, 1, 0.4)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known are {', '.join(names)}."
        raise BoardError(f"the board {name!r} is unknown", fix=hint)
    try:
        return Board.model_validate(tomllib.loads((folder("boards") / f"{name}.toml").read_text()))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise BoardError(f"is damaged: {error}", where=f"boards/{name}.toml") from None
