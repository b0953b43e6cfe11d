"""The adapter: versions that tools tell, which one is taken, and what is refused."""

import pytest

from tests.deployment.fakes import BANNERS, install
from toolchain.deployment import tools
from toolchain.errors import ToolError


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


VERSIONS = [
    "2020.2",
    "2021.1",
    "2021.2",
    "2022.1",
    "2022.2",
    "2023.1",
    "2023.2",
    "2024.1",
    "2024.2",
    "2025.1",
    "2026.1",
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["vivado", "vitis_hls", "vitis-run", "v++", "vivado_hls"])
def test_versions_are_read(bench, name, version):
    question = "-version" if name in {"vivado", "vitis_hls", "vivado_hls"} else "--version"
    path = install(bench, name, version)
    year, number = map(int, version.split("."))
    assert tools.read_version(name, [str(path), question]) == (year, number)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Vivado v2024.1.2 (64-bit)", (2024, 1)),
        ("Vitis v2024.2 (64-bit)\nSW Build 5238294", (2024, 2)),
        ("****** Vivado v2018.3 (64-bit)\n  **** SW Build 2405991 on Thu Dec  6 23:36:41 MST 2018", (2018, 3)),
    ],
)
def test_banners(tmp_path, text, version):
    path = tmp_path / "tool"
    path.write_text(f"#!/bin/sh\ncat <<END\n{text}\nEND\n")
    path.chmod(0o755)
    assert tools.read_version("tool", [str(path)]) == version


@pytest.mark.parametrize("folder", ["Vitis/2024.1/bin", "2025.1.1/Vitis/bin"])
def test_a_tool_that_only_its_folder_dates(bench, folder):
    home = bench / folder
    home.mkdir(parents=True)
    (home / "vitis-run").write_text("#!/bin/sh\necho 'unrecognised option --version' >&2\nexit 1\n")
    (home / "vitis-run").chmod(0o755)
    (bench / "vitis-run").symlink_to(home / "vitis-run")
    assert tools.require_hls().version == ((2024, 1) if "2024" in folder else (2025, 1))


def test_a_tool_that_tells_no_version(bench):
    path = bench / "vitis_hls"
    path.write_text("#!/bin/sh\necho 'error while loading shared libraries: libtinfo.so.5' >&2\nexit 127\n")
    path.chmod(0o755)
    with pytest.raises(ToolError, match="does not tell its version, but says: error while loading"):
        tools.require_hls()


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        ({"vitis_hls": "2020.2"}, "vitis_hls 2020.2"),
        ({"vitis_hls": "2024.1", "vitis-run": "2024.1"}, "vitis-run 2024.1"),
        ({"vitis_hls": "2024.1", "vitis-run": "2026.1"}, "vitis-run 2026.1"),
        ({"vitis_hls": "2023.1", "vitis-run": "2023.1"}, "vitis_hls 2023.1"),
        ({"vitis_hls": "2022.2", "vivado_hls": "2020.1"}, "vitis_hls 2022.2"),
    ],
)
def test_the_newest_that_can_be_used_is_taken(bench, there, taken):
    for name, version in there.items():
        install(bench, name, version)
    tool = tools.require_hls()
    assert str(tool) == taken
    expected = ["--mode", "hls", "--tcl", "x.tcl"] if tool.name == "vitis-run" else ["-f", "x.tcl"]
    assert tools.hls_command(tool, "x.tcl") == [str(bench / tool.name), *expected]


@pytest.mark.parametrize(
    ("there", "says"),
    [
        ({}, "neither vitis-run nor vitis_hls is on PATH. Source the settings64.sh"),
        ({"vivado_hls": "2020.1"}, "Vivado HLS cannot compile this design: its ap_axis"),
        ({"vitis_hls": "2020.1"}, "vitis_hls 2020.1 is too old: open_solution has no -flow_target"),
        ({"vitis-run": "2023.1"}, "vitis-run 2023.1 is too old: it takes no Tcl before. Use 2023.2 or later"),
    ],
)
def test_what_cannot_be_used_is_refused(bench, there, says):
    for name, version in there.items():
        install(bench, name, version)
    with pytest.raises(ToolError) as caught:
        tools.require_hls()
    assert says in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("program", [tools.VIVADO, tools.LINKER])
def test_vivado_and_the_linker(bench, program):
    with pytest.raises(ToolError, match="is not on PATH"):
        tools.require(program)
    install(bench, program.name, "2019.1")
    with pytest.raises(ToolError, match="is too old"):
        tools.require(program)
    install(bench, program.name, "2025.2")
    assert tools.require(program).version == (2025, 2)
    assert program.name in BANNERS


def test_a_linker_for_versal(bench):
    install(bench, "v++", "2021.2")
    assert tools.require(tools.LINKER)
    with pytest.raises(ToolError, match=r"v\+\+ 2021\.2 is too old: it links Versal designs into no \.xsa before"):
        tools.require(tools.VERSAL_LINKER)


def test_a_tool_takes_nothing_of_a_newer_one():
    old, new = tools.Tool("vivado", "/v", (2022, 2)), tools.Tool("vitis_hls", "/h", (2023, 1))
    tools.check_together(old, new)
    tools.check_together(old, old)
    with pytest.raises(ToolError, match=r"vivado 2022\.2 cannot take what vitis_hls 2023\.1 makes\. Source"):
        tools.check_together(new, old)


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        ((), None),
        (("xilinx_vck190_base_202220_1",), None),
        (("xilinx_vck190_base_202220_1", "xilinx_vck190_base_202520_1"), None),
        (("xilinx_vck190_base_202310_1", "xilinx_vck190_base_202520_1"), "xilinx_vck190_base_202520_1"),
        (("xilinx_vck190_base_202520_9", "xilinx_vck190_base_202520_10"), "xilinx_vck190_base_202520_10"),
        (("xilinx_vck190_base_dfx_202520_1", "xilinx_zcu104_base_202520_1", "xilinx_vck190_base_old"), None),
    ],
)
def test_another_version_of_a_platform(tmp_path, monkeypatch, there, taken):
    """Only of the same platform: one that is reconfigured in part, or another shell, is another one."""
    monkeypatch.setenv("PLATFORM_REPO_PATHS", f"{tmp_path / 'none'}:{tmp_path}")
    for name in there:
        (tmp_path / name).mkdir()
    linker = tools.Tool("v++", str(tmp_path / "bin/v++"), (2025, 2))
    expected = ["--platform", taken] if taken else []
    assert tools.platform_options(linker, "xilinx_vck190_base_202220_1") == expected
    assert tools.platform_options(linker, None) == []
    link = tools.link_command(linker, ["a.xo"], "a.xsa", expected)
    assert link[4:6] == ["--config", "flow/link.cfg"]
    assert link[6 : 6 + len(expected)] == expected


def test_packaging_of_old_and_new_linkers():
    old, new = (tools.Tool("v++", "v++", version) for version in ((2025, 2), (2026, 1)))
    configured = ["--config", "flow/package.cfg"]
    assert tools.package_command(old, "a.xsa", "a.xclbin", ["--platform", "p"]) == [
        *("v++", "--package", "-t", "hw"), *configured, "--platform", "p", "a.xsa", "-o", "a.xclbin",
    ]  # fmt: skip
    assert tools.package_command(new, "a.xsa", "a.xclbin", ["--platform", "p"]) == [
        *("v++", "--package"), *configured, "--platform", "a.xsa", "-o", "a.xclbin",
    ]  # fmt: skip
