"""What a layer costs on a board that is not there: computed from the figures of its profile."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgekit import _native
from edgekit.converters.float_program import (
    DynamicFullyConnected,
    FloatConv,
    FloatConvTranspose,
    FloatDepthwiseConv,
    FloatFullyConnected,
    FloatMatMul,
)
from edgekit.converters.layouts import find_sparse_gain
from edgekit.converters.program import (
    Conv,
    ConvTranspose,
    DepthwiseConv,
    FullyConnected,
    MatMul,
    Op,
    Program,
)
from edgekit.converters.sparse_layouts import SparseGain
from edgekit.converters.wide_program import WideConv, WideDepthwiseConv, WideLayer
from edgekit.targets.profile import Profile
from edgekit.targets.sections import Speed

# Where a profile leaves its processor open: half of what the multiply instructions of a set hold, and a quarter of that
# for depthwise layers, as in csrc/runtime/fork_cost.cc. A set that is missing has those of its parent.
_BY_ISA = {
    "generic": Speed(1, 0.25, 0.5, 0.25, 0.25, 2),
    "x86_avx2": Speed(16, 4, 8, 2, 4, 16),
    "x86_avxvnni": Speed(32, 8, 8, 4, 4, 16),
    "x86_avx512vnni": Speed(64, 16, 16, 8, 8, 32),
    "arm_neon": Speed(4, 2, 2, 1, 0.25, 8),
    "arm_neondot": Speed(16, 4, 4, 2, 0.5, 8),
    "arm_i8mm": Speed(32, 4, 4, 2, 0.5, 8),
}
# How the source of a figure begins that was measured on the board.
MEASURED_ON = "measured on "
# Only ratios matter where the clock is not known.
_CLOCK_MHZ = 1000


@dataclass(frozen=True)
class CostModel:
    """The time of operators on one core.

    Of one of them it is::

        microseconds = max(products / (rate * clock), bytes / (load_bytes * clock), bytes / bandwidth)

    with the rate of the layer's kind; the bytes are those of inputs, output and weights, and count against the memory's
    bandwidth where they exceed the level 2 cache. Weights with zeros enough for a sparse kernel have their products
    done as much faster as the table of break-even says, and their blocks alone are read. It knows neither epilogues
    nor partly filled tiles: it says which of two layers costs more, and is no forecast of a latency.

    Attributes:
        speed: What a core does in a cycle.
        clock_mhz: Cycles in a microsecond.
        cache_bytes: Level 2 cache, None where it is not known.
        bandwidth_gb_s: The memory's, None where it is not known.
        isa: The instruction set of plans, "" where all kernels are taken to be dense.
    """

    speed: Speed
    clock_mhz: int
    cache_bytes: int | None
    bandwidth_gb_s: float | None
    isa: str = ""

    @classmethod
    def of_profile(cls, profile: Profile, isa: str) -> CostModel:
        """Returns the model of a board, whose plans are made for ``isa``."""
        speed = profile.speed
        if speed.int8_products is None:
            speed = find_speed(isa)
        cpu = profile.cpu
        cache_bytes = None if cpu.l2_kib is None else 1024 * cpu.l2_kib
        clock = cpu.clock_mhz or _CLOCK_MHZ
        return cls(speed, clock, cache_bytes, profile.memory.bandwidth_gb_s, isa)

    def time_layers(self, program: Program) -> list[float]:
        """Returns the microseconds of each operator."""
        return [self._time(program, op) for op in program.ops]

    def time_conversions(self) -> tuple[float, float]:
        """Returns the microseconds that an element takes to become a code, and to become float32 again."""
        assert self.speed.quantized_values is not None
        return 1 / self.speed.quantized_values / self.clock_mhz, 5 / self._bytes

    @property
    def _bytes(self) -> float:
        """Bytes a microsecond from the nearest cache."""
        assert self.speed.load_bytes is not None
        return self.speed.load_bytes * self.clock_mhz

    def _time(self, program: Program, op: Op) -> float:
        moved = sum(program.tensors[name].nbytes for name in (*op.inputs, op.output))
        weights = getattr(op, "weights", None)
        gain = self._find_gain(program, op)
        if weights is not None:
            moved += round(weights.nbytes * (gain.density if gain else 1.0))
        times = [moved / self._bytes]
        if self.bandwidth_gb_s and self.cache_bytes and moved > self.cache_bytes:
            times.append(moved / (1000 * self.bandwidth_gb_s))
        products = count_products(program, op)
        if products:
            speedup = gain.speedup if gain else 1.0
            times.append(products / (speedup * self._rate(program, op) * self.clock_mhz))
        if isinstance(op, DynamicFullyConnected):
            return max(times) + program.tensors[op.input].size * self.time_conversions()[0]
        return max(times)

    def _find_gain(self, program: Program, op: Op) -> SparseGain | None:
        if not self.isa or not isinstance(op, Conv | FullyConnected | DynamicFullyConnected):
            return None
        return find_sparse_gain(program, op, self.isa)

    def _rate(self, program: Program, op: Op) -> float:
        """Returns the products that a core does in a cycle of such a layer."""
        speed = self.speed
        depthwise = isinstance(op, DepthwiseConv | FloatDepthwiseConv | WideDepthwiseConv)
        if op.kind.startswith("Float"):
            rate = speed.float_depthwise_products if depthwise else speed.float_products
        else:
            rate = speed.int8_depthwise_products if depthwise else speed.int8_products
        assert rate is not None
        if isinstance(op, WideLayer):
            # Two products of bytes, or one of twice the bits.
            return rate / 2
        return rate


def find_speed(isa: str) -> Speed:
    """Returns the figures of an instruction set, or of the nearest that it contains."""
    parents = {info.name: info.parent for info in _native.isas()}
    while isa not in _BY_ISA:
        isa = parents[isa]
    return _BY_ISA[isa]


def count_products(program: Program, op: Op) -> int:
    """Returns the multiplications of a layer, 0 for other operators."""
    match op:
        case Conv() | FloatConv() | WideConv():
            pixels = math.prod(program.tensors[op.output].shape[:-1])
            return pixels * op.weights.size
        case DepthwiseConv() | FloatDepthwiseConv() | WideDepthwiseConv():
            return math.prod(program.tensors[op.output].shape[:-1]) * op.weights.size
        case FullyConnected() | FloatFullyConnected() | DynamicFullyConnected():
            return math.prod(program.tensors[op.output].shape[:-1]) * op.weights.size
        case ConvTranspose() | FloatConvTranspose():
            return math.prod(program.tensors[op.input].shape[:-1]) * op.weights.size
        case MatMul() | FloatMatMul():
            return program.tensors[op.output].size * program.tensors[op.a].shape[-1]
    return 0
