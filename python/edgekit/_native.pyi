"""Kernels, plans and sessions: the native part of edgekit.

Errors: `edgekit.PlanError` for a plan that is damaged or that this CPU cannot run, `edgekit.EdgekitError` for any
other argument that does not fit.
"""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike

import numpy as np
import numpy.typing as npt

MAX_THREADS: int
"""The most threads that a session takes."""

class IsaInfo:
    """An instruction set of csrc/isa/isa.inc."""

    @property
    def name(self) -> str: ...
    @property
    def parent(self) -> str:
        """The set that this one contains; kernels of a parent serve where it has none of its own."""
    @property
    def storage(self) -> str:
        """'s8' where activations lie in memory as their codes, 'u8' where they are shifted by 128."""
    @property
    def built(self) -> bool:
        """Whether kernels for it were compiled into this module."""
    @property
    def supported(self) -> bool:
        """Whether this CPU and operating system can execute it."""

class KernelInfo:
    """A row of kernels.inc in csrc/kernels/gemm, csrc/kernels/depthwise or csrc/kernels/shallow.

    Of a depthwise or shallow kernel, `mr` is the number of output rows of a call, `nr` and `panel` the channels of a
    block of weights, and `kr` the vertical taps, or bytes of a window's row, of a multiplication.
    """

    @property
    def name(self) -> str: ...
    @property
    def isa(self) -> str: ...
    @property
    def storage(self) -> str: ...
    @property
    def mr(self) -> int: ...
    @property
    def nr(self) -> int: ...
    @property
    def kr(self) -> int: ...
    @property
    def panel(self) -> int: ...
    @property
    def bits(self) -> int:
        """Of a packed weight."""
    @property
    def exactness(self) -> str:
        """'always', or 'pair_sums_fit_16' where the weights must pass `pair_sums_fit_16`."""
    @property
    def built(self) -> bool: ...
    @property
    def supported(self) -> bool: ...
    @property
    def unit(self) -> int:
        """Of a GEMM kernel, consecutive k of a column that lie side by side in its packed weights."""
    @property
    def most_fused_depth(self) -> int:
        """Products of an output up to which requantizing in one operation pays; 0 where the kernel does not."""

def isas() -> list[IsaInfo]:
    """Returns every known instruction set, weakest first within a family."""

def best_isa() -> str:
    """Returns the strongest set that runs here, or the one that EDGEKIT_ISA names.

    Raises:
        EdgekitError: EDGEKIT_ISA names a set that is unknown, not built or not supported.
    """

def gemm_kernels() -> list[KernelInfo]:
    """Returns every GEMM kernel, built or not."""

def sparse_gemm_kernels() -> list[KernelInfo]:
    """Returns every sparse GEMM kernel, built or not: each takes blocks of nr columns by kr of k."""

def depthwise_kernels() -> list[KernelInfo]:
    """Returns every depthwise kernel, built or not."""

def shallow_kernels() -> list[KernelInfo]:
    """Returns every kernel for convolutions with few input channels, built or not."""

def select_gemm(
    isa: str, m: int, n: int, k: int, taps: int, pair_sums_fit_16: bool, bits: int = 8
) -> KernelInfo:
    """Returns the kernel for `[m, taps, k] x [n, taps, k]`, weights of 8 or 4 bits: the same on every machine."""

def select_sparse_gemm(isa: str, pair_sums_fit_16: bool) -> KernelInfo:
    """Returns the sparse kernel for an instruction set: the same on every machine."""

def select_depthwise(
    isa: str, channels: int, kernel_h: int, kernel_w: int, stride_w: int, dilation_w: int
) -> KernelInfo:
    """Returns the kernel for a depthwise convolution: the same on every machine."""

def select_shallow(
    isa: str, n: int, channels: int, kernel_h: int, kernel_w: int
) -> KernelInfo | None:
    """Returns the kernel for a dense convolution with few input channels, None where a GEMM kernel does better."""

def pair_sums_fit_16(w: npt.NDArray[np.int8]) -> bool:
    """Returns whether no pair of neighbours along k of w `[n, taps, k]` can leave int16 (see Exactness)."""

def pack_gemm(kernel: str, w: npt.NDArray[np.int8]) -> bytes:
    """Packs w `[n, taps, k]` as `[ceil(n/panel)][taps][ceil(k/kr)][panel][kr]`.

    For a kernel of 4 bits, two steps along k share their bytes.
    """

def pack_sparse_gemm(kernel: str, w: npt.NDArray[np.int8]) -> bytes:
    """Packs the blocks of w `[n, taps, k]` that hold anything but zeros (csrc/kernels/sparse_gemm/sparse_gemm.h).

    Raises:
        EdgekitError: k takes more than 65536 steps of the kernel.
    """

def block_density(kernel: str, w: npt.NDArray[np.int8]) -> float:
    """Returns the share of a sparse kernel's blocks of w `[n, taps, k]` that hold anything but zeros."""

MOST_FUSED_DEPTH: int
"""Products of an output, blocks left out not counted, up to which one multiplication and addition requantizes."""

def fuse_requantize(
    kernel: str,
    groups: int,
    scales: npt.NDArray[np.float32],
    biases: npt.NDArray[np.int32],
    products: npt.NDArray[np.int64],
    zero_point: int,
    lo: int,
    hi: int,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], npt.NDArray[np.float32]] | None:
    """Returns start, slope and shift ``[groups * n]``, filled up to the kernel's ``nr`` in each group.

    With them one multiplication and addition is proved to give the codes of docs/arithmetic.md
    (csrc/kernels/fused_requantize.h), whose zero point and bounds are stored values: of accumulators at most
    ``products`` ``[groups * n]`` away from ``biases``. None for a channel without a proof, and for a kernel that does
    not compute so.

    Raises:
        ValueError: ``groups`` does not divide the channels.
    """

def settle_scales(
    scales: npt.NDArray[np.float32],
    input_scale: float,
    output_scale: float,
    zero_point: int,
    lo: int,
    hi: int,
    lowest: npt.NDArray[np.int64],
    highest: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """Returns scales ``[n]`` of weights, a few last places larger at most, that kernels requantize faster.

    They are those with which one multiplication and addition is proved to give the codes of docs/arithmetic.md
    (csrc/kernels/fused_requantize.h), for accumulators between ``lowest`` and ``highest`` ``[ranges, n]``, bias
    included; where there is none, the scale stays.
    """

def pack_nibbles(packed: bytes) -> bytes:
    """Joins each two packed weights in [-8, 7] in a byte, the first in its lower half."""

def pack_depthwise(kernel: str, w: npt.NDArray[np.int8]) -> bytes:
    """Packs w `[channels, kernel_h, kernel_w]` as the depthwise kernel takes it."""

def pack_shallow(kernel: str, w: npt.NDArray[np.int8]) -> bytes:
    """Packs w `[n, kernel_h, kernel_w, channels]` as the shallow kernel takes it."""

def select_float_gemm(isa: str) -> str:
    """Returns the name of the float32 matrix kernel for plans of an instruction set."""

def select_float_depthwise(isa: str) -> str:
    """Returns the name of the float32 depthwise kernel for plans of an instruction set."""

def pack_float_gemm(kernel: str, w: npt.NDArray[np.float32]) -> bytes:
    """Packs w `[n, taps, k]` as `[ceil(n/panel)][taps][k][panel]`."""

def pack_int4_float_gemm(kernel: str, w: npt.NDArray[np.int8]) -> bytes:
    """Packs w `[n, k]` in [-8, 7] as `[ceil(n/panel)][ceil(k/2)][panel]`, two neighbours along k a byte."""

def float_gemm_panel(kernel: str) -> int:
    """Returns the columns of a panel of a float32 GEMM kernel."""

def pack_float_depthwise(kernel: str, w: npt.NDArray[np.float32]) -> bytes:
    """Packs w `[channels, kernel_h, kernel_w]` as the float32 depthwise kernel takes it."""

def crc32c(data: bytes) -> int:
    """Returns the CRC-32C (Castagnoli) of `data`, as it stands in a plan's header."""

def gemm(
    kernel: str,
    a: npt.NDArray[np.int8],
    w: npt.NDArray[np.int8],
    bias: npt.NDArray[np.int32],
    scale: npt.NDArray[np.float32],
    zero_point: int,
    lo: int,
    hi: int,
    threads: int = 1,
) -> npt.NDArray[np.int8]:
    """Runs one kernel on plain int8 codes.

    `clamp(zero_point + rne(float32(bias[j] + a[i] . w[j]) * scale[j]), lo, hi)`; the zero point of `a` is the
    caller's to fold into `bias`.

    Args:
        kernel: A name of `gemm_kernels()` or `sparse_gemm_kernels()` that is built and supported.
        a: `[m, k]`.
        w: `[n, k]`.
        bias: `[n]`.
        scale: `[n]`.
        zero_point: Of the result.
        lo: Smallest code of the result.
        hi: Largest code of the result.
        threads: Threads to split m over.

    Returns:
        Codes `[m, n]`.
    """

class Gemm:
    """What `gemm` computes, prepared: weights packed, memory laid out as a session would; for timing a kernel.

    `a` and `y` hold stored values, which are codes shifted by 128 where the kernel's storage is 'u8'.
    """

    def __init__(
        self,
        kernel: str,
        m: int,
        w: npt.NDArray[np.int8],
        bias: npt.NDArray[np.int32],
        scale: npt.NDArray[np.float32],
        zero_point: int,
        lo: int,
        hi: int,
    ) -> None: ...
    @property
    def a(self) -> npt.NDArray[np.uint8]:
        """The input `[m, k]`, to be filled in place; zeros at first."""
    @property
    def y(self) -> npt.NDArray[np.uint8]:
        """The output `[m, n]` of the last run."""
    def run(self) -> None:
        """Computes `y` from `a` on the calling thread."""

class Depthwise:
    """A depthwise convolution of one image, prepared as a session would; for timing a kernel.

    The window is padded on each side by `padding` codes that are x's zero point. `x` and `y` hold stored values, which
    are codes shifted by 128 where the kernel's storage is 'u8'.
    """

    def __init__(
        self,
        kernel: str,
        h: int,
        w: int,
        weights: npt.NDArray[np.int8],
        bias: npt.NDArray[np.int32],
        scale: npt.NDArray[np.float32],
        stride: int,
        padding: int,
        x_zero_point: int,
        zero_point: int,
        lo: int,
        hi: int,
    ) -> None: ...
    @property
    def x(self) -> npt.NDArray[np.uint8]:
        """The input `[h, w, channels]`, to be filled in place; zeros at first."""
    @property
    def y(self) -> npt.NDArray[np.uint8]:
        """The output `[out_h, out_w, channels]` of the last run."""
    def run(self) -> None:
        """Computes `y` from `x` on the calling thread."""

class TensorInfo:
    """A tensor of a plan."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[np.generic]:
        """int8 for codes."""
    @property
    def scale(self) -> float:
        """Of codes: a real value is `scale * (code - zero_point)`."""
    @property
    def zero_point(self) -> int: ...

class OpInfo:
    """An operator of a plan."""

    @property
    def name(self) -> str:
        """The node of the source model."""
    @property
    def kind(self) -> str:
        """The table of csrc/runtime/plan.fbs, such as 'Conv'."""
    @property
    def kernel(self) -> str:
        """The row of a kernels.inc; '' where the operator has none."""
    @property
    def output(self) -> TensorInfo: ...

class MemoryNeeds:
    """The bytes that a session holds, beside its program."""

    @property
    def plan(self) -> int:
        """The mapped file."""
    @property
    def arena(self) -> int:
        """Activations."""
    @property
    def scratch(self) -> int:
        """Working memory of one thread."""
    @property
    def external(self) -> int:
        """Inputs and outputs, which are the caller's."""
    def total(self, threads: int = 1) -> int: ...

class Plan:
    """A network compiled for one instruction set, checked when opened. Sessions share its weights.

    A plan for another CPU can be opened and looked at; `Session` refuses it.
    """

    @staticmethod
    def open(path: str | PathLike[str]) -> Plan:
        """Maps the file, which must not change while the plan lives.

        Raises:
            PlanError: The file cannot be read or is damaged.
        """

    @staticmethod
    def from_bytes(data: bytes) -> Plan:
        """Copies a plan out of memory. Raises `PlanError` as `open` does."""

    @property
    def format_version(self) -> int: ...
    @property
    def isa(self) -> str: ...
    @property
    def storage(self) -> str: ...
    @property
    def target(self) -> str:
        """The profile that the plan was made for."""
    @property
    def source_digest(self) -> str:
        """SHA-256 of the source model, in hexadecimal."""
    @property
    def producer(self) -> str:
        """Version of edgekit that wrote the plan."""
    @property
    def arena_size(self) -> int:
        """Bytes of activations that a session holds."""
    @property
    def arena_lower_bound(self) -> int:
        """Bytes of the tensors that are alive at once, at the worst op."""
    @property
    def cores(self) -> list[int]:
        """Where the target's profile wants threads to run; empty: anywhere."""

    @property
    def sizes(self) -> list[Plan]:
        """The plan for each size of its inputs, over one copy of the weights; this one is of the first."""

    @property
    def memory(self) -> MemoryNeeds:
        """What sessions need, on this CPU or the plan's own.

        Raises:
            PlanError: An operator's parameters do not fit together.
        """
    @property
    def states(self) -> dict[str, str]:
        """By input, the output of one run that a session hands on to it in the next."""

    @property
    def metadata(self) -> dict[str, str]: ...
    @property
    def inputs(self) -> list[TensorInfo]: ...
    @property
    def outputs(self) -> list[TensorInfo]: ...
    @property
    def ops(self) -> list[OpInfo]:
        """In order of execution."""

class Session:
    """Memory and threads to run a plan with. Safe to use from one thread at a time.

    Inputs are given by name. A float32 array in C order is read in place, another array of numbers is
    converted only where no value changes its meaning (any float or integer type to float32). The leading dimension
    may be a multiple of the plan's: the plan is then run once for each part. Of a plan of several sizes the one runs
    that takes the inputs in the fewest runs.
    """

    def __init__(self, plan: Plan, threads: int = 1, cores: Sequence[int] | None = None) -> None:
        """Allocates everything that runs need.

        Args:
            plan: What to run.
            threads: Threads that one run may use, the caller's included.
            cores: Where they run, if not where the plan says: the second thread on the second core and so on, no more
                threads than are listed. The caller's own is left where it is. Empty: anywhere.

        Raises:
            PlanError: The plan is for a CPU that this is not, or an operator's parameters do not fit together.
            EdgekitError: Memory or threads are not to be had.
        """
    @property
    def plan(self) -> Plan: ...
    @property
    def threads(self) -> int: ...
    @property
    def running_threads(self) -> int:
        """Threads that run: fewer than asked for where there are fewer cores."""

    @property
    def pinning_problem(self) -> str:
        """Which thread could not be pinned, and why, or ""; it runs all the same."""

    def run(self, inputs: Mapping[str, npt.ArrayLike]) -> dict[str, npt.NDArray[np.generic]]:
        """Runs the network and returns its outputs by name; states that are not given are what the last run gave.

        Raises:
            EdgekitError: An input is missing, unknown, or has the wrong shape or type.
        """

    def reset(self) -> None:
        """Makes all states zeros, as in a new session; only `run` changes them."""

    def trace(
        self, inputs: Mapping[str, npt.ArrayLike]
    ) -> list[tuple[str, str, npt.NDArray[np.generic]]]:
        """Runs the network on one batch; returns (op, tensor, values) of each op, codes as int8."""

    def digests(self, inputs: Mapping[str, npt.ArrayLike]) -> list[tuple[str, str, str]]:
        """Runs the network on one batch; returns (op, tensor, SHA-256 of the values that `trace` shows) of each op."""

    def profile(
        self, inputs: Mapping[str, npt.ArrayLike], repeats: int = 10
    ) -> list[tuple[str, float]]:
        """Runs the network on one batch `repeats` times; returns (op, median seconds) of each op."""

def verify_ed25519(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Returns whether `signature` (64 bytes) is an Ed25519 signature of `message` by `public_key` (32 bytes).

    RFC 8032, 5.1.7, without the cofactor; a key of small order and encodings that are not the least are refused.

    Raises:
        EdgekitError: Key or signature have another size.
    """

def x25519(secret: bytes, point: bytes) -> bytes:
    """Multiplies a point of Curve25519 by a secret number, 32 bytes each (RFC 7748, 5).

    Raises:
        EdgekitError: One has another size.
    """

def format_age_identity(secret: bytes) -> str:
    """Returns 32 secret bytes as age writes them: AGE-SECRET-KEY-1..."""

def age_recipient(identity: str) -> str:
    """Returns the public key, age1..., of the content of an identity's file.

    Raises:
        EdgekitError: It is none.
    """

def parse_age_recipient(text: str) -> bytes:
    """Returns the 32 bytes of a public key, age1...

    Raises:
        EdgekitError: It is none.
    """

def open_age(locked: bytes, identity: str) -> bytes:
    """Returns the content of a file in the format age-encryption.org/v1 that is locked for an identity.

    Raises:
        EdgekitError: The text is no identity's.
        PlanError: The file is not locked for it, damaged or cut off.
    """

def cut_chunks(data: bytes) -> list[tuple[int, int, bytes]]:
    """Cuts a file at borders that its content decides; returns offset, size and digest of each chunk.

    A digest is the first 16 bytes of the chunk's SHA-256.
    """

def make_recipe(base: bytes, result: bytes) -> bytes:
    """Returns a recipe (csrc/delta/recipe.h) that makes `result` of `base`."""

def make_recipe_of_chunks(
    base_size: int, base_sha256: bytes, chunks: Sequence[tuple[int, int, bytes]], result: bytes
) -> bytes:
    """Returns a recipe that makes `result` of a base of which only the chunks are known, as `cut_chunks` gives them.

    Raises:
        EdgekitError: The digest has not 32 bytes, a chunk's not 16, or a chunk lies outside of the base.
    """

def follow_recipe(recipe: bytes, base: bytes, size: int) -> bytes:
    """Returns what a recipe makes of `base`, which is `size` bytes. Whether it is the right file, a digest must say.

    Raises:
        PlanError: The recipe is damaged, or for another base or result.
    """

class Window:
    """Where a convolution finds the inputs of an output position, in an image [channels, height, width].

    A matrix's row is an image of 1 by 1 with a window of 1 by 1, the default.
    """

    def __init__(
        self,
        channels: int,
        *,
        groups: int = 1,
        size: Sequence[int] = (1, 1),
        kernel: Sequence[int] = (1, 1),
        stride: Sequence[int] = (1, 1),
        dilation: Sequence[int] = (1, 1),
        pad: Sequence[int] = (0, 0),
        out: Sequence[int] = (1, 1),
        transposed: bool = False,
    ) -> None:
        """Pairs are (vertical, horizontal); pad is that before the first row and column."""
    @property
    def groups(self) -> int: ...
    @property
    def depth(self) -> int:
        """Elements of a group's patch: (channel, vertical tap, horizontal tap), in this order."""
    @property
    def positions(self) -> int:
        """Output positions of an image."""

class Hessian:
    """Accumulates H = X^T X of a layer's inputs, X [patches, depth], for each of its groups."""

    def __init__(self, groups: int, depth: int, *, threads: int = 1, isa: str = "") -> None: ...
    def add(
        self,
        window: Window,
        image: npt.NDArray[np.float32] | npt.NDArray[np.int8],
        positions: npt.NDArray[np.uint32],
        *,
        scale: float = 1.0,
        offset: float = 0.0,
        limit: float = 32768.0,
    ) -> None:
        """Adds the patches at some output positions (y * width + x) of an image [channels, height, width].

        An element is taken for rint(clip(x * scale, -limit, limit)) - offset, padding for 0: whole numbers, so that
        sums below 2^53 are exact and no order matters.
        """
    def matrix(self, group: int = 0) -> npt.NDArray[np.float64]:
        """Returns H of a group, [depth, depth]."""

class Factor:
    """H + d I = A^T A, A lower triangular, d in parts of the mean of H's diagonal (csrc/compress/factor.h)."""

    def __init__(
        self,
        h: npt.NDArray[np.float64],
        order: npt.NDArray[np.int64],
        *,
        damping: float,
        threads: int = 1,
        isa: str = "",
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        """Factorizes ``h[order][:, order]``; what ``progress(done, total)`` raises ends it."""
    @property
    def depth(self) -> int: ...
    @property
    def pivots(self) -> npt.NDArray[np.float64]:
        """The diagonal of A."""

class MaskKind:
    """How weights are chosen that become 0."""

    NONE: MaskKind
    GIVEN: MaskKind
    COUNT: MaskKind
    DENSITY: MaskKind

class MaskRule:
    """Which weights become 0 (csrc/compress/columns.h)."""

    def __init__(
        self,
        kind: MaskKind,
        *,
        rows: int = 1,
        columns: int = 1,
        window: int = 1,
        count: int = 0,
        density: float = 1.0,
    ) -> None: ...

class SolvedRows:
    """Weights that were decided, in the shape in which they were given."""

    @property
    def weights(self) -> npt.NDArray[np.float64]: ...
    @property
    def codes(self) -> npt.NDArray[np.int8] | None:
        """What weights are in steps of their scale; None where they were not rounded."""
    @property
    def scales(self) -> npt.NDArray[np.float64] | None:
        """Scales [rows, groups] of what was rounded by `solve_columns`."""
    @property
    def kept(self) -> npt.NDArray[np.uint8] | None:
        """1 where a weight stays; None where there was no mask."""
    @property
    def costs(self) -> npt.NDArray[np.float64]:
        """e^T (H + d I) e of each row, e what a row changed by."""

def solve_columns(
    factor: Factor,
    weights: npt.NDArray[np.float64],
    *,
    mask: MaskRule,
    kept: npt.NDArray[np.uint8] | None = None,
    scales: npt.NDArray[np.float64] | None = None,
    parts: Sequence[float] = (),
    group: int = 0,
    low: float = -127,
    high: float = 127,
    threads: int = 1,
    isa: str = "",
    progress: Callable[[int, int], object] | None = None,
) -> SolvedRows:
    """Removes and rounds weights [rows, depth] column by column, those behind making up for it.

    Rounds where ``scales`` [rows, ceil(depth / group)] or ``parts`` are given; group 0 is the whole row.
    """

def solve_exactly(
    h: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    *,
    kept: npt.NDArray[np.uint8] | None = None,
    removed: int = 0,
    scales: npt.NDArray[np.float64] | None = None,
    low: float = -127,
    high: float = 127,
    damping: float = 0.01,
    threads: int = 1,
    progress: Callable[[int, int], object] | None = None,
) -> SolvedRows:
    """Removes and rounds weights [groups, rows, depth], each time the one that costs least (csrc/compress/exact.h)."""

def order_removal(
    weights: npt.NDArray[np.float64],
    inverse: npt.NDArray[np.float64],
    *,
    rows: int,
    columns: int,
    group: int,
    keep: int = 0,
    alone: bool = False,
    threads: int = 1,
    isa: str = "",
    progress: Callable[[int, int], object] | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Returns in which order blocks go, and what each costs, ``[panels, steps]`` (csrc/compress/removal.h)."""

def apply_zeros(
    weights: npt.NDArray[np.float64],
    inverse: npt.NDArray[np.float64],
    *,
    kept: npt.NDArray[np.uint8],
    support_of: npt.NDArray[np.int64],
    threads: int = 1,
    isa: str = "",
    progress: Callable[[int, int], object] | None = None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns weights with zeros where ``kept[support_of[row]]`` is 0, and what rows lose (csrc/compress/removal.h)."""
