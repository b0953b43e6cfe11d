"""`toolchain build`: from C simulation to bitstream. A step that is finished is not repeated."""

from __future__ import annotations

import fcntl
import hashlib
import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from toolchain.deployment import tools
from toolchain.deployment.results import Results
from toolchain.deployment.site import Site, open_site
from toolchain.deployment.vendor_run import Job, failure, run
from toolchain.errors import ConfigurationError, MismatchError, ModelError, ToolError
from toolchain.project import load
from toolchain.verification.csim import MODEL_OUTPUT, ap_types

STAGES = ("csim", "csynth", "cosim", "ip", "bitstream")
FIRMWARE = "out/firmware"
"""For a Kria board's firmware folder. Not beside the bitstream: PYNQ applies a device tree that lies there."""
HLS = "vitis_hls"
"""The folder of the Vitis HLS project, see `run_hls.tcl`."""


@dataclass(frozen=True)
class Step:
    """One run of one tool.

    - `tool` is how it is called in messages and part of what makes a result stale.
    - `outputs`, relative to `hls/`, must be there after it and are removed before it.
    - `needs` are the steps whose results it takes.
    - `copies` go beside the outputs, target by source, and belong to the result.
    - `after` reads what it left; what it returns goes into the report under the step's name.
    """

    name: str
    tool: str
    argv: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    continues: bool = False
    """The tool keeps what it has done in files of its own, and RESUME=1 tells it to go on from there."""
    copies: Mapping[str, str] = field(default_factory=dict)
    after: Callable[[], dict[str, Any] | None] = lambda: None


def build_project(path: Path, stage: str, out: Console) -> None:
    """Runs a stage and those it needs: `csim`, `csynth`, `cosim`, `ip` or `bitstream`.

    Raises ConfigurationError for a design that does not fit its board or a board without that stage, ToolError when a
    tool is missing or fails, MismatchError when a simulation differs from `tb_data`.
    """
    project = load(path)
    report = project.report
    if not (project.path / "hls" / "run_hls.tcl").is_file():
        raise ModelError("the project has no hls/", where=str(path), fix="Compile it with --target hls.")
    hardware = report["hardware"]
    if stage != "csim" and not hardware["fits"]:
        excess = ", ".join(f"{k} {v['used']:g} of {v['limit']:g}" for k, v in hardware["exceeded"].items())
        raise ConfigurationError(
            f"the design does not fit {report['board']}: {excess}",
            where=str(path),
            fix="Compile it for a larger board or with --target-fps.",
        )
    site = open_site(project.path, report)
    results = Results(project.path)
    steps = plan(site, stage, results)
    with _alone(site):
        _run_steps(site, steps, results, out)


@contextmanager
def _alone(site: Site) -> Iterator[None]:
    """Two builds in one folder would take each other's files away. The system drops the lock with the process."""
    folder = site.hls / "out"
    folder.mkdir(exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(
                "another build of this project is under way", where=str(folder), fix="Wait for it, or end it."
            ) from None
        yield


# ------------------------------------------------------------------------------------------------------------- plan


def plan(site: Site, stage: str, results: Results) -> list[Step]:
    """The steps of a stage in order. Raises ToolError when the tool of one is missing, before any has run."""
    if stage == "csim":
        return [_simulation()]
    if stage == "bitstream" and site.flow == "ip":
        raise ConfigurationError(
            f"{site.board} has neither a processor nor a platform: there is no system to put the core in",
            fix="Use --stage ip and put the core into a design of your own.",
        )
    hls = tools.require_hls()
    synthesis = _hls_step(hls, "csynth", (f"{HLS}/solution/syn/report/csynth.xml",), results.synthesis(site))
    if stage == "csynth":
        return [synthesis]
    if stage == "cosim":
        result = f"{HLS}/solution/sim/report/{site.name}_cosim.rpt"
        return [synthesis, _hls_step(hls, "cosim", (result,), results.cosimulation(site, result))]
    steps = [synthesis, _hls_step(hls, "ip", site.core)]
    if stage == "ip":
        return steps
    return [*steps, *(_linked(site, hls, results) if site.flow == "vitis" else _placed(site, hls, results))]


def _simulation() -> Step:
    """By the vendor's tool where there is one, else by g++."""
    hls = tools.find_hls()
    if hls is not None:
        return _hls_step(hls, "csim")
    for name in ("make", "g++"):
        tools.plain(name, "make g++")
    return Step("csim", "g++", (tools.plain("make"), "csim", f"AP_TYPES={ap_types()}"))


def _hls_step(
    tool: tools.Tool,
    stage: str,
    outputs: tuple[str, ...] = (),
    after: Callable[[], dict[str, Any] | None] = lambda: None,
) -> Step:
    later = stage in ("cosim", "ip")
    return Step(
        stage,
        str(tool),
        tuple(tools.hls_command(tool, "run_hls.tcl")),
        outputs,
        ("csynth",) if later else (),
        {"STAGE": stage, "RESUME": str(int(later))},
        after=after,
    )


def _placed(site: Site, hls: tools.Tool, results: Results) -> list[Step]:
    """Vivado's part; on Kria also the firmware and its device tree."""
    vivado = tools.require(tools.VIVADO)
    tools.check_together(hls, vivado)
    name = site.name
    argv = tuple(tools.vivado_command(vivado, "flow/system.tcl", "out/logs/vivado.log"))
    outputs = (f"out/{name}.bit", f"out/{name}.hwh", f"out/xsa/{name}.xsa")
    jobs = {"JOBS": str(tools.processes())}
    after = results.implementation(site, str(vivado))
    steps = [Step("implementation", str(vivado), argv, outputs, ("ip",), jobs, continues=True, after=after)]
    if site.flow == "kria":
        bootgen = ("-image", "flow/bitstream.bif", "-arch", "zynqmp", "-process_bitstream", "bin", "-w")
        firmware = (tools.plain("bootgen"), *bootgen)
        tree = f"{FIRMWARE}/{name}.dtbo"
        overlay = (tools.plain("dtc", "device-tree-compiler"), "-@", "-O", "dtb", "-o", tree, "flow/overlay.dtso")
        binary = f"{name}.bit.bin"
        copies = {f"{FIRMWARE}/{binary}": f"out/{binary}", f"{FIRMWARE}/shell.json": "flow/shell.json"}
        steps += [
            Step("firmware", "bootgen", firmware, (f"out/{binary}",), ("implementation",)),
            Step("overlay", "dtc", overlay, (tree,), ("firmware",), copies=copies),
        ]
    return steps


def _linked(site: Site, hls: tools.Tool, results: Results) -> list[Step]:
    """The data movers and what `v++` makes of all kernels."""
    linker = tools.require(tools.VERSAL_LINKER if site.family == "versal" else tools.LINKER)
    tools.check_together(hls, linker)
    platform = tools.platform_options(linker, site.platform)
    objects = [f"out/xo/{kernel}.xo" for kernel in (site.name, *site.movers)]
    script = tuple(tools.hls_command(hls, "flow/movers.tcl"))
    binary = f"out/{site.name}.xclbin"
    linked = f"out/{site.name}.xsa" if site.family == "versal" else binary
    link = tuple(tools.link_command(linker, objects, linked, platform))
    after = results.implementation(site, str(linker))
    steps = [
        Step(mover, str(hls), script, (f"out/xo/{mover}.xo",), environment={"MOVER": mover}) for mover in site.movers
    ]
    steps.append(Step("implementation", str(linker), link, (linked,), ("ip", *site.movers), after=after))
    if site.family == "versal":
        package = tuple(tools.package_command(linker, linked, binary, platform))
        steps.append(Step("package", str(linker), package, (binary,), ("implementation",)))
    return steps


# -------------------------------------------------------------------------------------------------------------- run


def _run_steps(site: Site, steps: list[Step], results: Results, out: Console) -> None:
    runs: dict[str, str] = {}
    for number, step in enumerate(steps, 1):
        digest = _digest(site, step, runs)
        label = f"[{number}/{len(steps)}] {step.name}"
        stamp = site.stamps / f"{step.name}.json"
        if before := _finished(site, stamp, digest):
            runs[step.name] = before
            out.print(f"{label}: was done before")
            continue
        out.print(f"{label}: {step.tool}, log hls/out/logs/{step.name}.log")
        begun = time.monotonic()
        found = _run(site, step, digest, lambda text: out.print(f"      {text}"))
        if found is not None:
            results.store(step.name, {"tool": step.tool, **found})
        sizes = {path: (site.hls / path).stat().st_size for path in (*step.outputs, *step.copies)}
        runs[step.name] = secrets.token_hex(8)
        content = {"digest": digest, "run": runs[step.name], "tool": step.tool, "outputs": sizes}
        stamp.write_text(json.dumps(content) + "\n")
        out.print(f"{label}: done in {time.monotonic() - begun:.0f} s")
        for line in results.lines(step.name):
            out.print(f"      {line}")


def _run(site: Site, step: Step, digest: str, tell: Callable[[str], None]) -> dict[str, Any] | None:
    """Runs a step; whatever goes wrong, it leaves neither a stamp nor an output."""
    stamp, marker = site.stamps / f"{step.name}.json", site.stamps / f"{step.name}.begun"
    outputs = [site.hls / output for output in step.outputs]
    copies = {site.hls / target: site.hls / source for target, source in step.copies.items()}
    resumes = step.continues and marker.is_file() and marker.read_bytes() == digest.encode()
    for old in (stamp, *outputs, *copies):
        old.unlink(missing_ok=True)
    for output in (*outputs, *copies):
        output.parent.mkdir(parents=True, exist_ok=True)
    site.stamps.mkdir(parents=True, exist_ok=True)
    marker.write_text(digest)
    environment = {"RESUME": str(int(resumes)), **step.environment}
    job = Job(step.tool, step.argv, site.hls, site.logs / f"{step.name}.log", environment)
    try:
        try:
            run(job, tell)
        except ToolError as error:
            raise _difference(job) or error from None
        if difference := _difference(job):  # a tool that ends well all the same
            raise difference
        if not all(output.is_file() for output in outputs):
            raise failure(job)
        for target, source in copies.items():
            shutil.copyfile(source, target)
        found = step.after()
    except BaseException:
        for output in (*outputs, *copies):
            output.unlink(missing_ok=True)
        raise
    marker.unlink()
    return found


def _difference(job: Job) -> MismatchError | None:
    """The first integer that the test bench found different, when it did."""
    found = MODEL_OUTPUT.search(job.log.read_text(errors="replace")) if job.log.is_file() else None
    if found is None:
        return None
    index = (int(found["frame"]), int(found["index"]))
    return MismatchError(found["layer"], index, int(found["e"]), int(found["g"]), where=str(job.log))


def _digest(site: Site, step: Step, runs: Mapping[str, str]) -> str:
    """Of all that a step's result depends on: the project, the tool, and which runs of the steps before it took."""
    digest = hashlib.sha256(site.digest.encode())
    for part in (step.name, step.tool, *(runs[name] for name in step.needs)):
        digest.update(f"\0{part}".encode())
    return digest.hexdigest()


def _finished(site: Site, stamp: Path, digest: str) -> str:
    """Which run of a step still holds; empty when none does."""
    try:
        content = json.loads(stamp.read_bytes())
        sizes = content["outputs"].items()
        holds = content["digest"] == digest and all((site.hls / path).stat().st_size == size for path, size in sizes)
        return str(content["run"]) if holds else ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""
