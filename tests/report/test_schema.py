"""A report whose checksum is right and whose content is not: one clear message, never an exception of Python's."""

import copy
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.report.test_pictures import convolution
from tests.small import rows, run
from toolchain.compiler import compile_model
from toolchain.report.page import write_page
from toolchain.report.schema import find_fault
from toolchain.report.tables import compile_summary, report_tables

OPTIONAL = {
    "embedded",
    "targets",
    "weight_memory",
    "capacity",
    "lanes",
    "pixels",
    "nonzeros",
    "copies",
    "binds",
    "schedule_bits",
    "operand_bits",
    "uram",
    "vendor",
}
WRONG = (None, True, -1, 1.5, 10**400, float("nan"), "12", "", [], {}, [[]], [1], {"a": 1}, {"a": {}})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("schema")
    compile_model(convolution(folder / "m.onnx"), folder / "p", calibrate=rows(16, 2, 8, 8), pack="dct", target="all")
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    report = json.loads((folder / "p/report.json").read_text())
    # What this network happens to have none of.
    report["hardware"]["exceeded"] = {"dsp": {"used": 12, "limit": 10.5}}
    report["hardware"]["interval_wanted"] = 1
    report["layers"][0]["capacity"] = {"nonzeros": 3, "weight_bits": 8}
    report["vendor"] = {"csynth": {"tool": "vitis_hls 2022.1", "lut": 12, "bram36": 2.5, "dsp": None, "checked": True}}
    assert any(layer["alternatives"] for layer in report["layers"])
    return report


def places(value, path=()):
    """All keys and positions in a report."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*path, key)
            yield from places(value[key], (*path, key))


def changed(report, path, change):
    report = copy.deepcopy(report)
    inner = report
    for key in path[:-1]:
        inner = inner[key]
    change(inner, path[-1])
    return report


def put(value):
    return lambda inner, key: inner.__setitem__(key, value)


def show(report, folder):
    """All that reads a report and writes text."""
    console = Console(quiet=True, markup=False)
    compile_summary(report, folder, console, console)
    report_tables(report, console)
    write_page(report, folder / "page.html")


def written(folder, report):
    """The project with another report, its checksum in program.json made right."""
    text = json.dumps(report)
    (folder / "p/report.json").write_text(text)
    program = json.loads((folder / "p/program.json").read_text())
    program["report"] = {"sha256": hashlib.sha256(text.encode()).hexdigest()}
    (folder / "p/program.json").write_text(json.dumps(program))
    return folder / "p"


def test_a_report_is_sound(whole, folder):
    assert find_fault(whole) is None
    show(whole, folder)


def test_every_missing_key_is_named(whole, folder):
    for path in places(whole):
        if isinstance(path[-1], int):
            continue
        report = changed(whole, path, lambda inner, key: inner.pop(key))
        fault = find_fault(report)
        if fault is None:
            assert (
                path[-1] in OPTIONAL or "vendor" in path or path[-2] in ("breakdown", "bits", "exceeded", "constants")
            ), path
            show(report, folder)
        else:
            assert path[0] in fault, path


def test_what_passes_can_be_shown(whole, folder):
    """Every value replaced by others: either the fault is found and named, or nothing stumbles over it."""
    for path in places(whole):
        for value in WRONG:
            report = changed(whole, path, put(value))
            fault = find_fault(report)
            if fault is None:
                show(report, folder)
            else:
                assert str(path[0]) in fault, (path, value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@given(data=st.data())
def test_random_damage(whole, folder, data):
    report = whole
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(list(places(report)) or [("model",)]))
        report = changed(report, path, put(data.draw(VALUES)))
    if find_fault(report) is None:
        show(report, folder)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("layers",), {}, "layers: input should be a valid list"),
        (("layers",), None, "layers: input should be a valid list"),
        (("layers", 0), 3, "layers[0]: "),
        (("layers", 0, "cycles"), "592", "layers[0].cycles: input should be a valid integer"),
        (("layers", 0, "engine"), {}, "layers[0].engine.unit: is missing"),
        (("layers", 0, "engine"), {"unit": "sparse", "lanes": 3}, "layers[0].engine: lanes and pixels come together"),
        (("layers", 0, "alternatives"), [{"coded": "plain", "relative_error": 1.0}], "layers[0].alternatives[0]: bits"),
        (("hardware",), {}, "hardware.latency_cycles: is missing"),
        (("hardware", "interval_cycles"), 0, "hardware.interval_cycles: input should be greater than 0"),
        (("compression", "breakdown", "weights"), [], "compression.breakdown.weights: "),
        (("board",), 7, "board: input should be an instance of str"),
    ],
)
def test_the_command_names_file_and_key(whole, folder, path, value, said, capsys):
    project = written(folder, changed(whole, path, put(value)))
    for options in ((), ("--json",), ("--html", folder / "refused.html")):
        assert run("report", project, *options) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.count("\n") == 1
        assert f"report.json: is damaged: {said}" in shown.err
    assert not (folder / "refused.html").exists()


def test_other_keys_and_odd_names_are_no_fault(whole, folder, capsys):
    report = copy.deepcopy(whole)
    report["more"] = report["layers"][0]["more"] = {"a\udcff": [None]}
    report["model"] = report["layers"][0]["name"] = "a\udcff[/b]\n名"
    assert run("report", written(folder, report)) == 0
    assert "[/b]" in capsys.readouterr().out


def test_a_key_cannot_forge_lines(whole, folder, capsys):
    report = changed(whole, ("compression", "breakdown", "header"), put(3))
    report["compression"]["breakdown"]["x\nerror: \x1b[31m\udcff"] = "3"
    assert run("report", written(folder, report)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "\x1b" not in said
