"""What the vendor's tools found stands beside what was modelled, on the terminal and on the page."""

import io
import re

import pytest
from rich.console import Console

from tests.report.test_pictures import convolution
from tests.small import rows
from toolchain.compiler import compile_model
from toolchain.project import load
from toolchain.report.page import write_page
from toolchain.report.tables import report_tables
from toolchain.report.vendor import vendor_table

FOUND = {
    "csynth": {
        "tool": "vitis_hls 2022.1", "clock_ns": 5.0, "estimated_clock_ns": 3.65, "latency_cycles": None,
        "interval_cycles": 1310, "dsp": 12, "bram36": 2.5, "uram": 0, "lut": 34567, "ff": 2345,
        "registers_checked": True,
    },
    "implementation": {"tool": "v++ <b>", "lut": 81234.0, "setup_slack_ns": -0.25},
}  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vendor")
    compile_model(convolution(folder / "m.onnx"), folder / "p", calibrate=rows(16, 2, 8, 8))
    return load(folder / "p").report


def shown(report, tmp_path):
    out = io.StringIO()
    report_tables(report, Console(file=out, width=160, markup=False))
    write_page(report, tmp_path / "page.html")
    return out.getvalue(), (tmp_path / "page.html").read_text()


def test_numbers_beside_each_other(report, tmp_path):
    report = {**report, "vendor": FOUND}
    hardware = report["hardware"]
    heads, table = vendor_table(report)
    assert heads == ["", "modelled", "csynth, vitis_hls 2022.1", "implementation, v++ <b>"]
    found = {name: cells for name, *cells in table}
    assert found["cycles a frame"] == [f"{hardware['interval_cycles']:,}", "1,310", "-"]
    assert found["clock period, ns"] == [f"{1000 / hardware['clock_mhz']:g}", "3.65", "-"]
    assert found["worst setup slack, ns"] == ["-", "-", "-0.25"]
    assert found["LUT"] == [f"{hardware['lut']:,}", "34,567", "81,234"]
    assert found["BRAM36"][1:] == ["2.5", "-"]
    assert found["URAM"] == ["0", "0", "-"]
    assert not {"cycles of latency", "worst hold slack, ns"} & set(found)  # nobody told them
    text, page = shown(report, tmp_path)
    assert re.search(r"│ LUT +│ +[\d,]+ +│ +34,567 +│ +81,234 +│", text.replace("┃", "│"))
    assert '<td class="n">34,567</td><td class="n">81,234</td>' in page
    assert "v++ &lt;b&gt;" in page
    assert "<b>" not in page


def test_before_any_build_there_is_no_table(report, tmp_path):
    assert vendor_table(report)[1] == []
    text, page = shown(report, tmp_path)
    assert "vendor" not in text + page
    assert vendor_table({**report, "vendor": {"csim": {"tool": "g++"}}})[1] == []
