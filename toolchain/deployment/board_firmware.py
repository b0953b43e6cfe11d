"""Firmware of Kria boards, on the board: installed for dfx-mgr, loaded and unloaded by `xmutil`. Python 3.8.

Sources: UG1630 "dfx-mgrd"; github.com/Xilinx/dfx-mgr, `src/daemon_helper.c`: a folder that is renamed into the firmware
folder is taken up at once; `listapps` prints one application a line, the last column is the slot it is in, or -1.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

TOOL_SECONDS = 60.0


class Fault(Exception):
    """Something that the user has to know; `kind` tells the other end which error it is."""

    def __init__(self, message: str, kind: str = "board") -> None:
        super().__init__(message)
        self.kind = kind


class Firmware:
    """An application of dfx-mgr: the folder `folder`/`app`, loaded and unloaded by `xmutil`.

    The folder is made elsewhere and renamed into place, for the daemon reads it as soon as it is there. The application
    that was there before waits beside it until `accept`.
    """

    def __init__(self, folder: Path, app: str) -> None:
        self.app = app
        folder = Path(os.path.realpath(str(folder)))
        self.place = folder / app
        self.fresh = folder.parent / (".dct-toolchain-new-" + app)
        self.old = folder.parent / (".dct-toolchain-old-" + app)
        self.loaded: list[str] = []
        self.begun = self.placed = False

    def install(self, files: list[Path]) -> dict[str, Any]:
        """Answers which applications were loaded before. Raises Fault; `undo` puts everything back."""
        if not os.access(str(self.place.parent), os.W_OK) or not os.access(str(self.place.parent.parent), os.W_OK):
            raise Fault(f"{self.place.parent} cannot be written: installing firmware needs root", "root")
        self.recover()
        self.loaded = self.active()
        self.begun = True
        self.fresh.mkdir(mode=0o755)
        for path in files:
            shutil.copyfile(str(path), str(self.fresh / path.name))
        for _ in self.loaded:
            self.xmutil("unloadapp")
        if self.place.exists():
            self.place.rename(self.old)
        self.fresh.rename(self.place)
        self.placed = True
        self.load(self.app)
        return {"before": self.loaded}

    def recover(self) -> None:
        """What an agent left that had no time to clean up: the power went away."""
        shutil.rmtree(str(self.fresh), ignore_errors=True)
        if self.old.exists():
            shutil.rmtree(str(self.place), ignore_errors=True)
            self.old.rename(self.place)

    def load(self, app: str) -> None:
        """Loads an application as soon as the daemon has seen it: `xmutil` ends with 0 even when it fails."""
        end = time.monotonic() + TOOL_SECONDS / 4
        while app not in self.listed() and time.monotonic() < end:
            time.sleep(0.2)
        said = self.xmutil("loadapp", app)
        if app not in self.active():
            last = (said.strip().splitlines() or ["it said nothing"])[-1]
            raise Fault(f"xmutil loadapp {app} failed: {last}", "tool")

    def listed(self) -> dict[str, str]:
        """Every application and its last column, `Active_slot`."""
        rows = [line.split() for line in self.xmutil("listapps").splitlines()]
        return {row[0]: row[-1] for row in rows if len(row) >= 4}

    def active(self) -> list[str]:
        """Those in a slot: the column holds its number, or -1."""
        return [name for name, slot in self.listed().items() if re.match(r"\d", slot)]

    def xmutil(self, *words: str) -> str:
        """What it prints. Not through `Agent.call`: an installation is not left in the middle."""
        try:
            done = subprocess.run(
                ["xmutil", *words],  # noqa: S607 - wherever the board keeps it
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=TOOL_SECONDS,
                check=False,
            )
        except OSError as error:
            raise Fault(f"xmutil cannot be started: {error.strerror}", "tool") from None
        except subprocess.TimeoutExpired:
            raise Fault(f"xmutil {words[0]} has not ended after {TOOL_SECONDS:g} s", "timeout") from None
        text = done.stdout.decode(errors="replace")
        if done.returncode:
            last = (text.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise Fault(f"xmutil {words[0]} failed: {last}", "tool")
        return text

    def undo(self) -> None:
        """The firmware as it was, and the applications that were loaded loaded again, as far as that goes."""
        if not self.begun:
            return
        with contextlib.suppress(Fault):
            if self.app in self.active():
                self.xmutil("unloadapp")
        shutil.rmtree(str(self.fresh), ignore_errors=True)
        if self.placed:
            shutil.rmtree(str(self.place), ignore_errors=True)
        if self.old.exists():
            self.old.rename(self.place)
        for app in self.loaded:
            with contextlib.suppress(Fault):
                if app not in self.active():
                    self.load(app)

    def accept(self) -> None:
        shutil.rmtree(str(self.old), ignore_errors=True)
