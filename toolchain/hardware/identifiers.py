"""C++ names for names that a model chose."""

from __future__ import annotations

import re

KEYWORDS = frozenset(
    [
        "alignas",
        "alignof",
        "and",
        "asm",
        "auto",
        "bool",
        "break",
        "case",
        "catch",
        "char",
        "class",
        "const",
        "continue",
        "default",
        "delete",
        "do",
        "double",
        "else",
        "enum",
        "explicit",
        "export",
        "extern",
        "false",
        "float",
        "for",
        "friend",
        "goto",
        "if",
        "inline",
        "int",
        "long",
        "mutable",
        "namespace",
        "new",
        "not",
        "operator",
        "or",
        "private",
        "protected",
        "public",
        "register",
        "return",
        "short",
        "signed",
        "sizeof",
        "static",
        "struct",
        "switch",
        "template",
        "this",
        "throw",
        "true",
        "try",
        "typedef",
        "typename",
        "union",
        "unsigned",
        "using",
        "virtual",
        "void",
        "volatile",
        "wchar_t",
        "while",
        "xor",
        "hls",
        "dct",
        "main",
        "std",
    ]
)


RESERVED = KEYWORDS | {
    "and_eq", "bitand", "bitor", "char16_t", "char32_t", "char8_t", "co_await", "co_return", "co_yield", "compl",
    "concept", "const_cast", "consteval", "constexpr", "constinit", "decltype", "dynamic_cast", "noexcept", "not_eq",
    "nullptr", "or_eq", "reinterpret_cast", "requires", "static_assert", "static_cast", "thread_local", "typeid",
    "xor_eq",
    # macros and names of the headers that generated files use
    "alloca", "ap_axis", "ap_axiu", "ap_bigint", "ap_biguint", "ap_fixed", "ap_int", "ap_ufixed", "ap_uint", "assert",
    "assert_perror", "be16toh", "be32toh", "be64toh", "errno", "htobe16", "htobe32", "htobe64", "htole16", "htole32",
    "htole64", "issubnormal", "le16toh", "le32toh", "le64toh", "linux", "math_errhandling", "offsetof", "p_tmpdir",
    "sched_priority", "size_t", "stderr", "stdin", "stdout", "strdupa", "strndupa", "unix",
    # words of Verilog, VHDL and most of SystemVerilog, for the top function becomes a module
    "abs", "accept_on", "access", "after", "alias", "all", "always", "always_comb", "always_ff", "always_latch",
    "architecture", "array", "assign", "assume", "attribute", "automatic", "before", "begin", "bind", "bins",
    "binsof", "bit", "block", "body", "buf", "buffer", "bufif0", "bufif1", "bus", "byte", "casex", "casez", "cell",
    "chandle", "checker", "clocking", "cmos", "component", "config", "configuration", "constant", "constraint",
    "context", "cover", "covergroup", "coverpoint", "cross", "deassign", "defparam", "design", "disable",
    "disconnect", "dist", "downto", "edge", "elsif", "end", "endcase", "endchecker", "endclass", "endclocking",
    "endconfig", "endfunction", "endgenerate", "endgroup", "endinterface", "endmodule", "endpackage",
    "endprimitive", "endprogram", "endproperty", "endsequence", "endspecify", "endtable", "endtask", "entity",
    "event", "eventually", "exit", "expect", "extends", "file", "final", "first_match", "force", "foreach",
    "forever", "fork", "forkjoin", "function", "generate", "generic", "genvar", "global", "group", "guarded",
    "highz0", "highz1", "iff", "ifnone", "ignore_bins", "illegal_bins", "implements", "implies", "import", "impure",
    "in", "incdir", "include", "inertial", "initial", "inout", "input", "inside", "instance", "integer",
    "interconnect", "interface", "intersect", "is", "join", "join_any", "join_none", "label", "large", "let",
    "liblist", "library", "linkage", "literal", "local", "localparam", "logic", "loop", "macromodule", "map",
    "matches", "medium", "mod", "modport", "module", "nand", "negedge", "nettype", "new", "next", "nexttime",
    "nmos", "nor", "noshowcancelled", "notif0", "notif1", "null", "of", "on", "open", "others", "out", "output",
    "package", "parameter", "pmos", "port", "posedge", "postponed", "primitive", "priority", "procedure",
    "process", "program", "property", "pull0", "pull1", "pulldown", "pullup", "pulsestyle_ondetect",
    "pulsestyle_onevent", "pure", "rand", "randc", "randcase", "randsequence", "range", "rcmos", "real", "realtime",
    "record", "ref", "reg", "reject", "reject_on", "release", "rem", "repeat", "report", "restrict", "rnmos", "rol",
    "ror", "rpmos", "rtran", "rtranif0", "rtranif1", "s_always", "s_eventually", "s_nexttime", "s_until",
    "s_until_with", "scalared", "select", "sequence", "severity", "shared", "shortint", "shortreal",
    "showcancelled", "signal", "sla", "sll", "small", "soft", "solve", "specify", "specparam", "sra", "srl",
    "string", "strong", "strong0", "strong1", "subtype", "super", "supply0", "supply1", "sync_accept_on",
    "sync_reject_on", "table", "tagged", "task", "then", "throughout", "time", "timeprecision", "timeunit", "to",
    "tran", "tranif0", "tranif1", "transport", "tri", "tri0", "tri1", "triand", "trior", "trireg", "type", "units",
    "unaffected", "unique", "unique0", "until", "until_with", "untyped", "use", "uwire", "var", "variable",
    "vectored", "wait", "wait_order", "wand", "weak", "weak0", "weak1", "when", "wildcard", "wire", "with",
    "within", "wor", "work", "xnor",
    # variables of the generated top function
    "frame", "frames", "build_id", "weight_codes", "weight_raw", "weight_bytes", "load", "weight_status",
}  # fmt: skip
MACRO = re.compile(r"[A-Z0-9_]{2,}|(?:AP|DCT|L|M|SYS)_.*|weight_(?:codes|raw)_[0-9]+")
"""Looks like a macro of some header, or a pointer of the generated top function."""


class Identifiers:
    """C++ names for a model's names, which may hold anything."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def make(self, name: str, *suffixes: str) -> str:
        """Letters, digits and single underscores, at most 48 long, unique, no keyword, nothing like a macro.

        The identifiers that `suffixes` make from it are unique too.
        """
        stem = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_")[:48].rstrip("_") or "value"
        if stem[0].isdigit() or stem.lower() in RESERVED or MACRO.fullmatch(stem):
            stem = f"n_{stem}"
        chosen, number = stem, 1
        while self._taken.intersection(names := [f"{chosen}{suffix}".lower() for suffix in ("", *suffixes)]):
            number += 1
            chosen = f"{stem}_{number}"
        self._taken.update(names)
        return chosen
