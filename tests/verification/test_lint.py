"""Generated projects have no finding, and every rule finds what is planted to break it.

Several plants share one copy of a project and one run of the lint, each on a line of its own marked `/*plant N*/`;
those of one batch do not touch each other.
"""

import importlib.util
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hls_templates.harness import TEMPLATES
from tests.verification.networks import NETWORKS, generate
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
    kernels -= {"testbench.h", "trace.h", "word.h"}
    kernels = {name for name in kernels if not name.startswith("sim/")}
    used = {
        header
        for name, folder in projects.items()
        for header in re.findall(r'#include "kernels/(.*)"', (folder / f"src/{name}.cpp").read_text())
    }
    assert kernels - used == set()


# --------------------------------------------------------------------------------------------- plants


@dataclass(frozen=True)
class Plant:
    """In `file`, `old` becomes `new` (once). The finding of `rule` is expected on the line with `@`, saying `says`."""

    rule: str
    file: str
    old: str
    new: str
    says: str = ""
    batch: str = "kernels"


MATRIX, WINDOW, FORK, ADD = (f"src/kernels/{name}.h" for name in ("matrix_vector", "sliding_window", "fork", "ops/add"))
DEPTH, POOL, SOFTMAX, REPACK = (
    f"src/kernels/{name}.h" for name in ("depthwise", "ops/average_pool", "ops/softmax", "repack")
)
REQUANTIZE, AXIS, WORD = (f"src/kernels/{name}.h" for name in ("ops/requantize", "axis", "word"))
TOP = "src/residual.cpp"


def body(rule: str, code: str, says: str = "", before: str = "") -> Plant:
    """A function with this body, called by a kernel; `before` stands before the function."""
    return Plant(
        rule, MATRIX, "", f"{before}\ninline void planted_#(int n, ap_int<8>& x) {{ {code} }}\n", says, "bodies"
    )


PLANTS = [
    # Names, options and values of pragmas.
    Plant("directive", MATRIX, "array_partition variable = sums", "array_partiton variable = sums@", "array_partition"),
    Plant("directive", ADD, "DCT_HLS(unroll)", "DCT_HLS()@", "empty"),
    Plant("directive", TOP, "#pragma HLS stream variable=add3 ", "#pragma HLS streem variable=add3 @", batch="top"),
    Plant("option", FORK, "pipeline II = 1", "pipeline I = 1@", "'ii'"),
    Plant("option", MATRIX, "array_reshape variable = vector complete", "array_reshape complete@", "needs variable="),
    Plant("option", MATRIX, "cyclic factor = PE", "cyclic@", "need factor="),
    Plant("option", POOL, "array_partition variable = sums complete", "array_partition variable = sums complete factor = 2@"),
    Plant("option", POOL, "distance = WORDS true", "distance = WORDS@", "distance="),
    Plant("option", DEPTH, "DCT_HLS(pipeline II = 1)", "DCT_HLS(pipeline II = 1 II = 2)@", "twice"),
    Plant("option", SOFTMAX, "DCT_HLS(pipeline II = 1)", "DCT_HLS(pipeline II = 1 style = frp rewind)@", "rewind"),
    Plant("option", TOP, "mode=axis port=x_axis", "mode=axis bundle=b port=x_axis@", "bundle", "top"),
    Plant("value", POOL, "type = inter", "type = outer@", "'inter'"),
    Plant("value", SOFTMAX, "type = rom_np", "type = rom_3p@"),
    Plant("value", REPACK, "pipeline II = 1", "pipeline II = 0@", "at least"),
    Plant("value", REQUANTIZE, "DCT_HLS(unroll)", "DCT_HLS(unroll factor = lane + 1)@", "not constant"),
    Plant("value", WINDOW, "const word padding", "DCT_HLS(array_reshape variable = rows complete dim = 3)@ const word padding"),
    Plant("value", TOP, "mode=axis port=softmax10_axis", "mode=axi port=softmax10_axis@", "'axis'", "top 2"),
    # What pragmas name.
    Plant("variable", DEPTH, "variable = sums complete", "variable = summs complete@", "summs"),
    Plant("variable", DEPTH, "cyclic factor = OUTPUTS", "cyclic factor = OUTPUT@", "OUTPUT"),
    Plant("variable", WINDOW, "int loaded = ", "DCT_HLS(array_partition variable = load_slot complete)@ int loaded = ", "no array"),
    Plant("variable", REPACK, "words:", "DCT_HLS(stream variable = wide depth = 2)@ words:", "hls::stream"),
    body("variable", "int s = n; DCT_HLS(bind_storage variable = s type = ram_1p)@\n x = s;", "no array"),
    Plant("variable", TOP, "#pragma HLS stream variable=conv5 ", "#pragma HLS stream variable=softmax10_axis @", "argument", "top"),
    Plant("variable", TOP, "#pragma HLS stream variable=conv2 ", "#pragma HLS stream variable=conv_2 @", "conv_2", "top"),
    # Where pragmas stand.
    Plant("placement", MATRIX, "pixels:", "DCT_HLS(unroll)@ pixels:", "function"),
    Plant("placement", ADD, "words:", "{ DCT_HLS(inline)@ } words:", "region"),
    Plant("placement", AXIS, "template <class C, class BEAT>\nvoid read_axis", "DCT_HLS(inline)@ template <class C, class BEAT>\nvoid read_axis", "outside"),
    Plant("placement", AXIS, "wide[lane] = values[lane];", "if (lane > 0) DCT_HLS(inline)@ wide[lane] = values[lane];", "braces"),
    Plant("placement", TOP, "dct::write_axis", "DCT_HLS(dataflow)@ dct::write_axis", "before", "top"),
    Plant("placement", FORK, "void fork(hls::stream<ap_int<C::BITS> >& in, hls::stream<ap_int<C::BITS> >& out0,\n          hls::stream<ap_int<C::BITS> >& out1) {", "void fork(hls::stream<ap_int<C::BITS> >& in, hls::stream<ap_int<C::BITS> >& out0,\n          hls::stream<ap_int<C::BITS> >& out1) {@ DCT_HLS(dataflow)\nDCT_HLS(pipeline II = 1)\n", "exclude"),
    # The interface of the top function.
    Plant("interface", TOP, "DCT_HLS(interface mode=s_axilite port=return)", "", "port return", "top 3"),
    Plant("interface", TOP, "#pragma HLS interface mode=axis port=x_axis", "#pragma HLS interface mode=s_axilite port=x_axis //@\n//", "does not fit", "top 3"),
    Plant("interface", REQUANTIZE, "enum { LANES", "DCT_HLS(interface mode=ap_none port=left)@ enum { LANES", "top function only"),
    Plant("interface", TOP, "DCT_HLS(dataflow)", "DCT_HLS(interface mode=ap_none port=conv0_matrix_vector_bias)@ DCT_HLS(dataflow)", "no argument", "top 3"),
    # Loops.
    body("loop-bound", "for (int i = 0; i < n; ++i) x += i;@", "constant"),
    body("loop-bound", "for (int i = n; i < 4; ++i) x += i;@", "first value"),
    body("loop-bound", "for (int i = 0; i < 4; i += n) x += i;@", "step"),
    body("loop-bound", "for (int i = 0; i < 4;) x += i++;@", "must have"),
    body("loop-bound", "for (int i = 0; i < 4; ++i) if (n) i = 2;@", "changes"),
    body("loop-bound", "for (int i = 0; i < 4; --i) x += i;@", "does not end"),
    body("loop-kind", "while (x > 0) x -= 1;@", "while"),
    body("loop-kind", "do x -= 1; while (x > 0);@", "do loop"),
    body("loop-kind", "again: x -= 1; if (x > 0) goto again;@", "goto"),
    body("loop-kind", "const int all[2] = {1, 2}; for (int one : all) x += one;@", "range"),
    # What has no hardware.
    body("dynamic-memory", "int* p = new int(n); x = *p;@", "new"),
    body("dynamic-memory", "int* p = nullptr; delete p;@", "delete"),
    body("dynamic-memory", "x = malloc(n) != nullptr;@", "malloc", "#include <cstdlib>"),
    body("dynamic-memory", "std::vector<int> v; x = int(v.size());@", "std::vector", "#include <vector>"),
    body("dynamic-memory", "std::string s; x = int(s.size());@", "std::basic_string", "#include <string>"),
    body("library", "x = std::abs(n);@", "abs", "#include <cstdlib>"),
    body("library", 'std::printf("%d", n);@', "printf", "#include <cstdio>"),
    body("function-pointer", "int (*f)(int) = [](int i) { return i; }; x = n;@", "f points"),
    body("function-pointer", "x = table_#[n](n);@", "not known", "inline int one_#(int i) { return i; }\nstatic int (*const table_#[2])(int) = {one_#, one_#};"),
    body("exception", "if (n) throw 1;@"),
    body("exception", "try { x += 1; } catch (...) {@ }"),
    body("floating-point", "float f = n; x = n;@", "f is"),
    body("floating-point", "x = int(n * 0.5);@"),
    body("floating-point", "x = twice_#(n);@", "f is", "inline int twice_#(double f) {@ return 1; }"),
    body("state", "static int calls = 0; x = ++calls;@", "frame to frame"),
    body("state", "x = ++total_#;@", "can change", "static int total_# = 0;"),
    body("virtual", "x = 1;", "virtual", "struct base_# { virtual int get() { return 1; } };@"),
    Plant("recursion", MATRIX, "", "@inline int planted_#(int n) { return n ? planted_#(n - 1) : 0; }\n", batch="bodies"),
    Plant("recursion", MATRIX, "", "int planted_#(int n);\n@inline int other_#(int n) { return n ? planted_#(n) : 0; }\ninline int planted_#(int n) { return other_#(n - 1); }\n", batch="bodies"),
    # Limits.
    body("limit", "for (int i = 0; i < 5000; ++i) { DCT_HLS(unroll)@\n x += i; }", "5000 copies"),
    body("limit", "for (int i = 0; i < 9000; ++i) { DCT_HLS(unroll factor = 4500)@\n x += i; }", "4500 copies"),
    body("limit", "for (int i = 0; i < 80; ++i) { DCT_HLS(unroll)\nfor (int j = 0; j < 60; ++j) { DCT_HLS(unroll)@\n x += j; } }", "4800 copies"),
    body("limit", "for (int i = 0; i < 2; ++i) { DCT_HLS(pipeline)\nfor (int j = 0; j < 4097; ++j) x += j;@\n }", "4097 copies"),
    body("limit", "int a[5000]; DCT_HLS(array_partition variable = a complete)@\n a[0] = n; x = a[0];", "5000 parts"),
    body("limit", "int a[70][70]; DCT_HLS(array_reshape variable = a complete dim = 0)@\n a[0][0] = n; x = a[0][0];", "4900 parts"),
    body("limit", "int a[9000]; DCT_HLS(array_partition variable = a cyclic factor = 4097)@\n a[0] = n; x = a[0];", "4097 parts"),
    body("width", "ap_int<4097> wide = n; x = wide;@", "4097"),
    Plant("width", WORD, "#define AP_INT_MAX_W 4096", "#define AP_INT_MAX_W 8192 // @", "8192", "width"),
    # The network of processes.
    Plant("stream", TOP, "(relu1_requantize_copy, conv2_to_matrix_vector)", "(relu1_requantize_copy_2, conv2_to_matrix_vector)", "relu1_requantize_copy has 0 consumers", "top 2"),
    Plant("stream", TOP, "hls::stream<ap_int<", "hls::stream<ap_int<8> > unused;@\nhls::stream<ap_int<", "unused has 0 producers", "top 2"),
    Plant("stream", TOP, "(relu4_requantize, relu4_requantize_x2)", "(relu4_requantize, conv5_to_depthwise)", "conv5_to_depthwise has 2 producers", "stream"),
    Plant("stream", TOP, "dct::read_axis", "dct::write_axis<write_softmax10_config>(softmax10, softmax10_axis);@\ndct::read_axis", "read before", "stream"),
    Plant("stream", TOP, "dct::write_axis<write_softmax10_config>(softmax10, softmax10_axis);", "", "softmax10_axis is used by 0", "stream 2"),
    Plant("dataflow", TOP, "DCT_HLS(dataflow)", "", "no dataflow pragma", "top 2"),
    Plant("dataflow", TOP, "dct::softmax<", "if (x_axis.empty()) return;@ \ndct::softmax<", "nothing else", "top"),
    Plant("dataflow", TOP, "dct::softmax<", "int(1);@ \ndct::softmax<", "nothing else", "stream 2"),
    Plant("dataflow", TOP, "dct::softmax<", "int counter = 0; dct::advance<3>(counter);@\ndct::softmax<", "returns a value", "top 3"),
    Plant("syntax", POOL, "typedef typename C::product_t product;", "typedef typename C::produkt_t product;@", "produkt_t", "syntax"),
]  # fmt: skip
"""`@` becomes the marker; `#` in a body the plant's number."""


def planted(batch: str, project: Path, folder: Path) -> Path:
    """A copy of the project with all plants of a batch."""
    shutil.copytree(project, folder)
    texts: dict[str, str] = {}

    def edit(file: str, old: str, new: str) -> None:
        text = texts.setdefault(file, (folder / file).read_text())
        assert old in text, f"{old!r} is not in {file}"
        texts[file] = text.replace(old, new, 1)

    for number, plant in enumerate(PLANTS):
        if plant.batch != batch:
            continue
        new = re.sub(r"(\w)#", rf"\g<1>{number}", plant.new)
        new = new.replace("@", f"/*plant {number}*/")
        if plant.old:
            edit(plant.file, plant.old, new)
        else:
            arguments = "PE, planted_argument" if "ap_int<8>&" in new else "PE"
            edit(plant.file, "template <class C, class B>", f"{new}\ntemplate <class C, class B>")
            edit(
                plant.file,
                "    const int SIMD = C::SIMD;",
                f"    const int SIMD = C::SIMD;\nplanted_{number}({arguments});",
            )
            includes = re.findall(r"#include .*\n", texts[plant.file][texts[plant.file].index("namespace dct") :])
            for include in includes:
                texts[plant.file] = include + texts[plant.file].replace(include, "", 1)
    if batch == "bodies":
        edit(MATRIX, "    const int SIMD = C::SIMD;", "    const int SIMD = C::SIMD;\nap_int<8> planted_argument = 0;")
    for file, text in texts.items():
        (folder / file).write_text(text)
    return folder


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
