"""Packs the operators of a program into the tables of csrc/runtime/plan.fbs, for one instruction set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit import _native
from edgekit._schema import plan_generated as schema
from edgekit.converters.float_program import DynamicFullyConnected
from edgekit.converters.layouts import (
    Layout,
    choose_layout,
    find_sparse_gain,
    join_taps,
    select_gemm,
    split_taps,
)
from edgekit.converters.part_program import QuantizeParts
from edgekit.converters.phases import cut_phases
from edgekit.converters.program import (
    Binary,
    Concat,
    Conv,
    ConvTranspose,
    DepthwiseConv,
    Dequantize,
    FullyConnected,
    FusedTable,
    GlobalMean,
    GroupFullyConnected,
    Int8Array,
    Int32Array,
    Lookup,
    MatMul,
    Op,
    Pad,
    Pool,
    PoolKind,
    Program,
    Quantize,
    Requantize,
    Reshape,
    Residual,
    Resize,
    Slice,
    Softmax,
    Transpose,
)
from edgekit.converters.wide_program import WideConv, WideDepthwiseConv
from edgekit.converters.write_plan.constants import ConstantsSection, align
from edgekit.converters.write_plan.float_ops import pack_float_op
from edgekit.converters.write_plan.fused import pack_fused
from edgekit.converters.write_plan.plain_ops import pack_plain_op
from edgekit.converters.write_plan.window import transposed_window_fields, window_fields
from edgekit.targets.errors import ModelError

_GEMM = {
    kernel.name: kernel for kernel in (*_native.gemm_kernels(), *_native.sparse_gemm_kernels())
}
_SPARSE = {kernel.name: kernel for kernel in _native.sparse_gemm_kernels()}
_DEPTHWISE = {kernel.name: kernel for kernel in _native.depthwise_kernels()}
_SHALLOW = {kernel.name: kernel for kernel in _native.shallow_kernels()}
# A session checks a plan's sums without looking into packed weights, by this bound of a stored code times a weight.
_LARGEST_PRODUCT = 255 * 128


class OpPacker:
    """Turns operators into tables and collects their constants.

    Attributes:
        tensor_index: Position of each tensor in the plan, by name.
    """

    def __init__(
        self,
        program: Program,
        isa: str,
        *,
        shifted: bool,
        layouts: Mapping[str, Layout] | None = None,
        constants: ConstantsSection | None = None,
    ) -> None:
        """Starts with no operator.

        Args:
            program: Holds the tensors of the operators to come.
            isa: A token of csrc/isa/isa.inc.
            shifted: Whether codes are stored as ``q + 128``.
            layouts: How the layers that write these tensors are computed, where not by rule.
            constants: Takes the constants; by default a section of its own.
        """
        self.constants = constants or ConstantsSection()
        self.tensor_index = {name: index for index, name in enumerate(program.tensors)}
        self._program = program
        self._isa = isa
        self._layouts = layouts or {}
        self._shift = 128 if shifted else 0

    def pack(self, op: Op) -> schema.OpT:
        """Returns the table of ``op``.

        Raises:
            ModelError: Its sums could leave int32 by the bound that a session checks.
        """
        params = self._params(op)
        kind = type(params).__name__.removesuffix("T")
        return schema.OpT(name=op.name, paramsType=getattr(schema.OpParams, kind), params=params)

    def pack_constants(self) -> dict[str, int]:
        """Appends the program's constant tensors; returns where each begins."""
        return {
            name: self._blob(
                np.ascontiguousarray(array, self._program.tensors[name].dtype.numpy)
            ).offset
            for name, array in self._program.constants.items()
        }

    def _params(self, op: Op) -> Any:
        index = self.tensor_index
        y = index[op.output]
        match op:
            case Conv():
                return self._conv(op)
            case DepthwiseConv():
                return self._depthwise(op)
            case DynamicFullyConnected():
                return self._dynamic_fully_connected(op)
            case FullyConnected():
                return self._fully_connected(op)
            case WideConv() | WideDepthwiseConv():
                return self._wide(op)
            case GroupFullyConnected():
                return self._group_fully_connected(op)
            case ConvTranspose():
                return self._conv_transpose(op)
            case Binary(binary=kind, a=a, b=b, lo=lo, hi=hi, table=table):
                number = getattr(schema.BinaryKind, kind.value)
                return schema.BinaryT(number, index[a], index[b], y, lo, hi, self._table(table))
            case MatMul():
                return self._product(op)
            case Resize():
                return schema.ResizeT(
                    input=index[op.input],
                    output=y,
                    rows=list(op.rows),
                    columns=list(op.columns),
                    rowWeights=None if op.row_weights is None else list(op.row_weights),
                    columnWeights=None if op.column_weights is None else list(op.column_weights),
                    lo=op.lo,
                    hi=op.hi,
                )
            case Pool():
                average = op.pool is PoolKind.AVERAGE
                return schema.PoolT(
                    kind=schema.PoolKind.Average if average else schema.PoolKind.Max,
                    input=index[op.input],
                    output=y,
                    countIncludePad=op.count_include_pad,
                    lo=op.lo,
                    hi=op.hi,
                    **window_fields(op.window),
                )
            case GlobalMean(input=x, lo=lo, hi=hi):
                return schema.GlobalMeanT(index[x], y, lo, hi)
            case Requantize(input=x, lo=lo, hi=hi):
                return schema.RequantizeT(index[x], y, lo, hi)
            case Lookup(input=x, table=codes):
                return schema.LookupT(index[x], y, self._blob(codes))
            case Softmax(input=x, table=exponentials):
                return schema.SoftmaxT(index[x], y, self._blob(exponentials.astype("<u4")))
            case Quantize(input=x):
                return schema.QuantizeT(index[x], y)
            case QuantizeParts(input=x, lo=lo, hi=hi):
                return schema.QuantizePartsT(index[x], y, lo, hi)
            case Dequantize(input=x):
                return schema.DequantizeT(index[x], y)
            case Reshape(input=x):
                return schema.ReshapeT(index[x], y)
            case Concat(parts=parts, axis=axis):
                return schema.ConcatT([index[name] for name in parts], y, axis)
            case Transpose(input=x, permutation=permutation):
                return schema.TransposeT(index[x], y, list(permutation))
            case Pad(input=x, pads=pads, value=value, real=real):
                amounts = [amount for pair in pads for amount in pair]
                return schema.PadT(index[x], y, amounts, value, real)
            case Slice(input=x, begin=begin, step=step):
                return schema.SliceT(index[x], y, list(begin), list(step))
        table = pack_float_op(op, index, self._program.tensors, self._isa, self._blob)
        if table is None:
            table = pack_plain_op(op, index)
        if table is None:
            raise TypeError(f"plan.fbs has no table for {op.kind}")
        return table

    def _layout(self, op: Conv | DepthwiseConv | FullyConnected) -> Layout:
        return self._layouts.get(op.output) or choose_layout(self._program, op, self._isa)

    def _conv(self, op: Conv) -> Any:
        layout = self._layout(op)
        shallow = _SHALLOW.get(layout.kernel)
        if shallow is not None:
            packed_shallow = _pack_bits(_native.pack_shallow(shallow.name, op.weights), op)
            return self._conv_table(
                op, shallow, self._blob(packed_shallow), patches=False, bits=op.weight_bits
            )
        weights = join_taps(op) if layout.patches else split_taps(op)
        per_group = len(weights) // op.groups
        packed = bytearray()
        for group in range(op.groups):
            align(packed)
            part = np.ascontiguousarray(weights[group * per_group : (group + 1) * per_group])
            packed += _pack_gemm(layout.kernel, part)
        return self._conv_table(
            op, _GEMM[layout.kernel], self._blob(packed), patches=layout.patches
        )

    def _conv_table(
        self,
        op: Conv,
        kernel: _native.KernelInfo,
        weights: Any,
        *,
        patches: bool,
        bits: int = 8,
    ) -> Any:
        bias = self._stored_bias(op)
        return schema.ConvT(
            input=self.tensor_index[op.input],
            output=self.tensor_index[op.output],
            kernel=kernel.name,
            weights=weights,
            bias=self._blob(_pad_groups(bias, op.groups, kernel.nr)),
            multiplier=self._blob(_pad_groups(op.multiplier, op.groups, kernel.nr)),
            groups=op.groups,
            patches=patches,
            lo=op.lo,
            hi=op.hi,
            residual=self._residual(op.residual),
            table=self._table(op.table),
            weightBits=bits,
            fused=self._fused(op, kernel, bias),
            **window_fields(op.window),
        )

    def _fused(
        self, op: Conv | FullyConnected, kernel: _native.KernelInfo, bias: Int32Array
    ) -> Any:
        if kernel.name not in _GEMM:
            return None
        return pack_fused(op, kernel, self._program.tensors[op.output], bias, self._blob)

    def _fully_connected(self, op: FullyConnected) -> Any:
        kernel = _GEMM[self._layout(op).kernel]
        bias = self._stored_bias(op)
        return schema.FullyConnectedT(
            input=self.tensor_index[op.input],
            output=self.tensor_index[op.output],
            kernel=kernel.name,
            weights=self._blob(_pack_gemm(kernel.name, split_taps(op))),
            bias=self._blob(_pad_groups(bias, 1, kernel.nr)),
            multiplier=self._blob(_pad_groups(op.multiplier, 1, kernel.nr)),
            lo=op.lo,
            hi=op.hi,
            table=self._table(op.table),
            fused=self._fused(op, kernel, bias),
        )

    def _dynamic_fully_connected(self, op: DynamicFullyConnected) -> Any:
        rows = math.prod(self._program.tensors[op.output].shape[:-1])
        weights = split_taps(op)
        sparse = find_sparse_gain(self._program, op, self._isa)
        dense = select_gemm(rows, weights, 1, self._isa, op.weight_bits)
        kernel = _GEMM[dense.name if sparse is None else sparse.kernel.name]
        correction = -self._shift * op.weights.sum(axis=1, dtype=np.int64)
        self._check_sums(op, correction, op.weights.shape[1], op.weight_bits)
        return schema.DynamicFullyConnectedT(
            input=self.tensor_index[op.input],
            output=self.tensor_index[op.output],
            kernel=kernel.name,
            weights=self._blob(_pack_gemm(kernel.name, weights)),
            correction=self._blob(_pad_groups(correction.astype(np.int32), 1, kernel.nr)),
            multiplier=self._blob(_pad_groups(op.multiplier, 1, kernel.nr)),
            bias=self._blob(op.bias.astype("<f4")),
            whole=op.whole,
        )

    def _group_fully_connected(self, op: GroupFullyConnected) -> Any:
        depth = op.weights.shape[1]
        rows = math.prod(self._program.tensors[op.output].shape[:-1])
        parts = [op.weights[:, None, k : k + op.group] for k in range(0, depth, op.group)]
        kernel = _GEMM[select_gemm(rows, parts[0], 1, self._isa, 4).name]
        zero_point = self._program.tensors[op.input].zero_point + self._shift
        packed = bytearray()
        for part in parts:
            align(packed)
            packed += _native.pack_gemm(kernel.name, np.ascontiguousarray(part))
        correction = np.stack([part.sum(axis=(1, 2), dtype=np.int64) for part in parts])
        correction *= -zero_point
        self._check_sums(op, correction, min(op.group, depth), 4)
        return schema.GroupFullyConnectedT(
            input=self.tensor_index[op.input],
            output=self.tensor_index[op.output],
            kernel=kernel.name,
            group=op.group,
            weights=self._blob(packed),
            correction=self._blob(_pad_groups(correction.astype(np.int32), len(parts), kernel.nr)),
            multiplier=self._blob(_pad_groups(op.multiplier, len(parts), kernel.nr)),
            bias=self._blob(op.bias.astype("<f4")),
            lo=op.lo,
            hi=op.hi,
            table=self._table(op.table),
        )

    def _wide(self, op: WideConv | WideDepthwiseConv) -> Any:
        fields = {
            "input": self.tensor_index[op.input],
            "output": self.tensor_index[op.output],
            "bias": self._blob(op.bias.astype("<f8")),
            "multiplier": self._blob(op.multiplier.astype("<f8")),
            "inputStep": float(op.input_step),
            "outputStep": float(op.output_step),
            "lo": op.lo,
            "hi": op.hi,
            **window_fields(op.window),
        }
        count = len(op.weights)
        if isinstance(op, WideDepthwiseConv):
            taps = np.ascontiguousarray(op.weights.reshape(count, -1).T)
            return schema.WideDepthwiseConvT(weights=self._blob(taps), **fields)
        flat = np.ascontiguousarray(op.weights.reshape(count, 1, -1))
        rows = math.prod(self._program.tensors[op.output].shape[:-1])
        # Lower bytes reach 255 where codes of 8 bits stay below: only a kernel that is exact for all serves.
        name = _native.select_gemm(self._isa, rows, count, flat.shape[2], 1, False).name
        self._check_sums(op, np.zeros(1, np.int64), 2 * flat.shape[2])
        sums = flat.sum(axis=(1, 2), dtype=np.int64).astype(np.int32)
        return schema.WideConvT(
            kernel=name,
            weights=self._blob(_native.pack_gemm(name, flat)),
            sums=self._blob(_pad_groups(sums, 1, _GEMM[name].nr)),
            **fields,
        )

    def _product(self, op: MatMul) -> Any:
        shape = self._program.tensors[op.output].shape
        depth = self._program.tensors[op.a].shape[-1]
        kernel = _native.select_gemm(self._isa, shape[-2], shape[-1], depth, 1, False)
        return schema.MatMulT(
            a=self.tensor_index[op.a],
            b=self.tensor_index[op.b],
            output=self.tensor_index[op.output],
            kernel=kernel.name,
            transposed=op.transposed,
            lo=op.lo,
            hi=op.hi,
            table=self._table(op.table),
        )

    def _depthwise(self, op: DepthwiseConv) -> Any:
        kernel = _DEPTHWISE[self._layout(op).kernel]
        return schema.DepthwiseConvT(
            input=self.tensor_index[op.input],
            output=self.tensor_index[op.output],
            kernel=kernel.name,
            weights=self._blob(_pack_bits(_native.pack_depthwise(kernel.name, op.weights), op)),
            bias=self._blob(_pad_groups(self._stored_bias(op), 1, kernel.nr)),
            multiplier=self._blob(_pad_groups(op.multiplier, 1, kernel.nr)),
            lo=op.lo,
            hi=op.hi,
            residual=self._residual(op.residual),
            table=self._table(op.table),
            weightBits=op.weight_bits,
            **window_fields(op.window),
        )

    def _conv_transpose(self, op: ConvTranspose) -> Any:
        window = op.window
        x, y = self._program.tensors[op.input], self._program.tensors[op.output]
        phases = cut_phases(op.weights, window, x.shape[2], y.shape[2])
        most = max(phases, key=lambda weights: weights.shape[1])
        kernel = select_gemm(x.shape[2], most, 1, self._isa, op.weight_bits)
        if kernel.exactness != "always" and not all(
            _native.pair_sums_fit_16(weights) for weights in phases
        ):
            kernel = _native.select_gemm(
                self._isa,
                x.shape[2],
                len(most),
                most.shape[2],
                most.shape[1],
                False,
                op.weight_bits,
            )
        packed = bytearray()
        for weights in phases:
            align(packed)
            packed += _native.pack_gemm(kernel.name, weights)
        zero_point = x.zero_point + self._shift
        bias = np.concatenate(
            [
                np.tile(op.bias, len(weights) // len(op.bias)).astype(np.int64)
                - zero_point * weights.sum(axis=(1, 2), dtype=np.int64)
                for weights in phases
            ]
        )
        self._check_sums(op, bias, most.shape[1] * most.shape[2], op.weight_bits)
        copies = bias.size // len(op.bias)
        return schema.ConvTransposeT(
            input=self.tensor_index[op.input],
            output=self.tensor_index[op.output],
            kernel=kernel.name,
            weights=self._blob(packed),
            bias=self._blob(bias.astype("<i4")),
            multiplier=self._blob(np.tile(op.multiplier, copies).astype("<f4")),
            lo=op.lo,
            hi=op.hi,
            table=self._table(op.table),
            **transposed_window_fields(window),
        )

    def _table(self, table: FusedTable | None) -> Any:
        if table is None:
            return None
        return schema.FusedTableT(
            self._blob(table.codes), float(table.scale), int(table.zero_point)
        )

    def _residual(self, residual: Residual | None) -> Any:
        if residual is None:
            return None
        return schema.ResidualT(
            tensor=self.tensor_index[residual.tensor],
            scale=float(residual.scale),
            zeroPoint=residual.zero_point,
            lo=residual.lo,
            hi=residual.hi,
        )

    def _stored_bias(self, op: Conv | DepthwiseConv | FullyConnected) -> Int32Array:
        """Returns ``bias[c] - stored_zero_point * sum w[c]``."""
        zero_point = self._program.tensors[op.input].zero_point + self._shift
        totals = op.weights.reshape(len(op.weights), -1).sum(axis=1, dtype=np.int64)
        bias = op.bias.astype(np.int64) - zero_point * totals
        self._check_sums(op, bias, op.weights.size // len(op.weights), op.weight_bits)
        stored: Int32Array = bias.astype("<i4")
        return stored

    def _check_sums(self, op: Op, bias: npt.NDArray[np.int64], depth: int, bits: int = 8) -> None:
        # Kernels may hold 16 times a sum of weights of 4 bits.
        start = int(np.abs(bias).max()) << (8 - bits)
        if start + depth * _LARGEST_PRODUCT > np.iinfo(np.int32).max:
            raise ModelError(
                f"node {op.name!r}: its {depth} products and its bias could leave int32; "
                "deploy it with format onnx, or split the layer"
            )

    def _blob(self, content: npt.NDArray[Any] | bytes | bytearray) -> Any:
        """Returns where ``content`` lies in the constants."""
        return self.constants.add(content)


def _pack_gemm(kernel: str, weights: Int8Array) -> bytes:
    """Packs weights ``[n, taps, k]`` for a dense or a sparse kernel."""
    pack = _native.pack_sparse_gemm if kernel in _SPARSE else _native.pack_gemm
    return pack(kernel, weights)


def _pack_bits(packed: bytes, op: Conv | DepthwiseConv) -> bytes:
    """Returns the packed weights of a kernel that takes bytes, two to a byte where the layer's have 4 bits."""
    return _native.pack_nibbles(packed) if op.weight_bits == 4 else packed


def _pad_groups(values: npt.NDArray[Any], groups: int, unit: int) -> npt.NDArray[Any]:
    """Returns ``values`` of each output channel, little-endian, each group filled up to a multiple of ``unit``.

    A kernel reads whole units; so it can read them where they lie in the file.
    """
    by_group = values.astype(values.dtype.newbyteorder("<")).reshape(groups, -1)
    return np.pad(by_group, ((0, 0), (0, -by_group.shape[1] % unit)))
