"""Where a project is built: the folders of `hls/`, and what `flow/flow.json` says is to be built in them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from toolchain.errors import ModelError

GENERATED = ("flow", "run_hls.tcl", "sim", "src", "tb", "tb_data", "Makefile")
"""What of `hls/` a result depends on; everything else there is a result itself."""
NAME = re.compile(r"[A-Za-z]\w{0,99}", re.ASCII)
"""Names become parts of paths and arguments."""
FLOWS = ("vivado", "kria", "vitis", "ip")


@dataclass(frozen=True)
class Site:
    """`hls/` of a project and what is built there; the flow `vitis` has a `platform` and data-mover kernels."""

    hls: Path
    name: str
    board: str
    flow: str
    family: str
    decoders: int
    movers: tuple[str, ...]
    platform: str | None = None

    @property
    def logs(self) -> Path:
        return self.hls / "out/logs"

    @property
    def stamps(self) -> Path:
        return self.hls / "out/stamps"

    @property
    def core(self) -> tuple[str, ...]:
        """What the stage `ip` leaves, relative to `hls/`."""
        if self.flow == "vitis":
            return (f"out/xo/{self.name}.xo",)
        return (f"out/ip/{self.name}.zip", "vitis_hls/solution/impl/ip/component.xml")

    @cached_property
    def digest(self) -> str:
        """Of all generated files with their names."""
        digest = hashlib.sha256()
        roots = [self.hls / name for name in GENERATED]
        files = sorted(path for root in roots for path in (root, *root.rglob("*")) if path.is_file())
        for path in files:
            content = path.read_bytes()
            digest.update(f"{path.relative_to(self.hls).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
        return digest.hexdigest()


def open_site(root: Path, report: Mapping[str, Any]) -> Site:
    """The site of a project with this report. Raises ModelError when `flow.json` is missing or damaged."""
    path = root / "hls/flow/flow.json"
    damaged = ModelError("is damaged", where=str(path), fix="Compile the model again.")
    try:
        content = json.loads(path.read_bytes())
        platform = content.get("platform")
        names = [content["name"], *content["movers"], *([] if platform is None else [platform])]
        sound = all(isinstance(name, str) and NAME.fullmatch(name) for name in names)
        decoders = content["decoders"]
        if (
            not sound
            or type(decoders) is not int
            or decoders < 0
            or content["flow"] not in FLOWS
            or content["board"] != report["board"]
        ):
            raise damaged
        site = Site(
            (root / "hls").resolve(), content["name"], content["board"], content["flow"], str(content["family"]),
            decoders, tuple(content["movers"]), platform,
        )  # fmt: skip
    except OSError:
        raise ModelError(
            "the project has no flow/flow.json", where=str(root / "hls"), fix="Compile the model again."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise damaged from None
    return site
