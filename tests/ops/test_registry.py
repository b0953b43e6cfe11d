"""Every operator file has all parts that DESIGN section 3 asks for, and the tests cover every importer.

Files are found by the registry; nothing here names one. A missing part fails.
"""

import inspect
import re
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.frontends.test_quantizing_operators import QUANTIZING
from tests.hls_templates.harness import TEMPLATES
from tests.ops.designs import folded, foldings, integer_operators, network_of, program, sparse_foldings
from tests.ops.onnx_cases import CASES, UNSUPPORTED
from toolchain.codegen.kernel import Kernel
from toolchain.ir import FixedType, TensorType
from toolchain.ops import IMPORTERS, MODULES, OPERATORS, SHARED, Operator, Sample

SEED = 5
FOLDER = Path(inspect.getfile(Operator)).parent


def own(cls: type[Operator], method: str) -> bool:
    """Does the class, or a base of it other than Operator, define the method?"""
    return getattr(cls, method) is not getattr(Operator, method)


def missing_parts(cls: type[Operator]) -> list[str]:
    """What an operator class lacks."""
    missing = []
    parameters = getattr(cls, "__dataclass_params__", None)
    if not is_dataclass(cls) or not parameters.frozen:
        missing.append("frozen dataclass")
    if not cls.__doc__ or cls.__doc__.startswith(f"{cls.__name__}("):
        missing.append("docstring")
    missing += [method for method in ("shape", "evaluate") if not own(cls, method)]
    if own(cls, "ranges"):
        missing += [method for method in ("samples", "kernels") if cls.__dict__.get(method) is None]
        if not missing:
            missing += _wrong_samples(cls)
    elif not own(cls, "lower") and not own(cls, "infer"):
        missing.append("ranges, lower or infer")
    return missing


def _wrong_samples(cls: type[Operator]) -> list[str]:
    samples = list(cls.samples(np.random.default_rng(SEED)))
    if not samples:
        return ["samples"]
    wrong = []
    for sample in samples:
        inferred = sample.operator.typed(sample.inputs)
        if not isinstance(sample.operator, cls) or not isinstance(inferred, TensorType):
            wrong.append(f"integer type of {sample}")
        elif sample.operator.shape(*(given.shape for given in sample.inputs)) != inferred.shape:
            wrong.append(f"equal shapes from shape and ranges of {sample}")
    return wrong


def missing_in_hardware(kernel: Kernel) -> list[str]:
    """What a kernel's header lacks: the file, the function, or a use for an entry of the config."""
    header = TEMPLATES / kernel.header
    if not header.is_file():
        return [f"header {kernel.header}"]
    text = header.read_text()
    missing = [] if re.search(rf"\b{kernel.function}\(", text) else [f"function {kernel.function}"]
    near = [TEMPLATES / name for name in re.findall(r'#include "([\w/]+\.h)"', text)]
    text += "".join(path.read_text() for path in near)  # which may be what uses an entry
    missing += [f"C::{key} in {kernel.header}" for key in kernel.config if not re.search(rf"\bC::{key}\b", text)]
    missing += [f"table {name}" for name in kernel.arrays if not re.search(rf"\(\s*&{name}\)\s*\[", text)]
    return missing


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rsplit(".", 1)[1])
def test_every_file_registers_something_and_says_what(module):
    assert module.__doc__
    registered = [cls for cls in OPERATORS.values() if cls.__module__ == module.__name__]
    importers = [function for function in IMPORTERS.values() if function.__module__ == module.__name__]
    assert registered or importers


def test_every_file_is_a_registered_module():
    names = {module.__name__.rsplit(".", 1)[1] for module in MODULES}
    assert names == {path.stem for path in FOLDER.glob("*.py")} - {"__init__", *SHARED}


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_operator_has_all_parts(name):
    assert missing_parts(OPERATORS[name]) == []


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_fields_are_hashable_and_compared(name):
    """Frozen values: passes and caches compare operators by what they hold."""
    for sample in OPERATORS[name].samples(np.random.default_rng(SEED)):
        again = type(sample.operator)(*(getattr(sample.operator, f.name) for f in fields(sample.operator)))
        assert again == sample.operator
        assert hash(again) == hash(sample.operator)


@pytest.mark.parametrize("name", sorted(integer_operators()))
def test_kernels_exist_and_use_their_config(name):
    for index, sample in enumerate(OPERATORS[name].samples(np.random.default_rng(SEED))):
        graph = program(f"{name}_{index}", sample.operator, sample.inputs)
        networks = [network_of(graph, layers) for layers in foldings(graph)]
        for network in (*networks, *folded(graph, sparse_foldings(graph))):
            kernels = [process.kernel for process in network.processes]
            assert [missing_in_hardware(kernel) for kernel in kernels] == [[]] * len(kernels)


def test_every_header_of_an_operator_is_used():
    used = set()
    for name in integer_operators():
        for sample in OPERATORS[name].samples(np.random.default_rng(SEED)):
            graph = program(name, sample.operator, sample.inputs)
            used |= {p.kernel.header for layers in foldings(graph) for p in network_of(graph, layers).processes}
    assert {f"ops/{path.name}" for path in (TEMPLATES / "ops").glob("*.h")} <= used


def test_every_importer_is_tested_against_onnx():
    assert set(IMPORTERS) - {case.op for case in CASES} - set(QUANTIZING) == set()


def test_every_case_is_of_an_importer():
    assert {case.op for case in CASES} - set(IMPORTERS) == set()
    names = [case.name for case in (*CASES, *UNSUPPORTED)]
    assert len(set(names)) >= len(names) - 2, "names tell cases apart"


# ---------------------------------------------------------------------------------------------- missing parts are seen


@dataclass(frozen=True)
class Whole(Operator):
    """Nothing is missing."""

    def shape(self, *inputs):
        return inputs[0]

    def ranges(self, *inputs):
        return inputs[0]

    def evaluate(self, *inputs):
        return inputs[0]

    def kernels(self, inputs, output, folding):
        return []

    @classmethod
    def samples(cls, rng):
        yield Sample(cls(), (TensorType.of((2,), FixedType(4, 2)),))


def without(**parts):
    """A copy of Whole with parts replaced."""
    kept = ("__doc__", "shape", "ranges", "evaluate", "kernels", "samples")
    cls = type("Part", (Operator,), {**{name: Whole.__dict__[name] for name in kept}, **parts})
    return dataclass(frozen=True)(cls)


def test_nothing_is_missing_in_a_whole_operator():
    assert missing_parts(Whole) == []
    assert missing_parts(without()) == []


@pytest.mark.parametrize(
    ("parts", "missing"),
    [
        ({"__doc__": None}, ["docstring"]),
        ({"shape": Operator.shape}, ["shape"]),
        ({"evaluate": Operator.evaluate}, ["evaluate"]),
        ({"samples": None}, ["samples"]),
        ({"samples": classmethod(lambda cls, rng: iter(()))}, ["samples"]),
        ({"kernels": None}, ["kernels"]),
        ({"ranges": Operator.ranges}, ["ranges, lower or infer"]),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, dict) else None,
)
def test_a_missing_part_is_named(parts, missing):
    found = missing_parts(without(**parts))
    assert found[: len(missing)] == missing


def test_a_missing_header_function_or_entry_is_named():
    (sample, *_) = OPERATORS["Clip"].samples(np.random.default_rng(SEED))
    graph = program("clip", sample.operator, sample.inputs)
    kernel = next(p.kernel for p in network_of(graph, {}).processes if p.kernel.function == "clip")
    assert missing_in_hardware(kernel) == []
    changed = {
        "header": ("ops/nowhere.h", ["header ops/nowhere.h"]),
        "function": ("clap", ["function clap"]),
        "config": ({**kernel.config, "EXTRA": 1}, ["C::EXTRA in ops/clip.h"]),
    }
    for field, (value, missing) in changed.items():
        assert missing_in_hardware(Kernel(**{**kernel.__dict__, field: value})) == missing
