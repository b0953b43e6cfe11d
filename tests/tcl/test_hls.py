"""run_hls.tcl and hls_config.cfg of generated projects, for both flows; planted mistakes are found with their line."""

import shutil

import pytest

from tests.tcl.harness import check_configuration, needs_tclsh, run, table
from tests.verification.networks import generate

pytestmark = [pytest.mark.tcl, needs_tclsh]
FLOWS = {"pynq-z2": ("vivado", "ip_catalog"), "u250": ("vitis", "xo")}


@pytest.fixture(scope="module")
def projects(tmp_path_factory):
    root = tmp_path_factory.mktemp("tcl")
    return {board: generate("vector", root / board, board) for board in FLOWS}


@pytest.fixture
def project(projects, tmp_path):
    return shutil.copytree(projects["pynq-z2"], tmp_path / "hls")


OPENING = [
    "open_project",
    "set_top",
    "add_files",
    "add_files",
    "add_files",
    "open_solution",
    "set_part",
    "create_clock",
]
STAGES = {
    "csim": ["csim_design"],
    "csynth": ["csynth_design"],
    "cosim": ["csynth_design", "cosim_design"],
    "ip": ["csynth_design", "export_design"],
}


@pytest.mark.parametrize("board", FLOWS)
@pytest.mark.parametrize("stage", [*STAGES, None])
def test_every_stage(projects, tmp_path, board, stage):
    done = run(projects[board] / "run_hls.tcl", "hls", tmp_path, {"STAGE": stage} if stage else {})
    assert (done.status, done.errors, done.problems) == (0, "", ())
    assert done.names == [*OPENING, "config_compile", *STAGES[stage or "csynth"]]
    words = {call.name: call.words for call in done.calls}
    target, form = FLOWS[board]
    assert words["open_project"] == ("-reset", "vitis_hls_csim" if stage == "csim" else "vitis_hls")
    assert words["open_solution"][-2:] == ("-flow_target", target)
    assert words.get("export_design", ("-format", form))[:2] == ("-format", form)
    assert {call.folder for call in done.calls} == {projects[board]}


@pytest.mark.parametrize(("stage", "last"), [("cosim", "cosim_design"), ("ip", "export_design")])
def test_later_stages_take_the_synthesis_that_is_there(projects, tmp_path, stage, last):
    script = projects["pynq-z2"] / "run_hls.tcl"
    done = run(script, "hls", tmp_path, {"STAGE": stage, "RESUME": "1"}, given=["synthesis"])
    assert (done.status, done.errors, done.problems) == (0, "", ())
    assert done.names == ["open_project", "open_solution", last]
    assert [call.words for call in done.calls[:2]] == [("vitis_hls",), ("solution",)]
    assert run(script, "hls", tmp_path, {"STAGE": "csynth", "RESUME": "1"}).names[-1] == "csynth_design"


def test_the_exported_core(projects, tmp_path):
    """Its name is what system.tcl asks the IP catalogue for; its file is what `toolchain build` waits for."""
    words = {}
    for board in FLOWS:
        words[board] = run(projects[board] / "run_hls.tcl", "hls", tmp_path, {"STAGE": "ip"}).calls[-1].words
    name = ("-vendor", "dct_toolchain", "-library", "hls", "-version", "1.0", "-ipname", "vector")
    assert words["pynq-z2"] == ("-format", "ip_catalog", *name, "-output", "out/ip/vector.zip")
    assert words["u250"] == ("-format", "xo", "-output", "out/xo/vector.xo")


def test_an_unknown_stage_runs_nothing(project, tmp_path):
    done = run(project / "run_hls.tcl", "hls", tmp_path, {"STAGE": "synth"})
    assert done.status == 2
    assert done.calls == ()
    assert "synth" in done.errors


def test_the_test_bench_gets_its_data(project, tmp_path):
    for stage in ("csim", "cosim"):
        call = run(project / "run_hls.tcl", "hls", tmp_path, {"STAGE": stage}).calls[-1]
        option, arguments = call.words
        assert option == "-argv"
        assert arguments == f"--inputs {project}/tb_data/inputs.dat --outputs {project}/tb_data/outputs.dat"


MISTAKES = [
    ("csynth_design", "csynth_desing", "unknown command csynth_desing; did you mean csynth_design?"),
    ("create_clock", "vendor::create_clock", "unknown command vendor::create_clock"),
    ("-flow_target", "-flow_targt", "unknown option -flow_targt; did you mean flow_target?"),
    ("-flow_target vivado", "-flow_target vivodo", "'vivodo' is none of vitis, vivado"),
    ("-flow_target vivado", "-flow_target", "-flow_target needs a value"),
    ("-pipeline_style frp", "-pipeline_style free", "'free' is none of stp, flp, frp"),
    ("-pipeline_style frp", "-pipeline_style frp -pipeline_style stp", "given twice"),
    ("-pipeline_style frp", "-pragma_strict_mode=yes", "cannot be 'yes'"),
    ("-pipeline_style frp", "-name_max_length long", "'long' is no integer"),
    ("src/vector.cpp", "src/vektor.cpp", "there is no src/vektor.cpp"),
    ("add_files -tb tb_data", "add_files -tb", "takes 1 argument(s), got 0"),
    ("set_top vector", "set_top", "takes 1 argument(s), got 0"),
    ("set_top vector", "set_top vector twice", "takes 1 argument(s), got 2"),
    ("create_clock -period", "create_clock -name other ;#", "-period is missing"),
    ("create_clock -period", "create_clock -period fast ;#", "'fast' is no time"),
    ("set_part", "set part", "csynth_design comes before there is a part"),
    ("open_solution -reset", "close_project ;#", "there is a solution"),
    ("set_top", "set top [expr {1 +}] ;#", "Tcl itself"),
]


@pytest.mark.parametrize(("old", "new", "says"), MISTAKES)
def test_planted_mistakes_are_found(project, tmp_path, old, new, says):
    script = project / "run_hls.tcl"
    text = script.read_text()
    assert old in text.split("cd $here")[1]
    head, body = text.split("cd $here")
    script.write_text(f"{head}cd $here{body.replace(old, new, 1)}")
    problems = run(script, "hls", tmp_path).problems
    found = [p for p in problems if says in p.message]
    assert found, problems
    if "comes before" not in says and "there is a" not in says:
        assert new.split()[0] in script.read_text().splitlines()[found[0].line - 1]


@pytest.mark.parametrize("tool", ["hls", "vivado"])
def test_commands_of_the_table_are_well_formed(tool):
    for name, command in table(tool).items():
        assert set(command) <= {"options", "required", "arguments", "needs", "gives", "returns"}, name
        assert set(command.get("required", [])) <= set(command.get("options", {}))
    given = {item for command in table(tool).values() for item in command.get("gives", [])}
    assert {item for command in table(tool).values() for item in command.get("needs", [])} <= given


# ------------------------------------------------------------------------------------------ hls_config.cfg


@pytest.mark.parametrize("board", FLOWS)
def test_configuration(projects, board):
    path = projects[board] / "hls_config.cfg"
    assert check_configuration(path) == []
    target, form = FLOWS[board]
    assert ("\nflow_target=vitis\n" in path.read_text()) == (target == "vitis")
    assert f"package.output.format={form}\n" in path.read_text()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("syn.compile.pipeline_style", "syn.compile.pipline_style", "did you mean syn.compile.pipeline_style?"),
        ("pipeline_style=frp", "pipeline_style=free", "'free' is none of"),
        ("package.output.format=ip_catalog", "package.output.format=ip", "'ip' is none of"),
        ("syn.file=src/vector.cpp", "syn.file=vector.cpp", "there is no vector.cpp"),
        ("[hls]", "[HLS_options]", "unknown section"),
        ("part=", "prt=", "unknown key prt"),
        ("syn.top=vector", "syn.top=vector\nsyn.top=other", "given twice"),
        ("syn.top=vector", "", "syn.top is missing"),
        ("clock=", "clock=x", "is no time"),
        ("csim.argv", "csim.argv ", "unknown key"),
    ],
)
def test_planted_mistakes_in_the_configuration(project, old, new, says):
    path = project / "hls_config.cfg"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert [p for p in check_configuration(path) if says in p.message]
