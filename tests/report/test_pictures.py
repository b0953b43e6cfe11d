"""Pictures and tables of a report: whole, escaped, and adding up to the file."""

import copy
import json
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from rich.console import Console

from tests.small import Model, rows, run
from toolchain.compiler import compile_model
from toolchain.report import pictures
from toolchain.report.page import write_page
from toolchain.report.pictures import Drawing, cut, draw_sizes, draw_spectra, size_bars
from toolchain.report.tables import file_parts, report_tables

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "a\x00\ud800\x1b[31m<script>alert('x')</script>&\"\n" + 70 * "名"


def convolution(path):
    """Smooth kernels, for which the transform pays, and a fully connected layer."""
    m = Model()
    m.input("x", 1, 2, 8, 8)
    wave = np.outer(np.hanning(5), np.hanning(5))[1:4, 1:4]
    kernels = m.rng.normal(size=(12, 2, 1, 1)) * wave + 0.02 * m.rng.normal(size=(12, 2, 3, 3))
    m.add("Conv", "x", m.constant(kernels), m.noise(12), name="conv", pads=[1, 1, 1, 1])
    m.add("Relu", "conv", name="relu")
    m.add("Flatten", "relu", name="flat")
    m.output(m.add("Gemm", "flat", m.noise(768, 4), m.noise(4), name="scores"))
    return m.save(path)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    compile_model(convolution(folder / "m.onnx"), folder / "p", calibrate=rows(16, 2, 8, 8), pack="dct")
    return folder / "p"


@pytest.fixture(scope="module")
def coded(project):
    return json.loads((project / "report.json").read_text())


@pytest.fixture
def plain(coded):
    report = copy.deepcopy(coded)
    for layer in report["layers"]:
        layer.update(coded="plain", coding="spatial", storage=None, spectrum=None, alternatives=[])
    report["compression"]["breakdown"] = {"weights": 800, "header": 80}
    return report


def many(report, count):
    """A report with so many coded layers, whose names are hostile."""
    report = copy.deepcopy(report)
    coded = [layer for layer in report["layers"] if layer["spectrum"]]
    report["layers"] = [copy.deepcopy(coded[k % len(coded)]) | {"name": f"{HOSTILE}{k}"} for k in range(count)]
    parts = {}
    for layer in report["layers"]:
        for name, bits in layer["storage"]["bits"].items():
            parts[name] = parts.get(name, 0) + bits
    report["compression"]["breakdown"] = parts | {"biases": 800}
    return report


def parsed(picture):
    return ET.fromstring(picture)  # noqa: S314 - our own output


def elements(picture, tag):
    return list(parsed(picture).iter(SVG + tag))


def titles(picture):
    return [title.text for title in elements(picture, "title")]


def page(report, tmp_path):
    write_page(report, tmp_path / "page.html")
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def test_bars_add_up_to_the_layers_and_to_the_file(project, coded):
    *layers, (_, rest) = size_bars(coded)
    wanted = {layer["name"]: layer["storage"]["bits"] for layer in coded["layers"] if layer["storage"]}
    assert dict(layers) == wanted
    assert sum(sum(bits.values()) for _, bits in [*layers, ("", rest)]) == 8 * (project / "weights.bin").stat().st_size
    assert min(rest.values()) >= 0


def test_bars_are_drawn_as_long_as_they_say(coded):
    scale = set()
    drawn = 0.0
    for rectangle in elements(draw_sizes(coded), "rect"):
        for title in rectangle.iter(SVG + "title"):
            bytes_ = float(title.text.rpartition(": ")[2].removesuffix(" bytes").replace(",", ""))
            drawn += 8 * bytes_
            if float(rectangle.get("width")) > 50:  # coordinates have two digits
                scale.add(round(float(rectangle.get("width")) / bytes_, 2))
    assert len(scale) == 1
    assert drawn == sum(coded["compression"]["breakdown"].values())


def test_parts_of_the_file_add_up(project, coded):
    *parts, (name, total, _) = file_parts(coded)
    numbers = [float(amount.replace(",", "")) for _, amount, _ in parts]
    assert name == "weights.bin"
    assert sum(numbers) == float(total.replace(",", "")) == (project / "weights.bin").stat().st_size


def test_a_map_has_every_frequency_of_every_coded_layer(coded):
    layers = [layer for layer in coded["layers"] if layer["spectrum"]]
    assert "conv" in [layer["name"] for layer in layers]
    wanted = sum(len(row) for layer in layers for row in layer["spectrum"])
    assert len(elements(draw_spectra(coded), "rect")) == wanted
    for layer in layers:
        assert sum(map(sum, layer["spectrum"])) == pytest.approx(1)


def test_shares_are_written_in_three_letters(coded):
    report = copy.deepcopy(coded)
    report["layers"] = [layer for layer in report["layers"] if layer["spectrum"]][:1]
    report["layers"][0]["spectrum"] = [[0.8996, 0.0994, 0.0004, 0.0006, 0.0]]
    written = [text.text for text in elements(draw_spectra(report), "text")]
    assert written[2:] == ["90", "9.9", "<.1", "0.1", "0"]


@pytest.mark.parametrize("count", [1, 60])
def test_everything_is_inside_the_picture(coded, count):
    report = many(coded, count)
    for picture in (draw_sizes(report), draw_spectra(report)):
        width, height = map(float, parsed(picture).get("viewBox").split()[2:])
        assert len(set(titles(picture))) >= count
        for box in elements(picture, "rect"):
            x, y, w, h = (float(box.get(key)) for key in ("x", "y", "width", "height"))
            assert x >= 0
            assert y >= 0
            assert x + w <= width
            assert y + h <= height
        for text in elements(picture, "text"):
            shown = (text.text or "") + "".join(child.tail or "" for child in text)
            length = pictures._letters(shown) * pictures.LETTER * float(text.get("font-size"))
            start = float(text.get("x")) - {"start": 0, "middle": 0.5, "end": 1}[text.get("text-anchor")] * length
            assert start >= 0, shown
            assert start + length <= width, shown
            assert float(text.get("y")) < height


def test_no_coded_layer_no_picture(plain, tmp_path):
    assert draw_sizes(plain) == draw_spectra(plain) == ""
    text = page(plain, tmp_path)
    assert "<svg" not in text
    assert "No layer's weights are coded" in text
    assert "No layer is coded in frequency" in text


def test_a_page_with_hostile_names(coded, tmp_path):
    text = page(many(coded, 3), tmp_path)
    assert "<script" not in text
    assert text.count("<svg") == 2
    for picture in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        assert elements(picture, "title")  # well-formed, or it would not be parsed
        assert "\x1b" not in picture


def test_a_hostile_name_is_a_tooltip_in_full(coded):
    picture = draw_spectra(many(coded, 1))
    assert any("<script>alert('x')</script>&\"" in title and r"\x1b" in title for title in titles(picture))


@pytest.mark.parametrize("letters", [3, 8, 9])
@pytest.mark.parametrize("text", ["", "conv", "backbone/stage3/conv2/kernel", 20 * "名", "a" * 9])
def test_cut(text, letters):
    short = cut(text, letters)
    assert pictures._letters(short) <= letters
    if short != text:
        head, _, tail = short.partition("…")
        assert text.startswith(head)
        assert text.endswith(tail)


def test_what_xml_cannot_hold_is_written_out():
    drawing = Drawing(10, 10, "\x00")
    drawing.text(0, 0, "\x01\ud800\ufffe")
    drawing.circle(1, 1, 1, "#000000", "]]>")
    assert [text.text for text in elements(str(drawing), "text")] == [r"\x01\ud800\ufffe"]


def test_tables_show_how_weights_are_coded(coded):
    out = Console(record=True, width=200)
    report_tables(coded, out)
    text = out.export_text()
    for layer in coded["layers"]:
        if layer["storage"]:
            assert f"{layer['storage']['bits_per_weight']:.2f}" in text
            assert layer["coded"] in text
            assert f"{layer['multiplications']['packed']:,}" in text
    assert f"{sum(coded['compression']['breakdown'].values()) // 8:,}" in text


def test_tables_of_plain_weights(plain):
    out = Console(record=True, width=200)
    report_tables(plain, out)
    assert "plain" in out.export_text()


def test_the_command_writes_the_page(project, tmp_path):
    assert run("report", project, "--html", tmp_path / "page.html") == 0
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count("<svg") == 2
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
