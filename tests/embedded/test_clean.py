"""The generated C as reviewers of firmware look at it: warnings, analyzers, CMake, code size and stack."""

import shutil
import subprocess

import numpy as np
import pytest

from tests.embedded.test_operators import SAMPLES, together
from tests.embedded.test_packed import conv, gemm, sparse
from tests.ops.designs import program, program_inputs
from tests.packing.codings import random_coding
from toolchain.codegen.embedded.model import Model
from toolchain.codegen.embedded.render import render_embedded
from toolchain.codegen.project import write_files
from toolchain.errors import PassError, ToolError
from toolchain.ir import Constant
from toolchain.ir.window import Window
from toolchain.packing.basis import Transform
from toolchain.packing.packed import Coding
from toolchain.project import Project
from toolchain.resources import folder
from toolchain.verification.embedded import measured_stack
from toolchain.verification.footprint import _Calls, footprint
from toolchain.verification.machines import MACHINES

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Wpedantic", "-Werror")


def needs(*tools):
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed: make tools")


def operators(step=1):
    """Every so many-th sample in one program."""
    programs = {}
    for name, sample in SAMPLES[::step]:
        graph = program(name, sample.operator, sample.inputs)
        try:
            Model(graph)
        except PassError:
            continue
        programs[name] = graph
    return together(programs)


def sparse_frequency():
    rng = np.random.default_rng(2)
    coding = Coding(sparse(rng, (9, 8, 12), 0.2), Transform("taps", 3, 3), (0, 1, 2, 1, 0, 1, 2, 1, 0))
    return conv(coding, Window((3, 3), pads=(1, 1, 1, 1)))


GRAPHS = {
    "some_operators": lambda: operators(5),
    "operators": operators,
    "clusters": lambda: gemm(random_coding(np.random.default_rng(1), 1)),
    "once": lambda: gemm(Coding(sparse(np.random.default_rng(3), (1, 24, 7), 0.3)), pixels=(1,)),
    "lists": lambda: conv(Coding(sparse(np.random.default_rng(4), (9, 8, 12), 0.1)), Window((3, 3))),
    "frequency": sparse_frequency,
}


LONG = ("operators", "once", "lists")


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.exhaustive) if name in LONG else name for name in GRAPHS],
)
def written(request, tmp_path_factory):
    """A folder of C, and its program."""
    graph = GRAPHS[request.param]()
    path = tmp_path_factory.mktemp(request.param)
    write_files(path / "embedded", render_embedded(graph).files)
    return path / "embedded", graph


def run(*argv, **options):
    done = subprocess.run([str(one) for one in argv], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.mark.parametrize("machine", ["host", "cortex-m4", "cortex-m55", "riscv32"])
def test_compilers_have_nothing_to_warn_of(machine, written):
    compiler, *flags = MACHINES[machine].compiler
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} not installed: make tools")
    for source in sorted(written[0].glob("*.c")):
        run(compiler, *flags, "-O2", *STRICT, "-c", source, "-o", "/dev/null")


def test_it_goes_into_a_cpp_program(written, tmp_path):
    path, graph = written
    name = Model(graph).name
    (tmp_path / "main.cpp").write_text(f'#include "{name}.h"\nint main() {{ return {name}_init(); }}\n')
    run("make", "-s", "-C", path, f"BUILD={tmp_path}/built", f"{tmp_path}/built/lib{name}.a")
    main, library = tmp_path / "main.cpp", tmp_path / f"built/lib{name}.a"
    run("g++", "-std=c++11", "-Wall", "-Wextra", "-Werror", f"-I{path}", main, library, "-o", tmp_path / "main")
    run(tmp_path / "main")


@needs("clang-tidy")
def test_clang_tidy(written):
    path, graph = written
    shared = path.parent.name.startswith(("clusters", "operators"))  # once is enough for what is in every project
    sources = sorted(path.glob("*.c")) if shared else [path / f"{Model(graph).name}.c"]
    run("clang-tidy", "--quiet", f"--config-file={folder('c_templates') / '.clang-tidy'}", *sources, "--", "-std=c99")


@needs("cppcheck")
def test_cppcheck(written):
    path, _ = written
    checks = ("--enable=warning,performance,portability", "--suppress=missingIncludeSystem")
    # Arithmetic right shifts are wanted, and checked for by an #error.
    run("cppcheck", "--std=c99", "--quiet", "--error-exitcode=1", *checks, "--suppress=shiftTooManyBitsSigned", path)


@needs("cmake")
def test_cmake_builds_it_alone_and_in_another_project(written, tmp_path):
    path, graph = written
    run("cmake", "-S", path, "-B", tmp_path / "alone", "-DMODEL_RUNNER=ON")
    run("cmake", "--build", tmp_path / "alone")
    frames = b"\0" * sum(one.type.size * one.lane_bits // 8 for one in Model(graph).inputs)
    outputs = []
    run("make", "-s", "-C", path, f"BUILD={tmp_path}/made", "runner")
    for place in ("alone", "made"):
        (tmp_path / place / "inputs.bin").write_bytes(frames)
        run(tmp_path / place / "runner", cwd=tmp_path / place)
        outputs.append((tmp_path / place / "outputs.bin").read_bytes())
    assert outputs[0] == outputs[1] != b""
    (tmp_path / "user").mkdir()
    name = Model(graph).name
    (tmp_path / "user/CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(user C)\n"
        f"add_subdirectory({path} model)\nadd_executable(user main.c)\ntarget_link_libraries(user {name})\n"
    )
    (tmp_path / "user/main.c").write_text(f'#include "{name}.h"\nint main(void) {{ return {name}_init(); }}\n')
    run("cmake", "-S", tmp_path / "user", "-B", tmp_path / "user/built")
    run("cmake", "--build", tmp_path / "user/built")
    run(tmp_path / "user/built/user")


@pytest.mark.parametrize("machine", ["cortex-m4", "riscv32"])
def test_the_stack_is_bounded(machine, written):
    """What runs take of it is within the bound, and not far below."""
    path, graph = written
    chosen = MACHINES[machine]
    if shutil.which(chosen.compiler[0]) is None or shutil.which(chosen.runner[0]) is None:
        pytest.skip(f"{chosen.packages} not installed: make tools")
    found = footprint(path, graph, chosen)
    measured = measured_stack(Project(path.parent, graph), program_inputs(graph, 1, 2), machine)
    assert 0 < measured <= found.stack <= 3 * measured + 256
    assert found.code[Model(graph).name] > 100
    assert ("dct_packed" in found.code) == bool(Model(graph).packed.packed)


def test_a_stack_without_a_bound_is_told():
    calls = _Calls()
    node = 'node: {{ title: "{0}" label: "{0}\\nfile.c:1:1\\n{1} bytes ({2})\\n0 dynamic objects" }}\n'
    edge = 'edge: {{ sourcename: "{}" targetname: "{}" label: "file.c:1:1" }}\n'
    calls.read(node.format("a", 16, "static") + node.format("b", 8, "static") + node.format("c", 24, "static"))
    calls.read(edge.format("a", "b") + edge.format("a", "c") + edge.format("c", "memcpy"))
    assert calls.depth("a") == 16 + 24 + 64
    calls.read(edge.format("c", "a"))
    with pytest.raises(ToolError, match="no bound: c calls a"):
        calls.depth("a")
    with pytest.raises(ToolError, match="d has a frame that is dynamic"):
        calls.read(node.format("d", 8, "dynamic"))
    calls.read(edge.format("b", "__indirect_call"))
    with pytest.raises(ToolError, match="b calls __indirect_call"):
        calls.depth("b")


def test_weights_that_are_zero_everywhere_compile(tmp_path):
    """A list without entries, a layer without levels."""
    graph = conv(Coding(Constant(np.zeros((9, 4, 4), int))), Window((3, 3)))
    write_files(tmp_path / "c", render_embedded(graph).files)
    run("make", "-s", "-C", tmp_path / "c", "runner")
