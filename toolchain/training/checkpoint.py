"""The state of a training run in a file, written whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from toolchain.ir import Array

NAME = "checkpoint.npz"


def write(folder: Path, arrays: Sequence[Array], facts: dict[str, Any]) -> None:
    """Replaces the checkpoint of a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{NAME}"
    with temporary.open("wb") as file:
        named: dict[str, Any] = {f"array_{k}": one for k, one in enumerate(arrays)}
        np.savez(file, **named, **facts)
    temporary.replace(folder / NAME)


def read(folder: Path, signature: str) -> tuple[list[Array], dict[str, Any]] | None:
    """The checkpoint of a run with this signature, None where there is none: it is another run's, or damaged."""
    try:
        with (folder / NAME).open("rb") as file, np.load(file, allow_pickle=False) as found:
            if str(found["signature"]) != signature:
                return None
            count = sum(name.startswith("array_") for name in found.files)
            facts = {name: found[name] for name in found.files if not name.startswith("array_")}
            return [found[f"array_{k}"] for k in range(count)], facts
    except (OSError, ValueError, KeyError):
        return None
    except Exception:  # noqa: BLE001 - a damaged archive raises every kind of exception
        return None
