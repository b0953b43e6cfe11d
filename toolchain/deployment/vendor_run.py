"""Runs a vendor's tool with a log, milestones on the screen, and its errors in our words; Ctrl-C ends its processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

from toolchain.errors import ToolError, printable

LINE_BYTES = 65536
MESSAGES = 3
"""Errors that are shown; the ones behind them follow from the first."""
PATIENCE_SECONDS = 20
"""How long a tool may take to end after it was told to."""

MILESTONE = re.compile(
    r"^(?:dct-toolchain: (?P<ours>.+)"
    r"|(?P<bench>PASS frames=.+)"
    r"|INFO: \[HLS 200-10\] (?P<hls>(?:Starting|Analyzing) .+)"
    r"|Starting (?P<vivado>[A-Z][\w ]+) Task\b"
    r"|.*\bRun \w+: Step (?P<step>[\w.]+): (?:Started|Starting))"
)
ERROR = re.compile(
    r"^\s*(?:ERROR|FATAL|Error|error|fatal error)\b\s*:?|: (?:fatal )?error: |^FAIL |error while loading"
)

ADVICE = (
    (r"licen[cs]e", "The licence does not cover this part or tool: see the vendor's licence manager."),
    (
        r"\[HLS 200-1023\]|\[Coretcl 2-106\]|part .{0,80}(?:is not installed|not found|could not be found)",
        "The part is not installed: add its family with the vendor's installer, 'Add Design Tools or Devices'.",
    ),
    (r"timing is not met|\[Timing 38-282\]", "Compile it with a lower --clock, or with a lower --target-fps."),
    (
        r"unroll.{0,80}(?:4096|limit)|partition.{0,80}(?:4096|threshold|exe?ceeded)|\[XFORM 203-103\]",
        "A loop or array is too large to be unrolled: compile it with a lower --target-fps, and report it, please.",
    ),
    (
        r"out of memory|bad_alloc|cannot allocate|Abnormal program termination \((?:6|9)\)|\bKilled\b",
        "The machine has too little memory: set JOBS=1, close other programs, or add swap.",
    ),
    (
        (
            r"platform.{0,200}(?:not found|does not exist|could not be|cannot)|(?:fail|unable).{0,60}platform"
            r"|\[v\+\+ 60-(?:1258|1299|705|584)\]"
        ),
        "The Vitis platform is missing: install it and name its folder in PLATFORM_REPO_PATHS.",
    ),
    (
        r"\[Place 30-\d+\].{0,200}(?:over-utilized|not enough|exceed)|\[DRC UTLZ-1\]|over-utilized",
        "The design is larger than estimated: compile it with a lower --target-fps or for a larger board.",
    ),
    (r"No space left on device", "The disk is full: a build takes tens of gigabytes."),
    (
        r"\[IMPL 213-28\]|bad lexical cast|'22\d{8}' is an invalid argument",
        "This version fails from 2022 on without the vendor's patch of export_design (AMD answer record 76960).",
    ),
    (r"error while loading shared libraries", "A library that the tool needs is missing: install its package."),
    (r"invalid command name|unknown option|ambiguous option", "This version does not know the command: docs/build.md."),
    (r"there is no IP in|IP definition .{0,80}not found|\[BD 5-216\]", "Run --stage ip again."),
)
"""What is known of messages, the first match counts."""


@dataclass(frozen=True)
class Job:
    """A command to run in `folder`, all it says going to `log`; `environment` is added to ours."""

    name: str
    argv: Sequence[str]
    folder: Path
    log: Path
    environment: Mapping[str, str]


def run(job: Job, tell: Callable[[str], None]) -> None:
    """Runs a job to its end, telling milestones. Raises ToolError with the tool's errors and advice when it fails.

    When anything interrupts it, the tool and all its children are ended first.
    """
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("wb") as log, _terminable():
        log.write(f"$ {' '.join(job.argv)}\n".encode())
        try:
            child = subprocess.Popen(
                job.argv, cwd=job.folder, env={**os.environ, **job.environment}, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise ToolError(f"{job.name} cannot be started: {error.strerror}", where=job.argv[0]) from None
        with child:
            try:
                assert child.stdout is not None
                _follow(child.stdout, log, tell)
                status = child.wait()
            except BaseException:
                _end(child)
                raise
    if status:
        raise failure(job, status)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM and SIGHUP become exceptions like Ctrl-C: the tool is in a session of its own and would live on."""
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        del frame
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _follow(said: IO[bytes], log: IO[bytes], tell: Callable[[str], None]) -> None:
    last = ""
    while row := said.readline(LINE_BYTES):
        log.write(row)
        log.flush()
        if (found := MILESTONE.match(row.decode(errors="replace").rstrip())) is None:
            continue
        text = printable(next(part for part in found.groups() if part))[:100]
        if text != last:
            tell(text)
        last = text


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends a process and its children, which share its group: a vendor's tool is a shell script around others."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            break
        try:
            child.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    child.wait()


def failure(job: Job, status: int | None = None) -> ToolError:
    """The error of a job that failed: what its log says first, and what is known of that.

    `status` is None where the tool ended well but did not leave what it should.
    """
    text = job.log.read_text(errors="replace") if job.log.is_file() else ""
    messages = errors_of(text)
    if status is not None and -status == signal.SIGKILL:
        messages.append("Killed")
    what = " | ".join(messages[:MESSAGES]) or "it says nothing about why"
    ended = "left no result" if status is None else f"failed with exit code {status}"
    return ToolError(f"{job.name} {ended}: {what}", where=str(job.log), fix=advice_for(messages))


def errors_of(text: str) -> list[str]:
    """Lines of a log that tell errors, without repetition; the last line where there is none."""
    lines = [line.strip() for line in text.splitlines()[1:] if line.strip()]
    found = list(dict.fromkeys(line[:400] for line in lines if ERROR.search(line)))
    return found or [line[:400] for line in lines[-1:]]


def advice_for(messages: Sequence[str]) -> str:
    """What to do about errors of a vendor's tool."""
    for message in messages:
        for pattern, advice in ADVICE:
            if re.search(pattern, message, re.IGNORECASE):
                return advice
    return "The log says more."
