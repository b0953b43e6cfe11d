"""What breaks each rule of the lint, planted into the generated project `residual`."""

from dataclasses import dataclass

TOP = "src/residual.cpp"
WORD = "src/kernels/word.h"
CALLS = "        dct::read_axis"
"""Before the first process of the top function."""


@dataclass(frozen=True)
class Plant:
    """In `file`, `old` becomes `new` (once). The finding of `rule` is expected on the line with `@`, saying `says`.

    Without `old`, `new` is a function `planted_#` that the top function reaches. `@` becomes a comment that marks the
    line, a `#` behind a letter the number of the plant. Plants of one batch share a copy of the project.
    """

    rule: str
    new: str
    says: str = ""
    old: str = ""
    batch: str = "bodies"
    file: str = TOP


def body(rule: str, code: str, says: str = "", before: str = "") -> Plant:
    """The body of a function of an integer that no compiler knows and a variable; `before` stands before it."""
    return Plant(rule, f"{before}\nvoid planted_#(int n, ap_int<8>& x) {{ {code} }}", says)


def loop(rule: str, pragma: str, says: str = "") -> Plant:
    return body(rule, f"for (int i = 0; i < 4; ++i) {{ DCT_HLS({pragma})@\n x += i; }}", says)


def array(rule: str, pragma: str, says: str = "") -> Plant:
    """A pragma about `a`, six rows of four."""
    return body(rule, f"int a[6][4]; int b = 1; DCT_HLS({pragma})@\n a[n][0] = b; x = a[0][n];", says)


NAMES_AND_VALUES = [
    loop("directive", "pipelin II = 1", "'pipeline'"),
    loop("directive", "", "empty"),
    loop("option", "pipeline I = 1", "'ii'"),
    loop("option", "pipeline II = 1 II = 2", "twice"),
    loop("option", "pipeline II = 1 style = frp rewind", "rewind"),
    loop("option", "loop_tripcount min = 1", "needs max="),
    array("option", "array_partition complete", "needs variable="),
    array("option", "array_partition variable = a cyclic", "need factor="),
    array("option", "array_partition variable = a complete factor = 2", "no factor"),
    array("option", "dependence variable = a type = inter distance = 2", "distance="),
    array("value", "dependence variable = a type = outer", "'inter'"),
    array("value", "bind_storage variable = a type = rom_3p", "rom_3p"),
    array("value", "array_reshape variable = a complete dim = 3", "dimension 3"),
    array("value", "array_partition variable = a cyclic factor = n", "not constant"),
    array("value", "array_partition variable = a cyclic factor = 3 - 3", "at least"),
    loop("value", "pipeline II = 0", "at least"),
    loop("value", "unroll factor = i + 1", "not constant"),
    body(
        "value",
        "folded_#<3>(x);",
        "factor is 0",
        "template <int N> void folded_#(ap_int<8>& x) { const int HALF = N / 4;\n"
        "for (int i = 0; i < N; ++i) { DCT_HLS(unroll factor = HALF)@\n x += i; } }",
    ),
    array("variable", "array_partition variable = aa complete", "'aa'"),
    array("variable", "array_partition variable = a cyclic factor = PARTS", "'PARTS'"),
    array("variable", "array_partition variable = b complete", "no array"),
    array("variable", "bind_storage variable = b type = ram_1p", "no array"),
    array("variable", "stream variable = b depth = 2", "neither an hls::stream"),
]

PLACES = [
    body("placement", "DCT_HLS(unroll)@\n x = n;", "function"),
    body("placement", "if (n) { DCT_HLS(inline)@\n x = n; }", "region"),
    loop("placement", "interface mode=ap_none port=x", "loop"),
    body("placement", "if (n) DCT_HLS(inline)@\n x = n;", "braces"),
    body("placement", "x = n; DCT_HLS(dataflow)@\n", "before the statements"),
    body("placement", "@ DCT_HLS(dataflow)\nDCT_HLS(pipeline II = 1)\n x = n;", "exclude"),
    body("placement", "x = n;", "outside", "DCT_HLS(inline)@\n"),
    body("interface", "DCT_HLS(interface mode=ap_none port=n)@\n x = n;", "top function only"),
]

LOOPS = [
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
]

TABLE = "inline int one_#(int i) { return i; }\nstatic int (*const table_#[2])(int) = {one_#, one_#};"
MUTUAL = """int other_#(int n);
@int each_#(int n) { return n ? other_#(n) : 0; }
int other_#(int n) { return each_#(n - 1); }"""

CONSTRUCTS = [
    body("dynamic-memory", "int* p = new int(n); x = *p;@", "new"),
    body("dynamic-memory", "int* p = nullptr; delete p;@", "delete"),
    body("dynamic-memory", "x = malloc(n) != nullptr;@", "malloc", "#include <cstdlib>"),
    body("dynamic-memory", "std::vector<int> v; x = int(v.size());@", "std::vector", "#include <vector>"),
    body("dynamic-memory", "std::string s; x = int(s.size());@", "std::basic_string", "#include <string>"),
    body("library", "x = std::abs(n);@", "abs", "#include <cstdlib>"),
    body("library", 'printf("%d", n);@', "printf", "#include <cstdio>"),
    body("function-pointer", "int (*f)(int) = [](int i) { return i; }; x = n;@", "f points"),
    body("function-pointer", "x = table_#[n](n);@", "not known", TABLE),
    body("exception", "if (n) throw 1;@"),
    body("exception", "try { x += 1; } catch (...) {@ }"),
    body("floating-point", "float f = n; x = n;@", "f is"),
    body("floating-point", "x = int(n * 0.5);@"),
    body("floating-point", "x = twice_#(n);@", "f is", "int twice_#(double f) {@ return 1; }"),
    body("state", "static int calls = 0; x = ++calls;@", "frame to frame"),
    body("state", "x = ++total_#;@", "can change", "static int total_# = 0;"),
    body("virtual", "x = 1;", "virtual", "struct base_# { virtual int get() { return 1; } };@"),
    body("recursion", "x = self_#(n);", "self_", "@int self_#(int n) { return n ? self_#(n - 1) : 0; }"),
    body("recursion", "x = each_#(n);", "each_", MUTUAL),
    body("width", "ap_int<4097> wide = n; x = wide;@", "4097"),
    Plant("width", "#define AP_INT_MAX_W 8192 // @", "8192", "#define AP_INT_MAX_W 4096", "width", WORD),
    Plant("syntax", "int nothing = nothing_at_all;@\n" + CALLS, "nothing_at_all", CALLS, "syntax"),
]

LIMITS = [
    body("limit", "for (int i = 0; i < 5000; ++i) { DCT_HLS(unroll)@\n x += i; }", "5000 copies"),
    body("limit", "for (int i = 0; i < 9000; ++i) { DCT_HLS(unroll factor = 4500)@\n x += i; }", "4500 copies"),
    body(
        "limit",
        "for (int i = 0; i < 80; ++i) { DCT_HLS(unroll)\n for (int j = 0; j < 60; ++j) { DCT_HLS(unroll)@\n x = j; } }",
        "4800 copies",
    ),
    body(
        "limit",
        "for (int i = 0; i < 2; ++i) { DCT_HLS(pipeline)\n for (int j = 0; j < 4097; ++j) x += j;@\n }",
        "4097 copies",
    ),
    body("limit", "int a[5000]; DCT_HLS(array_partition variable = a complete)@\n x = a[n];", "5000 parts"),
    body("limit", "int a[70][70]; DCT_HLS(array_reshape variable = a dim = 0)@\n x = a[n][n];", "4900 parts"),
    body("limit", "int a[9000]; DCT_HLS(array_partition variable = a block factor = 4097)@\n x = a[n];", "4097"),
]

WRITE = "        dct::write_axis<write_softmax10_config>(softmax10, frame, frames, softmax10_axis);"
FIRST_INTERFACE = "#pragma HLS interface mode=axis port=x_axis"
LAST_INTERFACE = "#pragma HLS interface mode=axis port=softmax10"
DECLARATION = "        hls::stream<ap_int<"
PROCESS = "        dct::softmax<"

NETWORK = [
    Plant("directive", "#pragma HLS streem variable=add3 @", "streem", "#pragma HLS stream variable=add3 ", "top"),
    Plant("variable", "#pragma HLS stream variable=conv_2 @", "conv_2", "#pragma HLS stream variable=conv2 ", "top"),
    Plant(
        "variable",
        "#pragma HLS stream variable=softmax10_axis @",
        "argument",
        "#pragma HLS stream variable=conv5 ",
        "top",
    ),
    Plant("option", "#pragma HLS interface mode=axis bundle=b port=x_axis @", "bundle", FIRST_INTERFACE, "top"),
    Plant("placement", f"DCT_HLS(dataflow)@\n{WRITE}", "before", WRITE, "top"),
    Plant("dataflow", f"if (x_axis.empty()) return;@\n{PROCESS}", "nothing else", PROCESS, "top"),
    Plant(
        "value",
        "#pragma HLS interface mode=axi port=softmax10_axis @",
        "'axis'",
        "#pragma HLS interface mode=axis port=softmax10_axis",
        "top 2",
    ),
    Plant("dataflow", "", "no dataflow pragma", "DCT_HLS(dataflow)", "top 5"),
    Plant(
        "stream",
        "(relu1_requantize_copy_2, conv2_to_matrix_vector)",
        "relu1_requantize_copy has 0 consumers",
        "(relu1_requantize_copy, conv2_to_matrix_vector)",
        "top 2",
    ),
    Plant("stream", f"hls::stream<ap_int<8> > unused;@\n{DECLARATION}", "unused has 0", DECLARATION, "top 2"),
    Plant("loop-bound", "frame <= frames;@", "not known", "frame < frames;", "top 6"),
    Plant("interface", "", "port return", "DCT_HLS(interface mode=s_axilite port=return)", "top 3"),
    Plant(
        "interface", "#pragma HLS interface mode=s_axilite port=x_axis @\n//", "does not fit", FIRST_INTERFACE, "top 3"
    ),
    Plant(
        "interface",
        f"DCT_HLS(interface mode=ap_none port=conv0_matrix_vector_bias)@\n{LAST_INTERFACE}",
        "no argument",
        LAST_INTERFACE,
        "top 3",
    ),
    Plant(
        "dataflow",
        f"int counter = 0; dct::advance<3>(counter);@\n{PROCESS}",
        "returns a value",
        PROCESS,
        "top 3",
    ),
    Plant("stream", f"{WRITE}@\n{CALLS}", "read before", CALLS, "top 3"),
    Plant(
        "stream",
        "(relu4_requantize, conv5_to_depthwise)",
        "conv5_to_depthwise has 2 producers",
        "(relu4_requantize, relu4_requantize_x2)",
        "top 3",
    ),
    Plant("stream", "", "softmax10_axis is used by 0", WRITE, "top 4"),
    Plant("dataflow", f"int(1);@\n{PROCESS}", "nothing else", PROCESS, "top 4"),
]

PLANTS = [*NAMES_AND_VALUES, *PLACES, *LOOPS, *CONSTRUCTS, *LIMITS, *NETWORK]
