"""The sections of a board's profile: what each figure is, its unit, and what it decides."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cpu:
    """The processor. Figures that vary within the profile's machines are None.

    Attributes:
        model: Name by its maker.
        isa: Token of csrc/isa/isa.inc that plans are made for, or "auto".
        instruction_sets: What the processor promises beyond its base architecture.
        cores: Number of cores.
        clock_mhz: Highest clock without overclocking.
        l1d_kib, l1i_kib: Level 1 data and instruction cache of one core.
        l2_kib: Level 2 cache; of one core where `l2_shared` is false.
        l2_shared: Whether all cores share the level 2 cache.
        l3_kib: Level 3 cache, shared.
        clusters: Where cores differ, each kind in words: "0-3: Cortex-A55, 1800 MHz". The figures are those of the
            fastest kind.
        note: What a reader must know beyond the figures.
        source: For each figure, the public document that it comes from.
    """

    model: str
    isa: str
    instruction_sets: tuple[str, ...] = ()
    cores: int | None = None
    clock_mhz: int | None = None
    l1d_kib: int | None = None
    l1i_kib: int | None = None
    l2_kib: int | None = None
    l2_shared: bool | None = None
    l3_kib: int | None = None
    clusters: tuple[str, ...] = ()
    note: str | None = None
    source: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Memory:
    """Main memory.

    Attributes:
        kind: Technology.
        smallest_mib: Size on the smallest board sold.
        largest_mib: Size on the largest board sold.
        bandwidth_gb_s: Peak, in 10^9 bytes a second: the interface's, not a measurement.
        source: For each figure, the public document that it comes from.
    """

    kind: str | None = None
    smallest_mib: int | None = None
    largest_mib: int | None = None
    bandwidth_gb_s: float | None = None
    source: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class System:
    """Operating system and how to compile for it.

    Attributes:
        os: Operating system that the profile is meant for.
        libc: Its C library. The runner is static, so any Linux of the architecture does.
        triple: GNU triple. "auto" in a file (with cpu.isa = "auto") means this machine's.
        toolchains: Files of targets/toolchains that can build for it, the preferred one first.
            Empty: only a machine of the same architecture builds for it, with its own compiler.
        emulator_cpu: What qemu's user emulator takes as `-cpu`, or None where it has no such CPU.
    """

    os: str
    libc: str
    triple: str
    toolchains: tuple[str, ...] = ()
    emulator_cpu: str | None = None

    @property
    def architecture(self) -> str:
        """The triple's first part, as `uname -m` and qemu name it."""
        return self.triple.split("-", 1)[0]


@dataclass(frozen=True)
class Delivery:
    """Forms in which a model goes to the board.

    Attributes:
        default: The form of a deployment that names none.
        available: Every form that the board can run.
        onnx_style: The engine that the ONNX form is written for. "auto" in a file (with cpu.isa = "auto") means
            ONNX Runtime on this machine.
    """

    default: str
    available: tuple[str, ...]
    onnx_style: str


@dataclass(frozen=True)
class Gpu:
    """A GPU that TensorRT builds engines for.

    Attributes:
        model: Name by its maker.
        tensorrt: Oldest TensorRT that the ONNX form is written for, as "8.2".
        onnx_opset: Newest opset that its parser reads.
        compute_capability: Of CUDA; whether it computes int8 follows from it.
        dla_cores: Deep learning accelerators beside it, None where it has none.
        note: What a reader must know beyond the figures.
        source: For each figure, the public document that it comes from.
    """

    model: str
    tensorrt: str
    onnx_opset: int
    compute_capability: float
    dla_cores: int | None = None
    note: str | None = None
    source: dict[str, str] = field(default_factory=dict)

    @property
    def has_int8(self) -> bool:
        """Whether it multiplies int8: 6.1, and 7.0 and newer (TensorRT Support Matrix, Hardware and Precision)."""
        return self.compute_capability == 6.1 or self.compute_capability >= 7


@dataclass(frozen=True)
class Speed:
    """What one core does in a cycle with edgekit's kernels for `cpu.isa`, their data in the nearest cache.

    Costs are computed from these figures where nothing can be measured. All are given, or none: then figures of the
    instruction set stand in.

    Attributes:
        int8_products: Multiplications of the matrix kernel's inner loop.
        int8_depthwise_products: The same of the depthwise kernel.
        float_products: Multiplications of the float32 matrix kernel's inner loop.
        float_depthwise_products: The same of the float32 depthwise kernel.
        quantized_values: Floats that become codes.
        load_bytes: Bytes loaded.
        source: For each figure, where it comes from.
    """

    int8_products: float | None = None
    int8_depthwise_products: float | None = None
    float_products: float | None = None
    float_depthwise_products: float | None = None
    quantized_values: float | None = None
    load_bytes: float | None = None
    source: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Threads:
    """Where a plan's threads run.

    Attributes:
        pin: Cores as Linux numbers them: the calling thread belongs on the first, which `edgekit-run` sees to, and each
            other thread of a session is pinned to the next; no more threads run than are listed. Empty: the system
            places them.
    """

    pin: tuple[int, ...] = ()


@dataclass(frozen=True)
class Flash:
    """How files reach the board.

    Attributes:
        media: "ssh" (copy to a running board) or "sd" (write a card).
        user: Name that the operating system suggests for its first user.
        loader: What starts a card that runs nothing but a model: "rpi" (the firmware, by config.txt) or "extlinux" (a
            boot loader that reads extlinux/extlinux.conf, as U-Boot and the Jetsons' do).
    """

    media: tuple[str, ...]
    user: str | None = None
    loader: str = "extlinux"


@dataclass(frozen=True)
class Power:
    """Supply and where consumption can be read.

    Attributes:
        supply_v: Supply voltage.
        supply_ma: Current that the recommended supply gives.
        typical_ma: Typical current of the bare board when active.
        readout: Command that prints the board's own measurement, or None where it has no sensor.
        rails: Sensors of the kernel that tell power, as "NAME: FILE"; `edgekit bench --on` reads them.
        source: For each figure, the public document that it comes from.
    """

    supply_v: float | None = None
    supply_ma: int | None = None
    typical_ma: int | None = None
    readout: str | None = None
    rails: tuple[str, ...] = ()
    source: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Identity:
    """How a running board says what it is: a probed device that says the same is this board.

    Attributes:
        compatible: Entries of its device tree's root `compatible`, any one of which is enough.
        source: Where the entries stand.
    """

    compatible: tuple[str, ...] = ()
    source: str | None = None


@dataclass(frozen=True)
class Thermal:
    """What a board does about heat.

    Attributes:
        zones: Sensors of the kernel's thermal framework: the type of each and its folder.
        throttle_c: Degrees Celsius from which on the processor is slowed down.
        source: For each figure, where it comes from.
    """

    zones: tuple[str, ...] = ()
    throttle_c: float | None = None
    source: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Accelerators:
    """What else on the board computes networks, as far as its files tell; edgekit's plans run on the CPU.

    Attributes:
        libraries: Engines and delegates, each as "NAME VERSION: FILE".
        devices: Device files of accelerators.
    """

    libraries: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
