"""Processors that embedded C is compared on: this host, and what QEMU emulates."""

from __future__ import annotations

from dataclasses import dataclass

SPECS = "--specs=picolibc.specs"
SEMIHOSTED = ("--oslib=semihost", "--crt0=hosted")
QUIET = (
    *("-nographic", "-monitor", "none", "-serial", "none"),
    *("-semihosting-config", "enable=on,target=native"),
)


@dataclass(frozen=True)
class Machine:
    """A processor: how its compiler is called and what runs the program. `packages` are Debian's.

    `memory` is (flash address, flash bytes, RAM address, RAM bytes) of an emulated board, None where the program runs
    in an operating system.
    """

    name: str
    compiler: tuple[str, ...]
    runner: tuple[str, ...]
    packages: str
    memory: tuple[int, int, int, int] | None = None
    tick: float = 0.0
    """Instructions of a step of its counter, when QEMU gives every instruction a nanosecond."""

    @property
    def flags(self) -> tuple[str, ...]:
        return self.compiler[1:]

    @property
    def linking(self) -> tuple[str, ...]:
        """How the program is laid out in the board's memory."""
        if self.memory is None:
            return ()
        names = ("__flash", "__flash_size", "__ram", "__ram_size")
        places = [f"-Wl,--defsym={name}={value:#x}" for name, value in zip(names, self.memory, strict=True)]
        return (*SEMIHOSTED, *places, "-Wl,--defsym=__stack_size=0x4000")


def _arm(processor: str, board: str, memory: tuple[int, int, int, int], clock_mhz: float) -> Machine:
    helium = ("-mfloat-abi=hard",) if processor == "cortex-m55" else ()
    compiler = ("arm-none-eabi-gcc", f"-mcpu={processor}", "-mthumb", *helium, SPECS)
    emulator = ("qemu-system-arm", "-M", board, *QUIET, "-kernel")
    packages = "gcc-arm-none-eabi picolibc-arm-none-eabi qemu-system-arm"
    return Machine(processor, compiler, emulator, packages, memory, 1000 / clock_mhz)


def _risc_v(bits: int, abi: str) -> Machine:
    more = ("-mcmodel=medany",) if bits == 64 else ()
    compiler = ("riscv64-unknown-elf-gcc", f"-march=rv{bits}imac", f"-mabi={abi}", *more, SPECS)
    emulator = (f"qemu-system-riscv{bits}", "-M", "virt", "-bios", "none", *QUIET, "-kernel")
    packages = "gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf qemu-system-misc"
    return Machine(f"riscv{bits}", compiler, emulator, packages, (0x80000000, 48 << 20, 0x83000000, 48 << 20), 1.0)


MPS2 = (0x00000000, 4 << 20, 0x21000000, 16 << 20)
MACHINES = {
    machine.name: machine
    for machine in (
        Machine("host", ("cc",), (), "gcc"),
        # There is no emulated Cortex-M0 with enough memory: an M3 runs its code, a subset of its own.
        _arm("cortex-m0", "mps2-an385", MPS2, 25),
        _arm("cortex-m4", "mps2-an386", MPS2, 25),
        _arm("cortex-m7", "mps2-an500", (0x00000000, 4 << 20, 0x60000000, 16 << 20), 25),
        _arm("cortex-m33", "mps2-an505", (0x10000000, 4 << 20, 0x80000000, 16 << 20), 20),
        _arm("cortex-m55", "mps3-an547", (0x00000000, 512 << 10, 0x60000000, 128 << 20), 32),
        _risc_v(32, "ilp32"),
        _risc_v(64, "lp64"),
        Machine(
            "aarch64",
            ("aarch64-linux-gnu-gcc", "-static"),
            ("qemu-aarch64",),
            "gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user",
        ),
    )
}
