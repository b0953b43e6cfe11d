"""From the HLS core to a whole system: block design, device tree or link configuration, as the flow of a board asks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jinja2

from toolchain.codegen.project import Files
from toolchain.hardware.board import Board
from toolchain.hardware.network import Network, master_pair
from toolchain.hardware.terminals import Terminal
from toolchain.resources import folder
from toolchain.version import __version__

CORE = ("dct_toolchain", "hls", "1.0")
"""Vendor, library and version of the exported core; its name is that of the network."""
ADDRESS_RANGE = 0x10000
"""Bytes that each block with registers takes."""
SWITCH_PORTS = 16
"""Masters or slaves of one AXI SmartConnect (AMD PG247) or Interconnect (PG059)."""
DMA_LENGTH_BITS = 26
"""The largest there is: a transfer has fewer than 64 MiB (AMD PG021)."""
INTERRUPTS = 32
"""Inputs of one AXI interrupt controller (AMD PG099). Blocks beyond them are polled by the host."""
CONTROLLER = "interrupt_controller"
"""PYNQ takes several interrupts only through a controller at the first input of the processor."""
BURST_BYTES = 4096
"""An AXI burst crosses no border of 4 KiB."""


@dataclass(frozen=True)
class Processor:
    """How the processing system of a family is put into a block design.

    `interrupt` is the pin of its first interrupt input, `interrupt_number` how a device tree counts that one.
    """

    vlnv: str
    rule: str
    automation: str
    switch: str
    clock: str
    reset: str
    master: str
    clocked: tuple[str, ...]
    memory: str
    memory_clock: str
    memory_bits: int
    interrupt: str
    interrupt_number: int
    base: int
    address_bits: int
    fixed: Mapping[str, str]


PROCESSORS = {
    # AMD UG585 and PG082. The interconnect takes fewer LUTs than the SmartConnect, of which small parts have few.
    "zynq": Processor(
        vlnv="xilinx.com:ip:processing_system7",
        rule="xilinx.com:bd_rule:processing_system7",
        automation='make_external "FIXED_IO, DDR" Master Disable Slave Disable',
        switch="xilinx.com:ip:axi_interconnect",
        clock="ps/FCLK_CLK0",
        reset="ps/FCLK_RESET0_N",
        master="ps/M_AXI_GP0",
        clocked=("ps/M_AXI_GP0_ACLK",),
        memory="ps/S_AXI_HP{}",
        memory_clock="ps/S_AXI_HP{}_ACLK",
        memory_bits=64,
        interrupt="ps/IRQ_F2P",
        interrupt_number=29,
        base=0x43C00000,
        address_bits=32,
        fixed={
            "PCW_USE_M_AXI_GP0": "1",
            "PCW_USE_M_AXI_GP1": "0",
            "PCW_EN_CLK0_PORT": "1",
            "PCW_EN_RST0_PORT": "1",
            "PCW_USE_FABRIC_INTERRUPT": "1",
            "PCW_IRQ_F2P_INTR": "1",
        },
    ),
    # AMD UG1085 and PG201. Ports of 128 bits are what the processor wakes up with: no boot loader has to change them.
    "zynquplus": Processor(
        vlnv="xilinx.com:ip:zynq_ultra_ps_e",
        rule="xilinx.com:bd_rule:zynq_ultra_ps_e",
        automation="",
        switch="xilinx.com:ip:smartconnect",
        clock="ps/pl_clk0",
        reset="ps/pl_resetn0",
        master="ps/M_AXI_HPM0_FPD",
        clocked=("ps/maxihpm0_fpd_aclk",),
        memory="ps/S_AXI_HP{}_FPD",
        memory_clock="ps/saxihp{}_fpd_aclk",
        memory_bits=128,
        interrupt="ps/pl_ps_irq0",
        interrupt_number=89,
        base=0xA0000000,
        address_bits=40,
        fixed={
            "PSU__USE__M_AXI_GP0": "1",
            "PSU__USE__M_AXI_GP1": "0",
            "PSU__USE__M_AXI_GP2": "0",
            "PSU__MAXIGP0__DATA_WIDTH": "128",
            "PSU__FPGA_PL0_ENABLE": "1",
            "PSU__USE__IRQ0": "1",
            "PSU__USE__IRQ1": "0",
        },
    ),
}
MEMORY_PORTS = 4
PORT_MASTERS = 12
"""Weight masters of a port, before another one is opened: a SmartConnect joins 16, and data needs some."""
"""High-performance ports of either family."""


@dataclass(frozen=True)
class Engine:
    """The DMA engine of an input (`reads`) or output."""

    terminal: Terminal
    reads: bool

    @property
    def instance(self) -> str:
        return f"dma_{self.terminal.identifier}"

    @property
    def channel(self) -> str:
        return "mm2s" if self.reads else "s2mm"

    @property
    def clock(self) -> str:
        return f"m_axi_{self.channel}_aclk"

    @property
    def memory(self) -> str:
        return f"{self.instance}/M_AXI_{self.channel.upper()}"

    @property
    def stream(self) -> tuple[str, str]:
        """From and to."""
        kernel = f"accelerator_0/{self.terminal.identifier}"
        if self.reads:
            return f"{self.instance}/M_AXIS_MM2S", kernel
        return kernel, f"{self.instance}/S_AXIS_S2MM"

    def settings(self, address_bits: int) -> dict[str, int]:
        """Parameters of the `axi_dma` core (AMD PG021): simple mode, one channel, beats as the accelerator has them."""
        bits = beat_bits(self.terminal)
        wide = max(bits, 32)
        stream = "m_axis_mm2s" if self.reads else "s_axis_s2mm"
        return {
            "c_include_sg": 0,
            "c_sg_include_stscntrl_strm": 0,
            "c_sg_length_width": DMA_LENGTH_BITS,
            "c_addr_width": address_bits,
            "c_include_mm2s": int(self.reads),
            "c_include_s2mm": int(not self.reads),
            f"c_m_axi_{self.channel}_data_width": wide,
            f"c_{stream}_tdata_width": bits,
            f"c_{self.channel}_burst_size": min(64, BURST_BYTES * 8 // wide),
        }


def beat_bits(terminal: Terminal) -> int:
    """Bits of a beat of an input or output."""
    return terminal.lanes * terminal.lane_bits


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder("hls_templates") / "flow"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - Tcl, C++ and device trees; names are Identifiers or go through `comment`
    )


def render_flow(network: Network, board: Board, clock_mhz: float, decoders: int) -> Files:
    """The files of `hls/flow/`, for `run_hls.tcl` and the tools behind it, with paths relative to `hls/`.

    `decoders` read weights, 0 where all are constants: through them the accelerator reads memory itself.
    `flow/flow.json` tells `toolchain build` what to run.
    """
    values: dict[str, Any] = {
        "name": network.name,
        "board": board,
        "clock_mhz": clock_mhz,
        "hertz": round(clock_mhz * 1e6),
        "version": __version__,
    }
    files: Files = {}
    if board.flow in ("vivado", "kria"):
        files["flow/system.tcl"] = _render("system.tcl.j2", values | _system(network, board, clock_mhz, decoders))
    if board.flow == "kria":
        devices = {"devices": _devices(network, board), "range": ADDRESS_RANGE}
        files["flow/overlay.dtso"] = _render("overlay.dtso.j2", values | devices)
        files["flow/bitstream.bif"] = _render("bitstream.bif.j2", values)
        files["flow/shell.json"] = json.dumps({"shell_type": "XRT_FLAT", "num_slots": "1"}) + "\n"
    if board.flow == "vitis":
        files |= _vitis(network, board, clock_mhz, decoders, values)
    files["flow/flow.json"] = json.dumps(_description(network, board, decoders), indent=1) + "\n"
    return files


def _render(template: str, values: Mapping[str, Any]) -> str:
    return _environment().get_template(template).render(values)


def _description(network: Network, board: Board, decoders: int) -> dict[str, Any]:
    movers = [mover["kernel"] for mover in _movers(network)] if board.flow == "vitis" else []
    return {
        "name": network.name,
        "board": board.name,
        "flow": board.flow,
        "part": board.part,
        "family": board.family,
        "platform": board.platform,
        "decoders": decoders,
        "movers": movers,
    }


# ------------------------------------------------------------------------------------- processor beside the fabric


def engines(network: Network) -> list[Engine]:
    """The DMA engines, inputs before outputs."""
    return [Engine(t, True) for t in network.inputs] + [Engine(t, False) for t in network.outputs]


def addresses(network: Network, board: Board) -> dict[str, int]:
    """Physical address of the registers of each block of a `vivado` or `kria` design: ADDRESS_RANGE bytes each."""
    base = PROCESSORS[board.family].base
    names = ["accelerator_0", *(engine.instance for engine in engines(network)), CONTROLLER]
    return {name: base + k * ADDRESS_RANGE for k, name in enumerate(names)}


def _system(network: Network, board: Board, clock_mhz: float, decoders: int) -> dict[str, Any]:
    ps = PROCESSORS[board.family]
    dmas = engines(network)
    memory = _memory_ports(dmas, decoders)
    slaves = {"accelerator_0": "s_axi_control", CONTROLLER: "S_AXI"}
    segments = {
        f"{name}/{slaves.get(name, 'S_AXI_LITE')}/Reg": address for name, address in addresses(network, board).items()
    }
    sources = ["accelerator_0/interrupt", *(f"{dma.instance}/{dma.channel}_introut" for dma in dmas)]
    settings = {**ps.fixed, **_processor_settings(ps, board.family, clock_mhz, len(memory))}
    return {
        "ps": {
            "vlnv": ps.vlnv,
            "rule": ps.rule,
            "automation": ps.automation,
            "switch": ps.switch,
            "clock": ps.clock,
            "reset": ps.reset,
            "master": ps.master,
            "interrupt": ps.interrupt,
            "clocked": [*ps.clocked, *(ps.memory_clock.format(k) for k in range(len(memory)))],
            "settings": settings,
        },
        "core": f"{CORE[0]}:{CORE[1]}:{network.name}:{CORE[2]}",
        "switch_ports": SWITCH_PORTS,
        "engines": [
            {
                "instance": dma.instance,
                "clock": dma.clock,
                "stream": dma.stream,
                "settings": dma.settings(ps.address_bits),
            }
            for dma in dmas
        ],
        "memory": [(ps.memory.format(k), masters) for k, masters in enumerate(memory)],
        "slaves": [
            "accelerator_0/s_axi_control",
            *(f"{dma.instance}/S_AXI_LITE" for dma in dmas),
            f"{CONTROLLER}/s_axi",
        ],
        "controller": CONTROLLER,
        "interrupts": sources[:INTERRUPTS],
        "segments": list(segments.items()),
        "range": ADDRESS_RANGE,
    }


def _memory_ports(dmas: Sequence[Engine], decoders: int) -> list[list[str]]:
    """Masters of each memory port. A port reads and writes at the same time: input k and output k share one.

    Decoders share out over the ports that are left, too many of them over all.
    """
    reading = [dma.memory for dma in dmas if dma.reads]
    writing = [dma.memory for dma in dmas if not dma.reads]
    weights = [f"accelerator_0/m_axi_{name}" for k in range(decoders) for name in master_pair(k)]
    wanted = max(len(reading), len(writing), -(-len(weights) // PORT_MASTERS))
    count = min(MEMORY_PORTS, wanted)
    ports: list[list[str]] = [[] for _ in range(count)]
    for masters in (reading, writing, weights):
        for k, master in enumerate(masters):
            ports[k % count].append(master)
    return ports


def _processor_settings(ps: Processor, family: str, clock_mhz: float, ports: int) -> dict[str, str]:
    """Clock and memory ports."""
    used = [int(k < ports) for k in range(MEMORY_PORTS)]
    if family == "zynq":
        settings = {"PCW_FPGA0_PERIPHERAL_FREQMHZ": f"{clock_mhz:g}"}
        for k, use in enumerate(used):
            settings[f"PCW_USE_S_AXI_HP{k}"] = str(use)
            if use:
                settings[f"PCW_S_AXI_HP{k}_DATA_WIDTH"] = str(ps.memory_bits)
        return settings
    settings = {"PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ": f"{clock_mhz:g}"}
    for k, use in enumerate(used):  # S_AXI_HP0_FPD is the third of the slave ports
        settings[f"PSU__USE__S_AXI_GP{k + 2}"] = str(use)
        if use:
            settings[f"PSU__SAXIGP{k + 2}__DATA_WIDTH"] = str(ps.memory_bits)
    return settings


def _devices(network: Network, board: Board) -> list[dict[str, Any]]:
    """Blocks with registers, for the device tree. A node's name has 31 characters (Devicetree Specification 2.2.1)."""
    number = PROCESSORS[board.family].interrupt_number
    return [
        {
            "instance": name,
            "node": name[:31],
            "address": address,
            "interrupt": number if name == CONTROLLER else None,
        }
        for name, address in addresses(network, board).items()
    ]


# ---------------------------------------------------------------------------------------------- accelerator cards


def _movers(network: Network) -> list[dict[str, Any]]:
    """Data-mover kernels, one an input or output."""
    return [
        {
            "kernel": f"{'mm2s' if dma.reads else 's2mm'}_{dma.terminal.identifier}",
            "identifier": dma.terminal.identifier,
            "reads": dma.reads,
            "bits": beat_bits(dma.terminal),
            "beats": dma.terminal.type.size // dma.terminal.lanes,
        }
        for dma in engines(network)
    ]


def _vitis(network: Network, board: Board, clock_mhz: float, decoders: int, values: Mapping[str, Any]) -> Files:
    movers = _movers(network)
    versal = board.family == "versal"
    more = {
        "movers": movers,
        "period": f"{1000 / clock_mhz:.3f}",
        "versal": versal,
        "mhz": round(clock_mhz),
        "units": [f"{name}_1" for name in (network.name, *(mover["kernel"] for mover in movers))],
        "banks": _banks(network.name, movers, board, decoders),
    }
    files: Files = {
        f"flow/{name}": _render(f"{name}.j2", {**values, **more}) for name in ("link.cfg", "movers.cpp", "movers.tcl")
    }
    files["flow/movers.h"] = (folder("hls_templates") / "flow/movers.h").read_text()
    if versal:
        files["flow/package.cfg"] = _render("package.cfg.j2", values)
    return files


def _banks(name: str, movers: Sequence[Mapping[str, Any]], board: Board, decoders: int) -> list[tuple[str, str]]:
    """Which memory each argument uses: round robin over the banks; all pointers to the weights see one.

    On Versal the linker chooses, since there all go through the network on chip.
    """
    if board.family == "versal" or not board.memories:
        return []
    memory = board.memories[0]
    tag, count = ("HBM" if memory.kind == "hbm2" else "DDR"), memory.banks or 1
    result = [(f"{mover['kernel']}_1.memory", f"{tag}[{k % count}]") for k, mover in enumerate(movers)]
    bank = f"{tag}[{len(movers) % count}]"
    return result + [(f"{name}_1.{pointer}", bank) for k in range(decoders) for pointer in master_pair(k)]
