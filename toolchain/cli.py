"""The command line: DESIGN section 7. Each command is a few lines over the Python API."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from toolchain.errors import ConfigurationError, ToolchainError, ToolError, printable
from toolchain.version import __version__

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Compiles trained neural networks to FPGA and embedded projects, bit for bit as simulated.",
)  # fmt: skip
# Names come from models: nothing in them is markup or an emoji.
out = Console(markup=False, emoji=False, highlight=False, width=None if sys.stdout.isatty() else 120)
err = Console(markup=False, emoji=False, highlight=False, stderr=True)

ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="An .onnx, .keras, .h5 or Keras .json file.")]
ProjectArgument = Annotated[Path, typer.Argument(metavar="PROJECT", help="A folder that `compile` wrote.")]
InputsOption = Annotated[
    Path, typer.Option("--inputs", metavar="X.npy", help="Arrays in the model's layout and scale.")
]
WeightsOption = Annotated[Path | None, typer.Option("--weights", help="Weights of a Keras .json model.")]
ShapeOption = Annotated[
    list[str] | None, typer.Option("--input-shape", metavar="NAME=1,224,224,3", help="Sizes for free dimensions.")
]


@app.command()
def inspect(model: ModelArgument, weights: WeightsOption = None, input_shape: ShapeOption = None) -> None:
    """Operators, shapes, parameters and MACs of a model, and everything in it that is not supported."""
    from toolchain.report.inspect import inspect_model

    inspect_model(model, weights, parse_shapes(input_shape), out)


@app.command()
def compile(
    model: ModelArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PROJECT", help="Folder to write.")],
    calibrate: Annotated[Path | None, typer.Option(metavar="X.npz", help="Typical inputs (.npy or .npz).")] = None,
    board: Annotated[str, typer.Option(help="See `toolchain boards`.")] = "zcu104",
    config: Annotated[Path | None, typer.Option(metavar="FILE.toml", help="Formats and foldings per layer.")] = None,
    weights: WeightsOption = None,
    input_shape: ShapeOption = None,
    weight_bits: Annotated[int | None, typer.Option(help="Bits of weights, default 8.")] = None,
    activation_bits: Annotated[int | None, typer.Option(help="Bits of activations, default 8.")] = None,
    pack: Annotated[str | None, typer.Option(help="none, auto, dct or spatial.")] = None,
    execute: Annotated[str | None, typer.Option(help="auto, spatial or frequency.")] = None,
    weight_memory: Annotated[
        str | None,
        typer.Option(
            help="rom, loaded, streamed or auto: constants, memories filled from a container at run time, DDR where "
            "that pays, or constants and DDR in place of a design that does not fit."
        ),
    ] = None,
    budget: Annotated[str | None, typer.Option(help="28x, 450000B or 300kMAC.")] = None,
    target: Annotated[str, typer.Option(help="hls, embedded or all.")] = "hls",
    target_fps: Annotated[float | None, typer.Option(help="Frames a second to reach with the least hardware.")] = None,
    ram: Annotated[int | None, typer.Option(help="RAM in bytes of an embedded target.")] = None,
    clock: Annotated[float | None, typer.Option(help="MHz; default is the board's.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a project that is there.")] = False,
) -> None:
    """Compiles a trained model into a project: integer program, HLS C++, test bench, report."""
    from toolchain.compiler import compile_model
    from toolchain.report.tables import compile_summary

    with progress_bar() as progress:
        project = compile_model(
            model, output, calibrate=calibrate, board=board, config=config, weights=weights,
            input_shapes=parse_shapes(input_shape), weight_bits=weight_bits, activation_bits=activation_bits, pack=pack,
            execute=execute, weight_memory=weight_memory, budget=budget, target=target, target_fps=target_fps, ram=ram,
            clock_mhz=clock, force=force, progress=progress,
        )  # fmt: skip
    compile_summary(project.report, output, out, err)


@app.command("fine-tune")
def fine_tune_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The trained float model.")],
    data: Annotated[Path, typer.Option(metavar="TRAIN.npz", help="x in the model's layout and scale, classes y.")],
    budget: Annotated[list[str], typer.Option(help="100x, 12000B or 300kMAC; may be given several times.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PROJECT", help="Folder to write.")],
    validate: Annotated[
        Path | None, typer.Option(metavar="TEST.npz", help="What the best epoch is chosen on; default a held-out part.")
    ] = None,
    board: Annotated[str, typer.Option(help="Target board.")] = "zcu104",
    config: Annotated[Path | None, typer.Option(metavar="FILE.toml", help="Formats and options by layer.")] = None,
    weights: WeightsOption = None,
    input_shape: Annotated[list[str] | None, typer.Option(help="NAME=1,224,224,3 for inputs without a shape.")] = None,
    weight_bits: Annotated[int | None, typer.Option(help="Bits of a coefficient; default 8.")] = None,
    activation_bits: Annotated[int | None, typer.Option(help="Bits of activations; default 8.")] = None,
    target: Annotated[str, typer.Option(help="hls, embedded or all.")] = "hls",
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the order of the data.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace a project that is there.")] = False,
) -> None:
    """Trains a model as it is deployed, within a budget; the same command goes on where it was interrupted."""
    from toolchain.report.tables import compile_summary

    try:
        from toolchain.training.project import fine_tune
    except ModuleNotFoundError as error:
        raise ToolError(
            f"training wants the package {error.name}", fix="Type: pip install 'dct-toolchain[train]'"
        ) from None

    with progress_bar() as progress:
        project = fine_tune(
            model, output, data=data, budget=budget, validate=validate, board=board, config=config, weights=weights,
            input_shapes=parse_shapes(input_shape), weight_bits=weight_bits, activation_bits=activation_bits,
            target=target, epochs=epochs, seed=seed, force=force, progress=progress,
        )  # fmt: skip
    compile_summary(project.report, output, out, err)


@app.command()
def simulate(
    project: ProjectArgument,
    inputs: InputsOption,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="Y.npy", help="File to write.")],
    engine: Annotated[str, typer.Option(help="fast or reference; both give the same integers.")] = "fast",
    raw: Annotated[bool, typer.Option("--raw", help="Write the program's integers (int64).")] = False,
    trace: Annotated[Path | None, typer.Option(metavar="DIR", help="Also write every layer's integers here.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the fast engine.")] = 1,
) -> None:
    """Runs the integer program on arrays: what the hardware gives, bit for bit."""
    from toolchain.project import load
    from toolchain.simulation.arrays import check_target, load_arrays, save_arrays
    from toolchain.simulation.trace import check_trace, write_trace

    chosen = choice(engine, ("fast", "reference"), "--engine")
    if not output.resolve().parent.is_dir():
        raise ConfigurationError("the folder to write into does not exist", where=str(output))
    if output.is_dir():
        raise ConfigurationError("is a folder", where=str(output), fix="Name a file to write.")
    if trace is not None:
        check_trace(trace)
    loaded = load(project)
    check_target(output, [given.name for given in loaded.graph.outputs])
    simulator = loaded.simulator(engine=chosen, threads=threads)
    arrays = load_arrays(inputs, [given.name for given in loaded.graph.inputs])
    with progress_bar() as progress:
        if trace is None:
            results = simulator.raw_outputs(arrays, lambda done, total: progress("simulating", done, total))
        else:
            results = write_trace(trace, simulator, arrays, lambda done, total: progress("simulating", done, total))
    if not raw:
        results = {name: simulator.scaled(name, values) for name, values in results.items()}
    save_arrays(output, results)


@app.command()
def verify(
    project: ProjectArgument,
    inputs: InputsOption,
    against: Annotated[str, typer.Option(help="hls, embedded, rtl; several joined by commas.")] = "hls",
    machine: Annotated[str, typer.Option(help="Where embedded code runs: host, cortex-m4, riscv32, ...")] = "host",
    trace: Annotated[bool, typer.Option("--trace", help="Also compare every layer of embedded code.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Also count the instructions of each layer.")] = False,
) -> None:
    """Builds the generated code as it lies in the project and compares every integer with the program."""
    from toolchain.project import load
    from toolchain.report.footprint import instructions_table, memory_table
    from toolchain.simulation.arrays import load_arrays
    from toolchain.simulation.simulator import check_inputs
    from toolchain.verification.csim import verify_hls
    from toolchain.verification.embedded import measured_stack, read_manifest, verify_embedded
    from toolchain.verification.embedded import profile as instructions
    from toolchain.verification.footprint import footprint
    from toolchain.verification.machines import MACHINES

    wanted = [choice(name, ("hls", "embedded", "rtl"), "--against") for name in against.split(",")]
    if "rtl" in wanted:
        raise ConfigurationError("--against rtl is not available in this version", fix="Use hls or embedded.")
    chosen = choice(machine, tuple(MACHINES), "--machine")
    if "embedded" not in wanted and (chosen != "host" or trace or profile):
        raise ConfigurationError("--machine, --trace and --profile go with --against embedded")
    loaded = load(project)
    arrays = check_inputs(loaded.graph, load_arrays(inputs, [given.name for given in loaded.graph.inputs]))
    for name in wanted:
        with progress_bar() as progress:
            if name == "hls":
                agreement = verify_hls(loaded, arrays, progress)
            else:
                agreement = verify_embedded(loaded, arrays, chosen, trace, progress)
        out.print(
            f"{agreement.rendering}: {agreement.frames} inputs, {agreement.layers} layers, "
            f"{agreement.values} integers compared, 0 differ"
        )
    if profile:
        with progress_bar() as progress:
            progress(f"counting instructions on {chosen}", 0, 1)
            counts, stack = instructions(loaded, arrays, chosen), measured_stack(loaded, arrays, chosen)
            size = footprint(loaded.path / "embedded", loaded.graph, MACHINES[chosen])
        instructions_table(counts, out)
        out.print(memory_table(read_manifest(loaded.path / "embedded", loaded.graph), size, stack))


@app.command()
def evaluate(
    project: ProjectArgument,
    inputs: InputsOption,
    labels: Annotated[Path, typer.Option(metavar="Y.npy", help="Class numbers.")],
    model: Annotated[Path | None, typer.Option(metavar="MODEL", help="Also the float model's accuracy.")] = None,
    weights: WeightsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Accuracy of the integer program, and of the float model."""
    from toolchain.report.accuracy import evaluate_project

    with progress_bar(quiet=as_json) as progress:
        result = evaluate_project(project, inputs, labels, model, weights, progress)
    if as_json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            out.print(
                f"{name.replace('_', ' ')}: {value:.4f}"
                if isinstance(value, float)
                else f"{name.replace('_', ' ')}: {value}"
            )


@app.command()
def report(
    project: ProjectArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page.")] = None,
) -> None:
    """What the compilation found: sizes, formats, hardware, per layer and in total."""
    from toolchain.project import read_report
    from toolchain.report.tables import report_tables

    content = read_report(project)
    if as_json:
        print(json.dumps(content, indent=1))
    elif html is None:
        report_tables(content, out)
    if html is not None:
        from toolchain.report.page import write_page

        write_page(content, html)


@app.command("weights")
def new_weights(
    project: ProjectArgument,
    other: Annotated[
        Path, typer.Option("--from", metavar="OTHER", help="A project of the same network, or the retrained model.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.bin", help="File to write.")],
    calibrate: Annotated[Path | None, typer.Option(metavar="X.npz", help="Typical inputs, for a model.")] = None,
    weights: WeightsOption = None,
    new: Annotated[
        Path | None, typer.Option("--project", metavar="NEW", help="Also write a project to simulate and verify.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a project that is there.")] = False,
) -> None:
    """Other weights for the hardware of a project that was compiled with `--weight-memory loaded`."""
    from toolchain.exchange import other_weights, project_files
    from toolchain.project import check_target, write_project

    if not output.resolve().parent.is_dir() or output.is_dir():
        raise ConfigurationError("is no file that can be written", where=str(output))
    if new is not None:
        check_target(new, force)
    with progress_bar() as progress:
        found = other_weights(project, other, calibrate=calibrate, weights=weights, progress=progress)
    if new is not None:
        write_project(new, project_files(project, found), force)
    output.write_bytes(found.data)
    out.print(f"{other} -> {output}: {len(found.data)} bytes for the hardware of {project}")
    for name, error in found.errors.items():
        out.print(f"{name}: relative error {error:.4f} on the calibration data")


@app.command()
def build(
    project: ProjectArgument,
    stage: Annotated[str, typer.Option(help="csim, csynth, cosim, ip or bitstream.")] = "csynth",
) -> None:
    """C simulation to bitstream with the vendor's tools; what is finished is not repeated."""
    from toolchain.deployment.build import build_project

    build_project(project, choice(stage, ("csim", "csynth", "cosim", "ip", "bitstream"), "--stage"), out)


@app.command()
def deploy(
    project: ProjectArgument,
    host: Annotated[str, typer.Option(metavar="USER@BOARD[:PORT]", help="Where ssh finds the board.")],
    inputs: Annotated[
        Path | None, typer.Option(metavar="X.npy", help="Inputs to run; without it the rows of the test bench.")
    ] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Run only the first rows.")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Run the batch so often, for the throughput.")] = 1,
    directory: Annotated[str, typer.Option(metavar="DIR", help="Folder on the board.")] = ".dct-toolchain",
    keep: Annotated[bool, typer.Option("--keep", help="Keep older deployments of the network.")] = False,
    sudo: Annotated[bool, typer.Option("--sudo", help="Be root on the board, by sudo without a password.")] = False,
    python: Annotated[str, typer.Option(metavar="PROGRAM", help="Python on the board.")] = "python3",
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that the board may compute.")] = 300,
    ssh_config: Annotated[Path | None, typer.Option(metavar="FILE", help="In the place of ~/.ssh/config.")] = None,
) -> None:
    """Copies a built project to a board, runs it there and compares every integer with the simulation."""
    from toolchain.deployment.deploy import Options, deploy_project
    from toolchain.deployment.remote import Access, Target
    from toolchain.project import load
    from toolchain.simulation.arrays import load_arrays

    access = Access(Target.parse(host), ssh_config, python, sudo)
    options = Options(directory, frames, repeat, timeout, keep)
    names = [given.name for given in load(project).graph.inputs]
    arrays = None if inputs is None else load_arrays(inputs, names)
    with progress_bar() as progress:

        def say(line: str) -> None:
            out.print(printable(line), soft_wrap=True)

        done = deploy_project(project, access, arrays, options, say, progress)
    out.print(f"build {done.build_id:08x}: {done.frames} inputs, {done.values} integers compared, 0 differ")
    out.print(f"{done.frames_per_second:.1f} frames/s ({done.seconds:.6f} s)")


@app.command()
def boards(name: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None) -> None:
    """Known boards, or the facts of one."""
    from toolchain.report.tables import board_list, board_table

    if name is None:
        board_list(out)
    else:
        board_table(name, out)


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Options of the command itself."""
    if version:
        print(__version__)
        raise typer.Exit


class progress_bar:  # noqa: N801 - used like a function
    """A progress line on stderr when it is a terminal, nothing otherwise."""

    def __init__(self, quiet: bool = False) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(), console=err, transient=True, disable=quiet or not err.is_terminal,
        )  # fmt: skip

    def __enter__(self) -> Callable[[str, int, int], None]:
        self._progress.__enter__()
        task = self._progress.add_task("", total=1)

        def update(what: str, done: int, total: int) -> None:
            self._progress.update(task, description=what, completed=done, total=max(total, 1))

        return update

    def __exit__(self, *details: Any) -> None:  # noqa: PYI036 - handed on as they are
        self._progress.__exit__(*details)


def choice(value: str, known: tuple[str, ...], option: str) -> Any:
    """`value` if it is one of `known`, else ConfigurationError."""
    if value not in known:
        raise ConfigurationError(f"{option} {value!r} is unknown", fix=f"Use {', '.join(known)}.")
    return value


def parse_shapes(given: list[str] | None) -> dict[str, tuple[int, ...]]:
    """`NAME=1,224,224,3` to sizes by name; the name may hold `=` itself."""
    shapes = {}
    for text in given or []:
        name, sign, sizes = text.rpartition("=")
        try:
            shape = tuple(int(size) for size in sizes.split(","))
        except ValueError:
            shape = ()
        if not sign or not shape or min(shape) < 1:
            raise ConfigurationError(f"--input-shape {text!r} is not understood", fix="Write NAME=1,224,224,3.")
        if max(shape) >= 1 << 31:
            raise ConfigurationError(f"--input-shape {text!r} has a size of more than 31 bits")
        if name in shapes:
            raise ConfigurationError(f"--input-shape gives the input {name!r} twice")
        shapes[name] = shape
    return shapes


def print_error(error: ToolchainError) -> None:
    """One line, or one a problem where a model has several."""
    problems = getattr(error, "problems", ())
    if not problems:
        err.print(f"error: {error}", markup=False, soft_wrap=True)
        return
    place = f"{error.where}: " if error.where else ""
    err.print(f"error: {place}{error.message.partition(':')[0]}", markup=False, soft_wrap=True)
    for problem in problems:
        err.print(f"  {printable(problem)}", soft_wrap=True)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command and leaves with its exit code: errors of the user's input are one line, never a traceback.

    Only a bug of ours prints one, and leaves with EX_SOFTWARE (70).
    """
    try:
        code = app(arguments, standalone_mode=False) or 0
    except ToolchainError as error:
        print_error(error)
        code = error.exit_code
    except typer.Abort:
        code = 130
    except KeyboardInterrupt:
        err.print("interrupted")
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except OSError as error:  # a full disk, a missing permission, a name that is too long
        place = f"{error.filename}: " if error.filename else ""
        err.print(f"error: {printable(f'{place}{error.strerror or error}')}", soft_wrap=True)
        code = 2
    except Exception as error:  # noqa: BLE001 - what is no fault of the user's ends here too
        if hasattr(error, "format_message"):  # how the argument parser says that a command line is wrong
            err.print(f"error: {error.format_message()}", markup=False, soft_wrap=True)
            code = 2
        else:  # a bug of ours; Python's own exit code for it, 1, says that a verification found a difference
            traceback.print_exc()
            code = os.EX_SOFTWARE
    sys.exit(code)
