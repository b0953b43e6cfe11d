"""What Vivado's IP integrator would say of a block design: runs recorded calls on a model of cells, ports and nets.

`cores.toml` has the vendor's cores; that of the accelerator is given by the test.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from tests.tcl.harness import Call, Problem, wrong
from toolchain.hardware.network import master_pair

CORES = Path(__file__).parent / "cores.toml"
PIN = re.compile(r"(?P<cell>\w+)/(?P<port>\w+)")


@cache
def cores() -> Mapping[str, Mapping]:
    return tomllib.loads(CORES.read_text())


class Cell:
    """A core in the design, with the parameters that were set."""

    def __init__(self, core: Mapping) -> None:
        self.core, self.settings = core, {}

    @property
    def ports(self) -> dict[str, str]:
        """What each port is: master, slave, input or output, with ? when it may stay open."""
        result = {}
        for name, text in self.core["ports"].items():
            what, _, condition = text.partition(" if ")
            what, _, count = what.partition(" * ")
            if condition:
                parameter, _, value = condition.partition("=")
                if self.settings.get(parameter) != value:
                    continue
            if count:
                hashes = "#" * name.count("#")
                for k in range(int(self.settings.get(count, 1))):
                    result[name.replace(hashes, f"{k:0{len(hashes)}d}")] = what
            else:
                result[name] = what
        return result


class BlockDesign:
    """The state of a design; `problems` grows with each call that the vendor's tool would refuse."""

    def __init__(self, accelerator: Mapping[str, Mapping]) -> None:
        self.table = {**cores(), **accelerator}
        self.cells: dict[str, Cell] = {}
        self.links: dict[str, str] = {}  # interface pins, both ways
        self.driver: dict[str, str] = {}  # of an input pin
        self.addresses: dict[str, tuple[int, int]] = {}
        self.problems: list[Problem] = []
        self.is_valid = False

    def replay(self, calls: Sequence[Call]) -> "BlockDesign":
        for call in calls:
            handler = getattr(self, f"on_{call.name}", None)
            if handler:
                self.problems += [Problem(call.line, f"{call.name}: {text}") for text in handler(list(call.words))]
        return self

    def find(self, pin: str) -> str | None:
        """What a pin is, or None."""
        found = PIN.fullmatch(pin)
        cell = self.cells.get(found["cell"]) if found else None
        return cell.ports.get(found["port"], "").rstrip("?") or None if cell else None

    def segments(self, name: str) -> set[str]:
        """Address segments of a cell's registers."""
        cell = self.cells.get(name)
        if cell is None:
            return set()
        given = cell.core.get("segment")
        return {given} if given else {f"{port}/Reg" for port, what in cell.ports.items() if what == "slave"}

    def on_create_bd_cell(self, words: list[str]) -> Iterator[str]:
        options = dict(zip(words[:-1:2], words[1:-1:2], strict=True))
        name, vlnv = words[-1], options["-vlnv"]
        core = self.table.get(vlnv) or self.table.get(":".join(vlnv.split(":")[:3]))
        if core is None:
            yield f"there is no core {vlnv}"
            return
        if options["-type"] != core["type"]:
            yield f"{vlnv} is of the type {core['type']}"
        if name in self.cells:
            yield f"{name} is there already"
        self.cells[name] = Cell(core)

    def on_get_bd_cells(self, words: list[str]) -> Iterator[str]:
        if words[-1] not in self.cells:
            yield f"there is no cell {words[-1]}"

    def on_get_bd_pins(self, words: list[str]) -> Iterator[str]:
        if self.find(words[-1]) not in {"input", "output"}:
            yield f"there is no pin {words[-1]}"

    def on_get_bd_intf_pins(self, words: list[str]) -> Iterator[str]:
        if self.find(words[-1]) not in {"master", "slave"}:
            yield f"there is no interface pin {words[-1]}"

    def on_apply_bd_automation(self, words: list[str]) -> Iterator[str]:
        cell = self.cells.get(words[-1])
        if cell and words[words.index("-rule") + 1] != cell.core.get("automation"):
            yield f"the rule does not go with {words[-1]}"

    def on_set_property(self, words: list[str]) -> Iterator[str]:
        if words[0] == "-dict":
            pairs, name = words[1].split(), words[2]
            if len(pairs) % 2:
                yield "the list has no value for its last key"
        elif len(words) == 3:
            pairs, name = words[:2], words[2]
        else:
            yield f"takes a property, a value and an object, got {len(words)} words"
            return
        cell = self.cells.get(name)
        for key, value in zip(pairs[::2], pairs[1::2], strict=False) if cell else ():
            kind = cell.core["parameters"].get(key.removeprefix("CONFIG.")) if key.startswith("CONFIG.") else None
            if kind is None:
                yield f"{name} has no parameter {key}"
            else:
                yield from (f"{key}: {text}" for text in wrong(kind, value, Path()))
            cell.settings[key.removeprefix("CONFIG.")] = value

    def on_connect_bd_intf_net(self, words: list[str]) -> Iterator[str]:
        if sorted(str(self.find(pin)) for pin in words) != ["master", "slave"]:
            yield f"{words[0]} and {words[1]} are no master and slave"
        for one, other in (words, words[::-1]):
            if one in self.links:
                yield f"{one} is connected already"
            self.links[one] = other

    def on_connect_bd_net(self, words: list[str]) -> Iterator[str]:
        drivers = {pin for pin in words if self.find(pin) == "output"}
        drivers |= {self.driver[pin] for pin in words if pin in self.driver}
        if len(drivers) != 1:
            yield f"{' '.join(words)}: {len(drivers)} drivers"
        for pin in words:
            if self.find(pin) == "input":
                if pin in self.driver:
                    yield f"{pin} is connected already"
                self.driver[pin] = min(drivers, default="nothing")

    def on_assign_bd_address(self, words: list[str]) -> Iterator[str]:
        if not words:
            return
        options = dict(zip(words[::2], words[1::2], strict=False))
        segment = words[6]
        cell, _, place = segment.partition("/")
        if place not in self.segments(cell):
            yield f"there is no segment {segment}"
        master = self.cells.get(options["-target_address_space"].split("/")[0])
        low, high = (int(edge, 16) for edge in master.core["window"]) if master else (0, 0)
        first, size = int(options["-offset"], 16), int(options["-range"], 16)
        if first % size or not low <= first <= high - size:
            yield f"{segment} cannot lie at {first:#x}"
        for other, (start, length) in self.addresses.items():
            if first < start + length and start < first + size:
                yield f"{segment} lies over {other}"
        self.addresses[segment] = first, size

    def on_validate_bd_design(self, words: list[str]) -> Iterator[str]:
        self.is_valid = True
        for name, cell in self.cells.items():
            for port, what in cell.ports.items():
                pin = f"{name}/{port}"
                if what in {"input", "master", "slave"} and pin not in self.links and pin not in self.driver:
                    yield f"{pin} is not connected"
        yield from self.widths()

    def widths(self) -> Iterator[str]:
        """Streams have the same width at both ends."""
        for pin, other in self.links.items():
            (cell, port), there = pin.split("/"), other.split("/")[0]
            if cell not in self.cells or there not in self.cells:
                continue
            bits, settings = self.cells[cell].core.get("streams", {}).get(port), self.cells[there].settings
            widths = {settings.get("c_m_axis_mm2s_tdata_width"), settings.get("c_s_axis_s2mm_tdata_width")}
            if bits is not None and str(bits) not in widths:
                yield f"{pin} has {bits} bits, {other} has not"


def accelerator(vlnv: str, inputs: Mapping[str, int], outputs: Mapping[str, int], decoders: int) -> dict[str, Mapping]:
    """The core that Vitis HLS exports, with bits of its streams by name."""
    memory = [f"m_axi_{name}" for k in range(decoders) for name in master_pair(k)]
    ports = {"ap_clk": "input", "ap_rst_n": "input", "interrupt": "output", "s_axi_control": "slave"}
    ports |= dict.fromkeys(inputs, "slave") | dict.fromkeys([*outputs, *memory], "master")
    return {vlnv: {"type": "ip", "parameters": {}, "ports": ports, "streams": {**inputs, **outputs}}}
