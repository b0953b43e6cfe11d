"""Generated projects have no finding, and every rule finds what is planted to break it.

Several plants share one copy of a project and one run of the lint, each on a line of its own marked `/*plant N*/`;
those of one batch do not touch each other.
"""

import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.hls_templates.harness import TEMPLATES
from tests.verification.networks import NETWORKS, generate
from tests.verification.plants import CALLS, PLANTS, TOP
from toolchain.errors import ModelError, ToolError
from toolchain.verification.directives import DIRECTIVES, RULES, check_pragma, parse_pragma
from toolchain.verification.lint import lint_hls

needs_clang = pytest.mark.skipif(
    importlib.util.find_spec("clang") is None and not os.environ.get("CI"),
    reason="libclang is not installed, so generated C++ is not linted: pip install libclang",
)


@pytest.fixture(scope="module")
def projects(tmp_path_factory):
    root = tmp_path_factory.mktemp("networks")
    return {name: generate(name, root / name) for name in NETWORKS}


@needs_clang
@pytest.mark.parametrize("name", NETWORKS)
def test_generated_projects_are_clean(projects, name):
    assert [str(finding) for finding in lint_hls(projects[name])] == []


def test_the_networks_use_every_kernel(projects):
    kernels = {str(p.relative_to(TEMPLATES)) for p in TEMPLATES.glob("**/*.h") if "\nvoid " in p.read_text()}
    # What streams weights has a network of its own, in test_streamed_weights.py.
    kernels -= {"basis.h", "testbench.h", "trace.h", "word.h", "streamed_matrix_vector.h"}
    kernels = {name for name in kernels if not name.startswith(("sim/", "flow/", "host/"))}
    used = {
        header
        for name, folder in projects.items()
        for header in re.findall(r'#include "kernels/(.*)"', (folder / f"src/{name}.cpp").read_text())
    }
    assert kernels - used == set()


# --------------------------------------------------------------------------------------------- plants


def planted(batch: str, project: Path, folder: Path) -> Path:
    """A copy of the project with all plants of a batch."""
    shutil.copytree(project, folder)
    functions, calls, includes = [], [], []
    for number, plant in enumerate(PLANTS):
        if plant.batch != batch:
            continue
        new = re.sub(r"(\w)#", rf"\g<1>{number}", plant.new).replace("@", f"/*plant {number}*/")
        if plant.old:
            edit(folder / plant.file, plant.old, new)
        else:
            includes += re.findall(r"^#include .*$", new, re.MULTILINE)
            functions.append(re.sub(r"^#include .*$", "", new, flags=re.MULTILINE))
            calls.append(f"planted_{number}(n, x);")
    if functions:
        driver = f"void planted_all(int n) {{\nap_int<8> x = 0;\n{chr(10).join(calls)}\n}}"
        first = "\nstatic void residual_frames("
        edit(folder / TOP, first, "\n".join(["", *functions, driver, first]))
        edit(folder / TOP, CALLS, f"    int planted_value = 0;\n    planted_all(planted_value);\n{CALLS}")
        (folder / TOP).write_text("\n".join([*includes, (folder / TOP).read_text()]))
    return folder


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new, 1))


@pytest.fixture(scope="module")
def batches(projects, tmp_path_factory):
    """A batch's folder and findings; each is linted once."""
    known = {}

    def run(batch: str):
        if batch not in known:
            folder = planted(batch, projects["residual"], tmp_path_factory.mktemp("plants") / "hls")
            known[batch] = folder, lint_hls(folder)
        return known[batch]

    return run


@needs_clang
@pytest.mark.parametrize("number", range(len(PLANTS)), ids=lambda n: f"{PLANTS[n].rule}-{n}")
def test_every_rule_finds_what_is_planted(batches, number):
    plant = PLANTS[number]
    folder, findings = batches(plant.batch)
    lines = (folder / plant.file).read_text().splitlines()
    marked = [at for at, line in enumerate(lines, 1) if f"/*plant {number}*/" in line]
    of_rule = [f for f in findings if f.rule == plant.rule and f.file == plant.file and plant.says in f.message]
    hits = [f for f in of_rule if not marked or f.line in marked]
    assert hits, "\n".join(map(str, [plant, marked, *findings]))


def test_every_rule_is_planted():
    assert set(RULES) == {plant.rule for plant in PLANTS}


# --------------------------------------------------------------------------------------------- the tables


@pytest.mark.parametrize(
    "text",
    [
        "array_partition variable=a complete dim=0",
        "ARRAY_PARTITION variable=a type=block factor=N/2",
        "array_reshape variable = a cyclic factor = C::LANES * 2 dim = 1",
        "dependence variable=a type=inter direction=RAW distance=N true",
        "dependence variable=a inter false",
        "interface mode=m_axi port=p bundle=gmem offset=slave depth=16",
        "interface ap_ctrl_none port=return",
        "stream variable=a,b depth=(N > 2 ? N : 2) type=fifo",
        "allocation operation instances=mul limit=4",
        "performance target_ti=1.5 unit=sec",
        "inline off",
    ],
)
def test_legal_pragmas(text):
    assert check_pragma(parse_pragma(text)) == []


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("resource variable=a core=RAM_2P", "directive"),
        ("unroll region", "option"),
        ("pipeline enable_flush", "option"),
        ("stream variable=a off", "option"),
        ("interface port=a", "option"),
        ("interface mode=ap_bus port=a", "value"),
        ("loop_tripcount min=1", "option"),
        ("bind_op variable=a op=mull impl=dsp", "value"),
        ("array_partition variable=a type=cycle factor=2", "value"),
        ("allocation instances=mul limit=4", "option"),
        ("unroll factor=", "value"),
    ],
)
def test_illegal_pragmas(text, rule):
    assert [found for found, _ in check_pragma(parse_pragma(text))] == [rule]


def test_the_table_is_consistent():
    for name, directive in DIRECTIVES.items():
        words = [word for option in directive.options.values() if option.bare for word in option.values]
        assert len(words) == len(set(words)), f"{name}: a bare word of two options"
        assert not set(words) & {key for key, option in directive.options.items() if option.kind == "flag"}
        assert directive.places


# --------------------------------------------------------------------------------------------- errors


def test_no_project(tmp_path):
    with pytest.raises(ModelError, match="exactly one"):
        lint_hls(tmp_path)


@needs_clang
def test_no_top_function(projects, tmp_path):
    folder = shutil.copytree(projects["residual"], tmp_path / "hls")
    (folder / "src/residual.cpp").write_text('#include "residual.h"\n')
    with pytest.raises(ModelError, match="no function residual"):
        lint_hls(folder)


def test_missing_libclang_is_said(projects, monkeypatch):
    monkeypatch.setitem(sys.modules, "clang", None)
    with pytest.raises(ToolError, match="libclang is not installed"):
        lint_hls(projects["residual"])
