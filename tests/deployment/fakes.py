"""Stand-ins for the vendor's tools: they tell a version, note what they were called with, and leave files like theirs.

What a stand-in does is told by files in its folder: `fail` (text to print before it fails), `hang` (it starts a child
and waits), `silent` (it leaves nothing). Reports have the form of Vitis HLS 2022 to 2024 and Vivado 2023.
"""

import json
import sys
from pathlib import Path

BANNERS = {
    "vivado": "vivado v{version} (64-bit)\nTool Version Limit: 2023.05\nSW Build 3865809 on Sun May  7 15:04:56 2023",
    "vitis_hls": "\n****** Vitis HLS - High-Level Synthesis from C, C++ and OpenCL v{version} (64-bit)\n"
    "  **** SW Build 3854077 on May  4 2023\n",
    "vitis-run": "\n****** vitis-run v{version} (64-bit)\n  **** SW Build 5238294 on 2024-11-10-10:18:24\n",
    "v++": "\n****** v++ v{version} (64-bit)\n  **** SW Build 3860322 on 2023-05-04-06:32:48\n",
    "vivado_hls": "\n****** Vivado(TM) HLS - High-Level Synthesis from C, C++ and SystemC v{version} (64-bit)\n",
    "bootgen": "****** Bootgen v{version}\n",
}

CSYNTH = """<?xml version="1.0" encoding="UTF-8" ?>
<profile>
<ReportVersion><Version>2023.1</Version></ReportVersion>
<UserAssignments><unit>ns</unit><TargetClockPeriod>10.00</TargetClockPeriod><TopModelName>vector</TopModelName></UserAssignments>
<PerformanceEstimates>
<PipelineType>no</PipelineType>
<SummaryOfTimingAnalysis><unit>ns</unit><EstimatedClockPeriod>7.123</EstimatedClockPeriod></SummaryOfTimingAnalysis>
<SummaryOfOverallLatency><unit>clock cycles</unit><Best-caseLatency>undef</Best-caseLatency>
<Average-caseLatency>undef</Average-caseLatency><Worst-caseLatency>undef</Worst-caseLatency>
<Interval-min>undef</Interval-min><Interval-max>undef</Interval-max></SummaryOfOverallLatency>
</PerformanceEstimates>
<AreaEstimates>
<Resources><BRAM_18K>5</BRAM_18K><DSP>12</DSP><FF>2345</FF><LUT>3456</LUT><URAM>0</URAM></Resources>
<AvailableResources><BRAM_18K>280</BRAM_18K><DSP>220</DSP><FF>106400</FF><LUT>53200</LUT><URAM>0</URAM></AvailableResources>
</AreaEstimates>
</profile>
"""
FRAME = CSYNTH.replace(">undef</Interval", ">131</Interval").replace(">undef</Worst", ">420</Worst")

HEADER = """// 0x00 : Control signals
#define XVECTOR_CONTROL_ADDR_AP_CTRL       0x00
#define XVECTOR_CONTROL_ADDR_GIE           0x04
#define XVECTOR_CONTROL_ADDR_IER           0x08
#define XVECTOR_CONTROL_ADDR_ISR           0x0c
#define XVECTOR_CONTROL_ADDR_FRAMES_DATA   0x10
#define XVECTOR_CONTROL_BITS_FRAMES_DATA   32
#define XVECTOR_CONTROL_ADDR_BUILD_ID_DATA 0x20
#define XVECTOR_CONTROL_BITS_BUILD_ID_DATA 32
#define XVECTOR_CONTROL_ADDR_BUILD_ID_CTRL 0x24
"""

COSIM = """
================================================================
== Vitis HLS - High-Level Synthesis from C, C++ and OpenCL v2023.1 (64-bit)
================================================================
Report time       : Fri 05 May 2023 10:11:12 AM CEST.
Solution          : solution.

+----------+----------+-----------------------------------------------+-----------------------------------------------+
|          |          |          Latency(Clock Cycles)                |              Interval(Clock Cycles)           |
+   RTL    +  Status  +-----------------------------------------------+-----------------------------------------------+
|          |          |      min      |      avg      |      max      |      min      |      avg      |      max      |
+----------+----------+-----------------------------------------------+-----------------------------------------------+
|      VHDL|        NA|             NA|             NA|             NA|             NA|             NA|             NA|
|   Verilog|      Pass|            401|            455|            512|            401|            455|            512|
+----------+----------+-----------------------------------------------+-----------------------------------------------+
"""

UTILIZATION = """Copyright 1986-2022 Xilinx, Inc. All Rights Reserved.
| Tool Version : Vivado v.2023.1 (lin64) Build 3865809 Sun May  7 15:04:56 MDT 2023
| Design       : system_wrapper

1. Slice Logic
--------------

+----------------------------+------+-------+------------+-----------+-------+
|          Site Type         | Used | Fixed | Prohibited | Available | Util% |
+----------------------------+------+-------+------------+-----------+-------+
| Slice LUTs                 | 8123 |     0 |          0 |     53200 | 15.27 |
|   LUT as Logic             | 7100 |     0 |          0 |     53200 | 13.35 |
| Slice Registers            | 9876 |     0 |          0 |    106400 |  9.28 |
|   Register as Flip Flop    | 9876 |     0 |          0 |    106400 |  9.28 |
+----------------------------+------+-------+------------+-----------+-------+

3. Memory
---------

+-------------------+------+-------+------------+-----------+-------+
|     Site Type     | Used | Fixed | Prohibited | Available | Util% |
+-------------------+------+-------+------------+-----------+-------+
| Block RAM Tile    |  4.5 |     0 |          0 |       140 |  3.21 |
|   RAMB36/FIFO*    |    2 |     0 |          0 |       140 |  1.43 |
|   RAMB18          |    5 |     0 |          0 |       280 |  1.79 |
+-------------------+------+-------+------------+-----------+-------+

4. DSP
------

+----------------+------+-------+------------+-----------+-------+
|    Site Type   | Used | Fixed | Prohibited | Available | Util% |
+----------------+------+-------+------------+-----------+-------+
| DSPs           |   12 |     0 |          0 |       220 |  5.45 |
|   DSP48E1 only |   12 |       |            |           |       |
+----------------+------+-------+------------+-----------+-------+
"""

TIMING = """
------------------------------------------------------------------------------------------------
| Design Timing Summary
| ---------------------
------------------------------------------------------------------------------------------------

    WNS(ns)      TNS(ns)  TNS Failing Endpoints  TNS Total Endpoints      WHS(ns)      THS(ns)  THS Failing Endpoints  THS Total Endpoints     WPWS(ns)     TPWS(ns)  TPWS Failing Endpoints  TPWS Total Endpoints
    -------      -------  ---------------------  -------------------      -------      -------  ---------------------  -------------------     --------     --------  ----------------------  --------------------
      0.412        0.000                      0                21345        0.017        0.000                      0                21345        3.750        0.000                       0                 10234


All user specified timing constraints are met.
"""  # noqa: E501 - as the tool writes it


def install(folder: Path, name: str, version: str) -> Path:
    """Puts a stand-in into a folder for PATH; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        f"from tests.deployment.fakes import main\nmain({name!r}, {version!r}, {str(folder)!r})\n"
    )
    path.chmod(0o755)
    return path


def calls(folder: Path) -> list[dict]:
    """What stand-ins were called with, but for questions for their version."""
    record = folder / "calls"
    return [json.loads(row) for row in record.read_text().splitlines()] if record.exists() else []


def write(path: str, content: str = "x") -> None:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(content)


def main(name: str, version: str, folder: str) -> None:
    """The stand-in itself."""
    import os
    import subprocess

    told, argv = Path(folder), sys.argv[1:]
    if argv in (["-version"], ["--version"]):
        print(BANNERS[name].format(version=version))
        return
    wanted = ("STAGE", "RESUME", "JOBS", "MOVER")
    call = {"name": name, "argv": argv, **{key: os.environ.get(key) for key in wanted}, "cwd": str(Path.cwd())}
    with (told / "calls").open("a") as record:
        record.write(json.dumps(call) + "\n")
    if (told / "hang").exists():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print("INFO: [HLS 200-10] Analyzing design file 'vector.cpp' ...", flush=True)
        (told / "hanging").write_text(f"{os.getpid()} {child.pid}")
        child.wait()
    if (told / "fail").exists():
        print((told / "fail").read_text())
        sys.exit(1)
    if not (told / "silent").exists():
        act(name, argv, os.environ.get("STAGE"), os.environ.get("MOVER"))


def act(name: str, argv: list[str], stage: str | None, mover: str | None) -> None:
    """Leaves what the tool would."""
    top = next(Path("src").glob("*.cpp")).stem if Path("src").is_dir() else "vector"
    script = next((word for word in argv if word.endswith(".tcl")), "")
    if script.endswith("run_hls.tcl"):
        solution = "vitis_hls/solution"
        if stage == "csynth":
            write(f"{solution}/syn/report/csynth.xml", CSYNTH)
            write(f"{solution}/syn/report/dataflow_in_loop_each_frame_csynth.xml", FRAME)
            write(f"{solution}/impl/misc/drivers/vector_v1_0/src/xvector_hw.h", HEADER)
        elif stage == "cosim":
            write(f"{solution}/sim/report/{top}_cosim.rpt", COSIM)
        elif stage == "ip" and "-flow_target vitis" in Path("run_hls.tcl").read_text():
            write(f"out/xo/{top}.xo")
        elif stage == "ip":
            write(f"out/ip/{top}.zip")
            write(f"{solution}/impl/ip/component.xml")
        elif stage == "csim":
            print("PASS frames=8 values=80")
    elif script.endswith("movers.tcl"):
        write(f"out/xo/{mover}.xo")
    elif script.endswith("system.tcl"):
        print("dct-toolchain: block design\nStarting Placer Task\nINFO: something else")
        for path in (f"out/{top}.bit", f"out/{top}.hwh", f"out/xsa/{top}.xsa"):
            write(path)
        write("out/reports/utilization.rpt", UTILIZATION)
        write("out/reports/timing.rpt", TIMING)
    elif name == "bootgen":
        write(f"out/{top}.bit.bin")
    elif name == "v++":
        print("[10:11:12] Run vpl: Step synth: Started")
        write(argv[argv.index("-o") + 1])
        write("out/reports/link/imp/impl_1_full_util_routed.rpt", UTILIZATION.replace("Slice", "CLB"))
        write("out/reports/link/imp/impl_1_timing_summary_routed.rpt", TIMING)
