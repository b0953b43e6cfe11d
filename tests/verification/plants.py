"""What breaks each rule of the lint, planted into the generated project `residual`."""

from dataclasses import dataclass


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
FORK_TWO = """hls::stream<ap_int<C::BITS> >& out0,
          hls::stream<ap_int<C::BITS> >& out1) {"""
READ_AXIS = "template <class C, class BEAT>\nvoid read_axis"
MUTUAL = """int planted_#(int n);
@inline int other_#(int n) { return n ? planted_#(n) : 0; }
inline int planted_#(int n) { return other_#(n - 1); }
"""


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
    Plant(
        "option",
        POOL,
        "array_partition variable = sums complete",
        "array_partition variable = sums complete factor = 2@",
    ),
    Plant("option", POOL, "distance = WORDS true", "distance = WORDS@", "distance="),
    Plant("option", DEPTH, "DCT_HLS(pipeline II = 1)", "DCT_HLS(pipeline II = 1 II = 2)@", "twice"),
    Plant("option", SOFTMAX, "DCT_HLS(pipeline II = 1)", "DCT_HLS(pipeline II = 1 style = frp rewind)@", "rewind"),
    Plant("option", TOP, "mode=axis port=x_axis", "mode=axis bundle=b port=x_axis@", "bundle", "top"),
    Plant("value", POOL, "type = inter", "type = outer@", "'inter'"),
    Plant("value", SOFTMAX, "type = rom_np", "type = rom_3p@"),
    Plant("value", REPACK, "pipeline II = 1", "pipeline II = 0@", "at least"),
    Plant("value", REQUANTIZE, "DCT_HLS(unroll)", "DCT_HLS(unroll factor = lane + 1)@", "not constant"),
    Plant(
        "value",
        WINDOW,
        "const word padding",
        "DCT_HLS(array_reshape variable = rows complete dim = 3)@ const word padding",
    ),
    Plant("value", TOP, "mode=axis port=softmax10_axis", "mode=axi port=softmax10_axis@", "'axis'", "top 2"),
    # What pragmas name.
    Plant("variable", DEPTH, "variable = sums complete", "variable = summs complete@", "summs"),
    Plant("variable", DEPTH, "cyclic factor = OUTPUTS", "cyclic factor = OUTPUT@", "OUTPUT"),
    Plant(
        "variable",
        WINDOW,
        "int loaded = ",
        "DCT_HLS(array_partition variable = load_slot complete)@ int loaded = ",
        "no array",
    ),
    Plant("variable", REPACK, "words:", "DCT_HLS(stream variable = wide depth = 2)@ words:", "hls::stream"),
    body("variable", "int s = n; DCT_HLS(bind_storage variable = s type = ram_1p)@\n x = s;", "no array"),
    Plant(
        "variable",
        TOP,
        "#pragma HLS stream variable=conv5 ",
        "#pragma HLS stream variable=softmax10_axis @",
        "argument",
        "top",
    ),
    Plant(
        "variable", TOP, "#pragma HLS stream variable=conv2 ", "#pragma HLS stream variable=conv_2 @", "conv_2", "top"
    ),
    # Where pragmas stand.
    Plant("placement", MATRIX, "pixels:", "DCT_HLS(unroll)@ pixels:", "function"),
    Plant("placement", ADD, "words:", "{ DCT_HLS(inline)@ } words:", "region"),
    Plant("placement", AXIS, READ_AXIS, f"DCT_HLS(inline)@ {READ_AXIS}", "outside"),
    Plant(
        "placement",
        AXIS,
        "wide[lane] = values[lane];",
        "if (lane > 0) DCT_HLS(inline)@ wide[lane] = values[lane];",
        "braces",
    ),
    Plant("placement", TOP, "dct::write_axis", "DCT_HLS(dataflow)@ dct::write_axis", "before", "top"),
    Plant("placement", FORK, FORK_TWO, FORK_TWO + "@ DCT_HLS(dataflow)\nDCT_HLS(pipeline II = 1)\n", "exclude"),
    # The interface of the top function.
    Plant("interface", TOP, "DCT_HLS(interface mode=s_axilite port=return)", "", "port return", "top 3"),
    Plant(
        "interface",
        TOP,
        "#pragma HLS interface mode=axis port=x_axis",
        "#pragma HLS interface mode=s_axilite port=x_axis //@\n//",
        "does not fit",
        "top 3",
    ),
    Plant(
        "interface",
        REQUANTIZE,
        "enum { LANES",
        "DCT_HLS(interface mode=ap_none port=left)@ enum { LANES",
        "top function only",
    ),
    Plant(
        "interface",
        TOP,
        "DCT_HLS(dataflow)",
        "DCT_HLS(interface mode=ap_none port=conv0_matrix_vector_bias)@ DCT_HLS(dataflow)",
        "no argument",
        "top 3",
    ),
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
    body(
        "function-pointer",
        "x = table_#[n](n);@",
        "not known",
        "inline int one_#(int i) { return i; }\nstatic int (*const table_#[2])(int) = {one_#, one_#};",
    ),
    body("exception", "if (n) throw 1;@"),
    body("exception", "try { x += 1; } catch (...) {@ }"),
    body("floating-point", "float f = n; x = n;@", "f is"),
    body("floating-point", "x = int(n * 0.5);@"),
    body("floating-point", "x = twice_#(n);@", "f is", "inline int twice_#(double f) {@ return 1; }"),
    body("state", "static int calls = 0; x = ++calls;@", "frame to frame"),
    body("state", "x = ++total_#;@", "can change", "static int total_# = 0;"),
    body("virtual", "x = 1;", "virtual", "struct base_# { virtual int get() { return 1; } };@"),
    Plant(
        "recursion", MATRIX, "", "@inline int planted_#(int n) { return n ? planted_#(n - 1) : 0; }\n", batch="bodies"
    ),
    Plant("recursion", MATRIX, "", MUTUAL, batch="bodies"),
    # Limits.
    body("limit", "for (int i = 0; i < 5000; ++i) { DCT_HLS(unroll)@\n x += i; }", "5000 copies"),
    body("limit", "for (int i = 0; i < 9000; ++i) { DCT_HLS(unroll factor = 4500)@\n x += i; }", "4500 copies"),
    body(
        "limit",
        "for (int i = 0; i < 80; ++i) { DCT_HLS(unroll)\nfor (int j = 0; j < 60; ++j) { DCT_HLS(unroll)@\n x += j; } }",
        "4800 copies",
    ),
    body(
        "limit",
        "for (int i = 0; i < 2; ++i) { DCT_HLS(pipeline)\nfor (int j = 0; j < 4097; ++j) x += j;@\n }",
        "4097 copies",
    ),
    body("limit", "int a[5000]; DCT_HLS(array_partition variable = a complete)@\n a[0] = n; x = a[0];", "5000 parts"),
    body(
        "limit",
        "int a[70][70]; DCT_HLS(array_reshape variable = a complete dim = 0)@\n a[0][0] = n; x = a[0][0];",
        "4900 parts",
    ),
    body(
        "limit",
        "int a[9000]; DCT_HLS(array_partition variable = a cyclic factor = 4097)@\n a[0] = n; x = a[0];",
        "4097 parts",
    ),
    body("width", "ap_int<4097> wide = n; x = wide;@", "4097"),
    Plant("width", WORD, "#define AP_INT_MAX_W 4096", "#define AP_INT_MAX_W 8192 // @", "8192", "width"),
    # The network of processes.
    Plant(
        "stream",
        TOP,
        "(relu1_requantize_copy, conv2_to_matrix_vector)",
        "(relu1_requantize_copy_2, conv2_to_matrix_vector)",
        "relu1_requantize_copy has 0 consumers",
        "top 2",
    ),
    Plant(
        "stream",
        TOP,
        "hls::stream<ap_int<",
        "hls::stream<ap_int<8> > unused;@\nhls::stream<ap_int<",
        "unused has 0 producers",
        "top 2",
    ),
    Plant(
        "stream",
        TOP,
        "(relu4_requantize, relu4_requantize_x2)",
        "(relu4_requantize, conv5_to_depthwise)",
        "conv5_to_depthwise has 2 producers",
        "stream",
    ),
    Plant(
        "stream",
        TOP,
        "dct::read_axis",
        "dct::write_axis<write_softmax10_config>(softmax10, softmax10_axis);@\ndct::read_axis",
        "read before",
        "stream",
    ),
    Plant(
        "stream",
        TOP,
        "dct::write_axis<write_softmax10_config>(softmax10, softmax10_axis);",
        "",
        "softmax10_axis is used by 0",
        "stream 2",
    ),
    Plant("dataflow", TOP, "DCT_HLS(dataflow)", "", "no dataflow pragma", "top 2"),
    Plant("dataflow", TOP, "dct::softmax<", "if (x_axis.empty()) return;@ \ndct::softmax<", "nothing else", "top"),
    Plant("dataflow", TOP, "dct::softmax<", "int(1);@ \ndct::softmax<", "nothing else", "stream 2"),
    Plant(
        "dataflow",
        TOP,
        "dct::softmax<",
        "int counter = 0; dct::advance<3>(counter);@\ndct::softmax<",
        "returns a value",
        "top 3",
    ),
    Plant(
        "syntax",
        POOL,
        "typedef typename C::product_t product;",
        "typedef typename C::produkt_t product;@",
        "produkt_t",
        "syntax",
    ),
]
"""`@` becomes the marker, `#` behind a letter the plant's number."""
