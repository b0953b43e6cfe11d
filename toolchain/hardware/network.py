"""The dataflow design of a program: processes (kernel calls) joined by streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import gcd

from toolchain.codegen.kernel import Folding, Kernel, Port, Schedule
from toolchain.codegen.windows import repack
from toolchain.errors import PassError
from toolchain.hardware.identifiers import Identifiers
from toolchain.hardware.terminals import Terminal, input_terminal, lane_bits, output_terminal
from toolchain.ir import Graph, Node, TensorType
from toolchain.ops.quantize import Quantize

WORD_BITS = 4096
"""AP_INT_MAX_W as `word.h` sets it, the most that Vitis HLS takes: no word may be wider."""


@dataclass(frozen=True)
class Stream:
    """A FIFO. `depth` is chosen by the dataflow simulation, and then whether it lies in UltraRAM."""

    name: str
    port: Port
    depth: int = 2
    in_uram: bool = False


@dataclass(frozen=True)
class Process:
    """One kernel call. `node` names the program's node it belongs to; a connection is none of its own kernels."""

    name: str
    node: str
    layer: str
    kernel: Kernel
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    is_connection: bool = False


@dataclass(frozen=True)
class Network:
    """The whole design, processes in execution order. `value_streams` names the first stream of each program value."""

    name: str
    processes: tuple[Process, ...]
    streams: Mapping[str, Stream]
    inputs: tuple[Terminal, ...]
    outputs: tuple[Terminal, ...]
    value_streams: Mapping[str, str] = field(default_factory=dict)

    @property
    def decoders(self) -> int:
        """Pairs of AXI masters that read the weight container: 0 where all weights are constants."""
        streamed = sum(process.kernel.decoders for process in self.processes)
        return streamed or int(any(process.kernel.memories for process in self.processes))

    @property
    def is_streamed(self) -> bool:
        """Are weights read from memory for every frame?"""
        return any(process.kernel.decoders for process in self.processes)

    def masters(self, process: Process) -> list[str]:
        """The pointers that a process reads weights through; its decoders come after those of the processes before."""
        first = sum(one.kernel.decoders for one in self.processes[: self.processes.index(process)])
        return [name for k in range(first, first + process.kernel.decoders) for name in master_pair(k)]

    def with_depths(self, depths: Mapping[str, int]) -> Network:
        streams = {name: replace(stream, depth=depths[name]) for name, stream in self.streams.items()}
        return replace(self, streams=streams)


def master_pair(decoder: int) -> tuple[str, str]:
    """The two pointers of a decoder; a container that is loaded is read through the first one's."""
    suffix = f"_{decoder}" if decoder else ""
    return f"weight_codes{suffix}", f"weight_raw{suffix}"


class _Builder:
    def __init__(self, graph: Graph, foldings: Mapping[str, Folding]) -> None:
        self.graph = graph
        self.foldings = foldings
        self.names = Identifiers()
        self.processes: list[Process] = []
        self.streams: dict[str, Stream] = {}
        self.value_streams: dict[str, str] = {}
        self._ready: dict[str, list[str]] = {}
        self._alias = _aliases(graph)

    def build(self) -> Network:
        name = self.names.make(self.graph.name, "_design", "_h", "_configs_h", "_constants_h")
        inputs = [self._input(node) for node in self.graph.nodes if isinstance(node.operator, Quantize)]
        for node in self.graph.nodes:
            if not isinstance(node.operator, Quantize) and node.name not in self._alias:
                self._node(node)
        outputs = tuple(self._output(k) for k in range(len(self.graph.outputs)))
        return Network(name, tuple(self.processes), self.streams, tuple(inputs), outputs, self.value_streams)

    def _type(self, name: str) -> TensorType:
        type = self.graph.types[name]
        assert isinstance(type, TensorType)
        return type

    def _stream(self, name: str, port: Port) -> str:
        if port.bits > WORD_BITS:
            raise PassError(f"a word of {port.bits} bits is wider than {WORD_BITS}", where=name)
        identifier = self.names.make(name)
        self.streams[identifier] = Stream(identifier, port)
        return identifier

    def _process(
        self,
        name: str,
        node: Node,
        kernel: Kernel,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        *,
        is_connection: bool = True,
    ) -> None:
        tables = (f"_{table}" for table in (*kernel.arrays, *kernel.memories))
        identifier = self.names.make(name, "_config", *tables)
        self.processes.append(Process(identifier, node.name, node.layer, kernel, inputs, outputs, is_connection))

    def _input(self, node: Node) -> Terminal:
        given = next(g for g in self.graph.inputs if g.name == node.inputs[0])
        type = self._type(node.name)
        lanes = self.foldings[node.name].lanes
        identifier = self.names.make(f"{given.name}_axis", "_beat", "_order")
        terminal = input_terminal(given, node, type, identifier, lanes)
        kernel = Kernel(
            "read_axis",
            "axis.h",
            _axis_config(terminal),
            (Port(type, lanes),),
            Port(type, lanes),
            Schedule.streaming(type.size // lanes),
        )
        stream = self._stream(given.name, Port(type, lanes))
        self._process(f"read_{given.name}", node, kernel, (terminal.identifier,), (stream,))
        self._finish(node, stream)
        return terminal

    def _node(self, node: Node) -> None:
        types = tuple(self._type(name) for name in node.inputs)
        folding = self.foldings[node.name]
        chain = [k.placed(folding.uram) for k in node.operator.kernels(types, self._type(node.name), folding)]
        first = chain[0]
        streams = tuple(self._take(name, port, node) for name, port in zip(node.inputs, first.inputs, strict=True))
        for position, kernel in enumerate(chain):
            last = position == len(chain) - 1
            name = node.name if last else f"{node.name}_to_{chain[position + 1].function}"
            out = self._stream(name, kernel.output)
            unit = "unit" if node.name.endswith(f"/{kernel.function}") else kernel.function
            self._process(f"{node.name}_{unit}", node, kernel, streams, (out,), is_connection=False)
            streams = (out,)
        self._finish(node, streams[0])

    def _finish(self, node: Node, stream: str) -> None:
        """Gives every reader of a value its own stream."""
        self.value_streams[node.name] = stream
        readers = self._readers(node.name)
        port = self.streams[stream].port
        ready = [stream]
        while len(ready) < readers:
            source = ready.pop()
            count = min(3, readers - len(ready))
            copies = tuple(self._stream(f"{node.name}_copy", port) for _ in range(count))
            config: dict[str, int | str] = {"COUNT": port.words, "BITS": port.bits}
            kernel = Kernel("fork", "fork.h", config, (port,), port, Schedule.streaming(port.words))
            self._process(f"{node.name}_fork", node, kernel, (source,), copies)
            ready += copies
        self._ready[node.name] = ready

    def _readers(self, name: str) -> int:
        """How many streams of a value are read: its nodes and outputs, through reshapes too."""
        count = sum(output.value == name for output in self.graph.outputs)
        for reader in self.graph.consumers[name]:
            count += self._readers(reader.name) if reader.name in self._alias else 1
        return count

    def _take(self, name: str, port: Port, node: Node) -> str:
        """A stream of the value with the lanes that the reader wants."""
        source = self._ready[self._alias.get(name, name)].pop(0)
        have, want = self.streams[source].port.lanes, port.lanes
        if have == want:
            return source
        steps = [want] if have % want == 0 or want % have == 0 else [gcd(have, want), want]
        for lanes in steps:
            source = self._repack(source, lanes, node)
        return source

    def _repack(self, source: str, lanes: int, node: Node) -> str:
        given = self.streams[source].port
        kernel = repack(given, lanes)
        out = self._stream(f"{source}_x{lanes}", kernel.output)
        self._process(f"{source}_repack", node, kernel, (source,), (out,))
        return out

    def _output(self, index: int) -> Terminal:
        output = self.graph.outputs[index]
        value = self._alias.get(output.value, output.value)
        type = self._type(output.value)
        node = self.graph.by_name[value]
        source = self._ready[value].pop(0)
        port = self.streams[source].port
        while (port.lanes * lane_bits(type.width)) & (port.lanes * lane_bits(type.width) - 1) or (
            port.lanes * lane_bits(type.width) > 512
        ):
            # Beats are a power of two of bytes, so that a DMA engine takes them.
            lanes = next(n for n in range(port.lanes - 1, 0, -1) if port.lanes % n == 0)
            source = self._repack(source, lanes, node)
            port = self.streams[source].port
        terminal = output_terminal(output, type, self.names.make(f"{output.name}_axis", "_beat", "_order"), port.lanes)
        kernel = Kernel(
            "write_axis",
            "axis.h",
            _axis_config(terminal),
            (port,),
            port,
            Schedule.streaming(port.words),
            scalars=("frame", "frames"),
        )
        self._process(f"write_{output.name}", node, kernel, (source,), (terminal.identifier,))
        return terminal


def _axis_config(terminal: Terminal) -> dict[str, int | str]:
    return {
        "COUNT": terminal.type.size // terminal.lanes,
        "LANES": terminal.lanes,
        "LANE_BITS": terminal.lane_bits,
        "element_t": terminal.type.cpp,
    }


def _aliases(graph: Graph) -> dict[str, str]:
    """Values that are the same stream as another one (reshapes), to the value that makes it."""
    from toolchain.ops.reshape import Reshape

    alias: dict[str, str] = {}
    for node in graph.nodes:
        if isinstance(node.operator, Reshape):
            alias[node.name] = alias.get(node.inputs[0], node.inputs[0])
    return alias


def build_network(graph: Graph, foldings: Mapping[str, Folding]) -> Network:
    """Kernels of every node, forks where a value is read more than once, repacking where lanes differ.

    `foldings` has an entry for every node but reshapes. FIFO depths are 2; `dataflow.simulate` chooses them.
    """
    return _Builder(graph, foldings).build()
