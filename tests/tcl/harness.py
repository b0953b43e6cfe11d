"""Runs generated Tcl in a real tclsh and checks every vendor command it calls against `commands.toml`."""

import base64
import difflib
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TCLSH = shutil.which("tclsh")

needs_tclsh = pytest.mark.skipif(
    TCLSH is None and not os.environ.get("CI"), reason="tclsh is not installed: apt-get install tcl"
)


@dataclass(frozen=True)
class Problem:
    """What the vendor's tool would not take, and the line of the script that says it."""

    line: int
    message: str


@dataclass(frozen=True)
class Call:
    """One call of a command that is not Tcl's own, in the working folder it happened in."""

    line: int
    folder: Path
    name: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """A finished script."""

    status: int
    errors: str
    calls: tuple[Call, ...]
    problems: tuple[Problem, ...]

    @property
    def names(self) -> list[str]:
        return [call.name for call in self.calls]


@cache
def table(tool: str) -> Mapping[str, Mapping]:
    return tomllib.loads((HERE / "commands.toml").read_text())[tool]


def run(
    script: Path,
    tool: str,
    scratch: Path,
    environment: Mapping[str, str] | None = None,
    answers: Mapping[str, Sequence[str]] | None = None,
    given: Sequence[str] = (),
) -> Run:
    """Runs a script as the tool's shell would; `scratch` is a folder for the record.

    `answers` are what calls return, by a glob pattern of the call: one value a call, the last one for all that follow.
    `given` is what an earlier run has left.
    """
    commands = table(tool)
    record = scratch / "calls"
    replies = scratch / "answers"
    returns = {f"{name} *": [command["returns"]] for name, command in commands.items() if "returns" in command}
    rows = [[pattern, *values] for pattern, values in {**(answers or {}), **returns}.items()]
    replies.write_text("".join("|".join(base64.b64encode(w.encode()).decode() for w in row) + "\n" for row in rows))
    assert TCLSH is not None
    done = subprocess.run(
        [TCLSH, str(HERE / "recorder.tcl"), str(script), str(record), str(replies)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=scratch,
        env={**os.environ, **(environment or {})},
    )
    calls = []
    for row in record.read_text().splitlines():
        line, _, folder, name, *words = (base64.b64decode(word).decode() for word in row.split("|"))
        calls.append(Call(int(line), Path(folder), name, tuple(words)))
    problems = list(check(calls, commands, given))
    if at := re.search(rf'\(file "{re.escape(str(script))}" line (\d+)\)', done.stderr):
        problems.append(Problem(int(at[1]), f"Tcl itself: {done.stderr.splitlines()[0]}"))
    return Run(done.returncode, done.stderr, tuple(calls), tuple(problems))


def check(calls: Sequence[Call], commands: Mapping[str, Mapping], before: Sequence[str] = ()) -> Iterator[Problem]:
    """All problems of a sequence of calls, the order among them too; `before` is what was given before the first."""
    given = set(before)
    for call in calls:
        command = commands.get(call.name)
        if command is None:
            yield Problem(call.line, f"unknown command {call.name}{_close(call.name, commands)}")
            continue
        for need in command.get("needs", []):
            if need not in given:
                yield Problem(call.line, f"{call.name} comes before there is a {need}")
        yield from (Problem(call.line, f"{call.name}: {text}") for text in _words(call, command))
        given |= set(command.get("gives", []))


def _words(call: Call, command: Mapping) -> Iterator[str]:
    options: Mapping[str, str] = command.get("options", {})
    words = list(call.words)
    seen, plain = set(), []
    while words:
        word = words.pop(0)
        if not re.match(r"-[A-Za-z]", word):
            plain.append(word)
            continue
        name, _, attached = word[1:].partition("=")
        if name not in options:
            yield f"unknown option -{name}{_close(name, options)}"
            continue
        if name in seen:
            yield f"-{name} is given twice"
        seen.add(name)
        kind = options[name]
        if kind == "flag":
            if attached and attached not in {"true", "false", "0", "1"}:
                yield f"-{name} cannot be {attached!r}"
        elif attached or words:
            yield from (f"-{name}: {text}" for text in wrong(kind, attached or words.pop(0), call.folder))
        else:
            yield f"-{name} needs a value"
    yield from (f"-{name} is missing" for name in command.get("required", []) if name not in seen)
    yield from _arguments(plain, command.get("arguments", []), call.folder)


def _arguments(words: Sequence[str], kinds: Sequence[str], folder: Path) -> Iterator[str]:
    least = sum(not kind.endswith("?") for kind in kinds)
    most = len(words) if kinds and kinds[-1].endswith("+") else len(kinds)
    if not least <= len(words) <= most:
        yield f"takes {least if least == len(kinds) else f'{least} to {len(kinds)}'} argument(s), got {len(words)}"
        return
    for position, word in enumerate(words):
        yield from wrong(kinds[min(position, len(kinds) - 1)].rstrip("+?"), word, folder)


def wrong(kind: str, value: str, folder: Path) -> list[str]:
    """What is wrong with a value of a kind, see `commands.toml`."""
    if kind in {"file", "files"}:
        names = value.split() if kind == "files" else [value]
        return [f"there is no {name}" for name in names if not (folder / name).exists()]
    patterns = {
        "integer": r"\d+",
        "number": r"\d+(\.\d*)?",
        "time": r"\d+(\.\d*)?(ns|ps|us|[kMG]?Hz)?",
        "string": r".+",
        "list": r".*",
        "address": r"0x[0-9A-F]+",
        "vlnv": r"[\w.]+:[\w.]+:\w+(:[\d.]+)?",
    }
    patterns["flag"] = "true|false|0|1"
    if re.fullmatch(patterns.get(kind, kind), value, re.DOTALL):
        return []
    return [f"{value!r} is no {kind}" if kind in patterns else f"{value!r} is none of {kind.replace('|', ', ')}"]


def check_configuration(path: Path) -> list[Problem]:
    """All problems of an hls_config.cfg."""
    known = tomllib.loads((HERE / "hls_config.toml").read_text())
    section, seen, found = "top", set(), []
    for number, row in enumerate(path.read_text().splitlines(), 1):
        text = row.strip()
        if not text or text.startswith("#"):
            continue
        if header := re.fullmatch(r"\[(\w+)\]", text):
            section = header[1]
            if section not in known or section == "top":
                found.append(Problem(number, f"unknown section [{section}]"))
            continue
        key, equals, value = text.partition("=")
        kinds = known.get(section, {})
        if not equals or key not in kinds:
            found.append(Problem(number, f"unknown key {key}{_close(key, kinds)}"))
            continue
        if key in seen and key not in known["repeated"]:
            found.append(Problem(number, f"{key} is given twice"))
        seen.add(key)
        found += [Problem(number, f"{key}: {text}") for text in wrong(kinds[key], value, path.parent)]
    found += [Problem(0, f"{key} is missing") for key in known["required"] if key not in seen]
    if len({"part", "platform"} & seen) != 1:
        found.append(Problem(0, "part or platform must be given, and not both"))
    return found


def _close(name: str, known: Mapping) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""
