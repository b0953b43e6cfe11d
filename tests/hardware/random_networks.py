"""Random dataflow designs of a few small processes with arbitrary schedules: no kernels, only steps and words."""

from dataclasses import dataclass, field

import numpy as np

from toolchain.codegen.kernel import Kernel, Loops, Pattern, Port, Schedule
from toolchain.hardware.network import Network, Process, Stream
from toolchain.ir import FixedType, TensorType


@dataclass
class Builder:
    """Processes so far, and the streams that nobody reads yet."""

    rng: np.random.Generator
    processes: list[Process] = field(default_factory=list)
    streams: dict[str, Stream] = field(default_factory=dict)
    ends: list[str] = field(default_factory=list)

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def pattern(self, words: int, steps: int) -> Pattern:
        """Words in some of the steps: all over, or all at the beginning or end."""
        kind = self.number(0, 3)
        chosen = np.sort(self.rng.choice(steps, words, replace=False))
        if kind < 2:
            chosen = np.arange(words) + (steps - words) * kind
        return tuple(Loops(int(step), ()) for step in chosen)

    def process(self, inputs: list[str], words: int, outputs: int = 1) -> None:
        """Reads these streams, or an input of the design, and writes new ones, or an output of the design."""
        taken = [self.streams[name].port.words for name in inputs] or [words]
        steps = max(words, *taken) + (0 if self.number(0, 2) == 0 else self.number(0, 40))
        name = f"p{len(self.processes)}"
        port = Port(TensorType.of((words,), FixedType(self.number(1, 64), 1)), 1)
        made = tuple(f"{name}_{k}" for k in range(outputs)) or (f"{name}_axis",)
        schedule = Schedule(steps, tuple(self.pattern(count, steps) for count in taken), self.pattern(words, steps))
        ports = tuple(self.streams[one].port for one in inputs) or (port,)
        kernel = Kernel("any", "any.h", {}, ports, port, schedule)
        self.processes.append(Process(name, name, name, kernel, tuple(inputs) or (f"{name}_axis",), made))
        self.streams |= {one: Stream(one, port) for one in made[:outputs]}
        self.ends = [one for one in self.ends if one not in inputs] + list(made[:outputs])

    def pick(self) -> str:
        return self.ends[self.number(0, len(self.ends) - 1)]


def random_network(seed: int, inputs: int = 1) -> Network:
    """Up to eight processes between inputs and outputs: chains, forks, joins."""
    rng = np.random.default_rng(seed)
    builder = Builder(rng)
    for _ in range(inputs):
        builder.process([], builder.number(1, 40))
    for _ in range(builder.number(2, 8)):
        kind = builder.number(0, 3)
        one, other = builder.pick(), builder.pick()
        if kind == 0:
            builder.process([one], builder.streams[one].port.words, builder.number(2, 3))
        elif kind == 1 and one != other:
            builder.process([one, other], builder.number(1, 40))
        else:
            builder.process([one], builder.number(1, 40))
    while len(builder.ends) > 1 and builder.number(0, 1):
        builder.process(builder.ends[:2], builder.number(1, 40))
    for name in list(builder.ends):
        builder.process([name], builder.streams[name].port.words, 0)
    return Network(f"random_{seed}", tuple(builder.processes), builder.streams, (), ())
