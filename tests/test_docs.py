"""The documentation holds: commands shown in it run and print what is shown, links lead somewhere, tables are current.

A `console` block is run by bash, commands after `$ ` and their continuations after `> `. Shown output is compared;
a line `...` stands for any lines, and times may differ. A `python` block runs, a `toml` block whose first line is
`# NAME.toml` becomes that file. All blocks of a page share a folder, in which the files of README's second example lie.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import toolchain
from toolchain.report import operators

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DEMO = "make demo"
NO_VENDOR = "neither vitis-run nor vitis_hls is on PATH"
VENDOR = shutil.which("vitis-run") or shutil.which("vitis_hls")


def blocks(page):
    return [(match[1], match[2]) for match in BLOCK.finditer(page.read_text())]


def runnable(page):
    return [(kind, text) for kind, text in blocks(page) if kind in ("console", "python", "toml")]


def commands(text):
    """Pairs of a command and the output shown behind it."""
    pairs = []
    for line in text.splitlines():
        if line.startswith("$ "):
            pairs.append((line[2:], []))
        elif line.startswith("> ") and not pairs[-1][1]:
            pairs[-1] = (f"{pairs[-1][0]}\n{line[2:]}", [])
        else:
            pairs[-1][1].append(line)
    return pairs


def tidy(lines):
    """Lines without what may differ: times, and the room that a table leaves for them."""
    timeless = (re.sub(r"\b\d+(\.\d+)? s\b", "T s", line) for line in lines)
    return [re.sub(r"\s+", " ", re.sub("[━─]+", "━", line)).strip() for line in timeless]


NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"
MODELLED = re.compile(rf"(?<![\w.]){NUMBER}(?!\w)")
"""A number that packing may move: which level is taken hangs on the last bits of floating-point sums."""
TOLERANCE = 0.1


def matches(shown, got):
    """Is `got` what is shown? Each `...` stands for any number of lines.

    Numbers in lines about packed weights and modelled hardware may differ by 1 or TOLERANCE: machines add up in
    different orders while levels are chosen. Everything else is exact, counts of differing integers above all.
    """
    groups = []

    def pattern_of(line):
        if line == "...":
            return "(?:.*\n)*?"
        if re.search("differ|expected", line) or not re.search("weights.bin|modelled|bytes|estimated|│", line):
            return re.escape(line) + "\n"
        parts, end = [], 0
        for number in MODELLED.finditer(line):
            groups.append(float(number[0].replace(",", "")))
            parts += [re.escape(line[end : number.start()]), f"({NUMBER})"]
            end = number.end()
        return "".join(parts) + re.escape(line[end:]) + "\n"

    pattern = "".join(map(pattern_of, tidy(shown)))
    found = re.fullmatch(pattern, "".join(line + "\n" for line in tidy(got)))
    if found is None:
        return False
    numbers = [float(text.replace(",", "")) for text in found.groups()]
    return all(abs(a - b) <= max(TOLERANCE * max(abs(a), abs(b)), 1) for a, b in zip(groups, numbers, strict=True))


@pytest.fixture(scope="session")
def example(tmp_path_factory):
    """What README's second example leaves behind."""
    folder = tmp_path_factory.mktemp("example")
    with np.load(ROOT / "examples/digits/digits.npz") as digits:
        np.save(folder / "calibration.npy", digits["x_train"][:256] / 16)
        np.save(folder / "inputs.npy", digits["x_test"][:32] / 16)
        np.save(folder / "labels.npy", digits["y_test"][:32])
    toolchain.compile(
        ROOT / "examples/digits/digits.onnx",
        folder / "project",
        calibrate=folder / "calibration.npy",
        board="pynq-z2",
    )
    return folder


@pytest.fixture
def place(example, tmp_path):
    folder = tmp_path / "page"
    shutil.copytree(example, folder)
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


def environment():
    kept = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "FORCE_COLOR")}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
    }


def run_console(text, place):
    """Runs a block in one shell, so that `$?` is the command's before it."""
    pairs = commands(text)
    script = 'toolchain() { python -m toolchain "$@"; }\n'
    for number, (command, _) in enumerate(pairs):
        script += f'(exit $status)\n{command}\nstatus=$?\necho "@{number} $status"\n'
    done = subprocess.run(
        ["bash", "-c", f"exec 2>&1; status=0\n{script}"],
        cwd=place,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    rest = done.stdout.splitlines()
    for number, (command, shown) in enumerate(pairs):
        end = next(k for k, line in enumerate(rest) if line.startswith(f"@{number} "))
        got, status, rest = rest[:end], int(rest[end].split()[1]), rest[end + 1 :]
        asked = number + 1 < len(pairs) and pairs[number + 1][0] == "echo $?"
        printed = "\n".join(got)
        assert status == 0 or asked, f"`{command}` left with {status}:\n{printed}"
        assert matches(shown, got), f"`{command}` printed\n{printed}"


@pytest.mark.csim
@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)], ids=lambda page: page.name)
def test_what_a_page_shows_runs(page, place):
    if page.name == "README.md":
        shutil.rmtree(place / "project")
    for kind, text in runnable(page):
        if kind == "toml" and (name := re.match(r"# ([\w-]+\.toml)\n", text)):
            (place / name[1]).write_text(text)
        elif kind == "python":
            subprocess.run([sys.executable, "-c", text], cwd=place, env=environment(), check=True, capture_output=True)
        elif kind == "console" and DEMO not in text and not (NO_VENDOR in text and VENDOR):
            run_console(text, place)


@pytest.mark.csim
@pytest.mark.slow
def test_the_demonstration_prints_what_the_readme_shows(tmp_path):
    ((_, shown),) = [
        pair for kind, text in blocks(PAGES[0]) if kind == "console" and DEMO in text for pair in commands(text)
    ]
    done = subprocess.run(
        [sys.executable, ROOT / "examples/digits/demo.py", "-o", tmp_path / "demo"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert matches([*shown, "..."], done.stdout.splitlines()), done.stdout


def anchors(page):
    """The names that a page's headings get."""
    text = BLOCK.sub("", page.read_text())
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", page.read_text())):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(path), f"{page.name} links to {target}"


def test_every_page_is_in_the_index():
    text = (ROOT / "docs/index.md").read_text()
    assert [page.name for page in PAGES[1:] if page.name != "index.md" and f"({page.name})" not in text] == []


def test_every_path_named_in_code_exists():
    """`toolchain/...`, `hls_templates/...`, `tests/...` and the like."""
    for page in PAGES:
        for path in re.findall(
            r"`((?:toolchain|hls_templates|boards|tests|benchmarks|examples)/[\w/.-]*)`", page.read_text()
        ):
            assert re.search(r"NAME|verb|/x\.", path) or (ROOT / path).exists(), path


def test_the_table_of_operators_is_current():
    page = (ROOT / "docs/operators.md").read_text()
    assert page == operators.page(), "Type: make docs"


def test_every_key_of_a_report_is_described(example):
    report = toolchain.load(example / "project").report
    tables = (report, report["compression"], report["multiplications"], report["hardware"])
    keys = {key for table in (*tables, *report["inputs"], *report["layers"]) for key in table}
    page = (ROOT / "docs/files.md").read_text()
    assert sorted(key for key in keys if f"`{key}`" not in page) == []


def test_matching_knows_a_difference():
    """A test of the test: an ellipsis must not hide what stands between."""
    assert matches(["a", "...", "c  12 s"], ["a", "b", "b", "c 3.5 s"])
    assert matches(["...", "x"], ["x"])
    assert not matches(["a", "...", "c"], ["a", "b"])
    assert not matches(["a 12"], ["a 13"])
    assert not matches([], ["a"])
