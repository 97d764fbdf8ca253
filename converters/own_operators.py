"""Writes operators that compute on codes as float operators between DequantizeLinear and QuantizeLinear.

QLinearConv and its kin, which ``onnxruntime.quantization`` writes as ``QuantFormat.QOperator``, say the same as the
float operator between pairs does: the same codes, scales and zero points. ``own_codes.py`` reads the pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.passes.rewrite import (
    add_initializer,
    attribute,
    constant,
    forget_names,
    new_name,
)
from edgekit.converters.read_onnx import infer_shapes
from edgekit.targets.errors import ModelError

MICROSOFT = "com.microsoft"
DOMAINS = frozenset({"", "ai.onnx", MICROSOFT})
CODES = (ir.DataType.INT8, ir.DataType.UINT8)
# Before it, DequantizeLinear of ONNX itself had one scale.
_FIRST_PER_CHANNEL_OPSET = 13
_FIRST_REDUCE_AXES_OPSET = 18
_WITHOUT = frozenset({"channels_last", "opset"})


@dataclass(frozen=True)
class _Form:
    """Where an operator on codes has what: scale and zero point follow the codes of an operand.

    Attributes:
        op: The float operator.
        operands: Index of each operand's codes.
        result: Index of the result's scale; its zero point follows.
        bias: Index of an int32 bias, whose scale is that of the sums.
        plain: How many inputs in front are no codes.
    """

    op: str
    operands: tuple[int, ...]
    result: int
    bias: int | None = None
    plain: int = 0


_FORMS = {
    "QGemm": _Form("Gemm", (0, 3), 7, bias=6),
    "QLinearAdd": _Form("Add", (0, 3), 6),
    "QLinearAveragePool": _Form("AveragePool", (0,), 3),
    "QLinearConv": _Form("Conv", (0, 3), 6, bias=8),
    "QLinearGlobalAveragePool": _Form("GlobalAveragePool", (0,), 3),
    "QLinearLeakyRelu": _Form("LeakyRelu", (0,), 3),
    "QLinearMatMul": _Form("MatMul", (0, 3), 6),
    "QLinearMul": _Form("Mul", (0, 3), 6),
    "QLinearReduceMean": _Form("ReduceMean", (0,), 3),
    "QLinearSigmoid": _Form("Sigmoid", (0,), 3),
    "QLinearSoftmax": _Form("Softmax", (0,), 3),
    "QLinearWhere": _Form("Where", (1, 4), 7, plain=1),
}
_CONCAT = "QLinearConcat"
# Operators of ONNX itself that move codes, with the inputs that are codes.
_MOVES = {
    "Clip": (0, 1, 2),
    "DepthToSpace": (0,),
    "Expand": (0,),
    "Flatten": (0,),
    "Gather": (0,),
    "Identity": (0,),
    "MaxPool": (0,),
    "Pad": (0, 2),
    "Reshape": (0,),
    "Resize": (0,),
    "Slice": (0,),
    "SpaceToDepth": (0,),
    "Split": (0,),
    "Squeeze": (0,),
    "Tile": (0,),
    "Transpose": (0,),
    "Unsqueeze": (0,),
}
# What they say of codes they say of the numbers.
_READERS = frozenset({"ArgMax", "ArgMin", "Shape", "Size"})


@dataclass(frozen=True)
class Grid:
    """Scale and zero point as scalars of the graph.

    Attributes:
        scale: float32.
        zero_point: int8 or uint8, as the codes.
    """

    scale: ir.Value
    zero_point: ir.Value


def write_pairs(model: ir.Model) -> bool:
    """Takes operators on codes out of ``model``, in place, before its opset is converted; returns whether it had any.

    Codes that are only moved (a MaxPool between QuantizeLinear and DequantizeLinear) become numbers that are moved.

    Raises:
        ModelError: An operator has scales that are computed, or codes that are neither int8 nor uint8; names the node.
    """
    forget_names(model.graph)
    writer = _Writer(model)
    changed = [writer.write(node) for node in tuple(model.graph)]
    forget_names(model.graph)
    if any(changed):
        infer_shapes(model)
    return any(changed)


class PairAdder:
    """Adds QuantizeLinear and DequantizeLinear to a graph."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self.graph = model.graph
        self.opset = model.graph.opset_imports.get("", 0)

    def read_scale(self, node: ir.Node, index: int) -> npt.NDArray[np.float32]:
        """Returns the scales at an input of ``node``.

        Raises:
            ModelError: They are computed, or missing.
        """
        array = constant(node.inputs[index]) if index < len(node.inputs) else None
        if array is None:
            raise refuse(node, "a scale of it is computed")
        return array.astype(np.float32)

    def read_zero_point(
        self, node: ir.Node, index: int, dtype: ir.DataType | None
    ) -> npt.NDArray[np.generic]:
        """Returns the zero points at an input of ``node``; 0 of ``dtype`` where it has none.

        Raises:
            ModelError: They are computed, or neither int8 nor uint8.
        """
        value = node.inputs[index] if index < len(node.inputs) else None
        array = constant(value)
        if value is not None and array is None:
            raise refuse(node, "a zero point of it is computed")
        if array is None:
            array = np.zeros((), (dtype or ir.DataType.UINT8).numpy())
        found = ir.DataType.from_numpy(array.dtype)
        if found not in CODES:
            raise refuse(node, f"its codes are {found}, and only int8 and uint8 are read")
        return array

    def read_grid(self, node: ir.Node, index: int, dtype: ir.DataType | None) -> Grid:
        """Returns the one scale at ``index`` and the zero point behind it.

        Raises:
            ModelError: There are several.
        """
        scale = self.read_scale(node, index)
        zero_point = self.read_zero_point(node, index + 1, dtype)
        if scale.size != 1 or zero_point.size != 1:
            raise refuse(node, f"a tensor of it has {scale.size} scales, and can have one")
        return self.add_grid(node, scale, zero_point)

    def add_grid(
        self,
        node: ir.Node,
        scale: npt.NDArray[np.float32],
        zero_point: npt.NDArray[np.generic],
    ) -> Grid:
        """Adds a scale and a zero point, scalars, to the graph."""
        return Grid(
            add_initializer(self.graph, f"{node.name}:scale", scale.reshape(())),
            add_initializer(self.graph, f"{node.name}:zero_point", zero_point.reshape(())),
        )

    def dequantize(self, node: ir.Node, codes: ir.Value, grid: Grid) -> ir.Value:
        """Returns the numbers of ``codes``, made before ``node``."""
        return self._dequantize(node, codes, [grid.scale, grid.zero_point], "")

    def dequantize_constant(
        self,
        node: ir.Node,
        codes: npt.NDArray[np.generic],
        scale: npt.NDArray[np.float32],
        zero_point: npt.NDArray[np.generic],
        axis: int,
    ) -> ir.Value:
        """Returns the numbers of a layer's weights or bias, with a scale for all or for each channel of ``axis``.

        Raises:
            ModelError: The scales do not fit.
        """
        if max(scale.size, zero_point.size) == 1:
            scale, zero_point, domain = scale.reshape(()), zero_point.reshape(()), ""
        else:
            count = codes.shape[axis] if -codes.ndim <= axis < codes.ndim else 0
            if scale.size not in (1, count) or zero_point.size not in (1, count):
                raise refuse(node, f"{scale.size} scales do not fit {list(codes.shape)} weights")
            scale = np.broadcast_to(scale.reshape(-1), (count,))
            zero_point = np.broadcast_to(zero_point.reshape(-1), (count,))
            domain = MICROSOFT if self.opset < _FIRST_PER_CHANNEL_OPSET else ""
        values = [
            add_initializer(self.graph, f"{node.name}:{part}", np.ascontiguousarray(array))
            for part, array in (
                ("codes", codes),
                ("scales", scale),
                ("zero_points", zero_point.astype(codes.dtype)),
            )
        ]
        return self._dequantize(
            node, values[0], values[1:], domain, axis % max(codes.ndim, 1) if scale.ndim else None
        )

    def quantize(self, node: ir.Node, output: ir.Value, grid: Grid) -> ir.Value:
        """Returns codes of the numbers ``output`` of ``node``, for all that reads it; they get its name."""
        pair = ir.node(
            "QuantizeLinear", [None, grid.scale, grid.zero_point], name=f"{output.name}:quantize"
        )
        codes, name = pair.outputs[0], output.name
        codes.type = ir.TensorType(grid.zero_point.dtype or ir.DataType.UINT8)
        codes.shape = output.shape
        output.replace_all_uses_with(codes, replace_graph_outputs=True)
        pair.replace_input_with(0, output)
        output.name = new_name(self.graph, f"{name}:float")
        codes.name = name
        output.type = ir.TensorType(ir.DataType.FLOAT)
        self.graph.insert_after(node, pair)
        return codes

    def _dequantize(
        self,
        node: ir.Node,
        codes: ir.Value,
        parameters: list[ir.Value],
        domain: str,
        axis: int | None = None,
    ) -> ir.Value:
        attributes = {} if axis is None else {"axis": axis}
        name = new_name(self.graph, f"{node.name}:{codes.name}:float")
        pair = ir.node(
            "DequantizeLinear", [codes, *parameters], attributes, domain=domain, name=name
        )
        pair.outputs[0].name = name
        pair.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        pair.outputs[0].shape = codes.shape
        if domain:
            self._model.graph.opset_imports.setdefault(domain, 1)
        self.graph.insert_before(node, pair)
        return pair.outputs[0]


class _Writer(PairAdder):
    """Writes one operator after the other, and remembers which values are codes."""

    def __init__(self, model: ir.Model) -> None:
        super().__init__(model)
        self._grids: dict[ir.Value, Grid] = {}

    def write(self, node: ir.Node) -> bool:
        """Writes ``node`` as pairs; returns whether it had to."""
        if node.domain not in DOMAINS:
            return False
        if node.op_type == "QuantizeLinear":
            self._note(node)
            return False
        if node.op_type in _FORMS:
            self._write_form(node, _FORMS[node.op_type])
            return True
        if node.op_type == _CONCAT:
            self._write_concat(node)
            return True
        if node.domain == MICROSOFT or not node.inputs:
            return False
        if node.op_type == "Concat":
            return self._write_moved_concat(node)
        if node.op_type in _READERS or node.op_type in _MOVES:
            grid = self._find_grid(node.inputs[0])
            if grid is None:
                return False
            self._write_move(node, grid)
            return True
        return False

    def _note(self, node: ir.Node) -> None:
        """Remembers the grid of what a QuantizeLinear makes, where it has one."""
        scale = constant(node.inputs[1])
        zero_point = constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros((), np.uint8)
        if scale is None or zero_point is None or scale.size != 1 or zero_point.size != 1:
            return
        if ir.DataType.from_numpy(zero_point.dtype) in CODES:
            grid = self.add_grid(node, scale.astype(np.float32), zero_point)
            self._grids[node.outputs[0]] = grid

    def _find_grid(self, codes: ir.Value | None) -> Grid | None:
        """Returns the grid of a value: that with which it was made, or is read; None for what is no codes."""
        if codes is None or codes in self._grids:
            return None if codes is None else self._grids[codes]
        if codes.dtype not in CODES:
            return None
        waiting = [codes]
        while waiting:
            value = waiting.pop()
            for user, index in value.uses():
                found = _scale_index(user, index)
                if found is not None:
                    if constant(user.inputs[found]) is None:
                        continue
                    self._grids[codes] = self.read_grid(user, found, codes.dtype)
                    return self._grids[codes]
                if user.op_type in _MOVES and not user.domain and index == 0:
                    waiting.extend(user.outputs)
        return None

    def _write_form(self, node: ir.Node, form: _Form) -> None:
        """Writes an operator that ``_FORMS`` describes."""
        _check_layout(node)
        operands: list[ir.Value | None] = list(node.inputs[: form.plain])
        scales: list[npt.NDArray[np.float32]] = []
        for place, index in enumerate(form.operands):
            codes = _input(node, index)
            if codes is None:
                raise refuse(node, f"its input {index} is missing")
            dtype = codes.dtype or self._dtype(codes)
            array = constant(codes)
            scale = self.read_scale(node, index + 1)
            scales.append(scale)
            if array is None or form.plain:
                if dtype is not None and dtype not in CODES:
                    raise refuse(node, f"its codes are {dtype}, and only int8 and uint8 are read")
                operands.append(
                    self.dequantize(node, codes, self.read_grid(node, index + 1, dtype))
                )
                continue
            zero_point = self.read_zero_point(node, index + 2, dtype)
            axis = _channels(node, form.op, array.ndim) if place else 0
            operands.append(self.dequantize_constant(node, array, scale, zero_point, axis))
        bias = None if form.bias is None else _input(node, form.bias)
        if bias is not None:
            operands.append(self._write_bias(node, bias, scales))
        if form.op == "ReduceMean" and self.opset >= _FIRST_REDUCE_AXES_OPSET:
            axes = node.attributes.pop("axes", None)
            if axes is not None:
                numbers = np.array(axes.as_ints(), np.int64)
                operands.append(add_initializer(self.graph, f"{node.name}:axes", numbers))
        result = ir.node(form.op, operands, name=node.name)
        for name, own in node.attributes.items():
            if name not in _WITHOUT:
                result.attributes[name] = own
        grid = None
        if _input(node, form.result) is not None:
            first = _input(node, form.operands[0])
            grid = self.read_grid(node, form.result, None if first is None else self._dtype(first))
        self._replace(node, result, grid)

    def _write_bias(
        self, node: ir.Node, bias: ir.Value, scales: list[npt.NDArray[np.float32]]
    ) -> ir.Value:
        """Returns the numbers of an int32 bias, whose scale is that of the sums."""
        array = constant(bias)
        if array is None:
            raise refuse(node, "its bias is computed")
        alpha = node.attributes.get("alpha")
        factor = np.float32(1 if alpha is None else alpha.as_float())
        scale = (scales[0].reshape(-1) * scales[1].reshape(-1) * factor).astype(np.float32)
        return self.dequantize_constant(node, array, scale, np.zeros((), np.int32), -1)

    def _write_concat(self, node: ir.Node) -> None:
        operands = []
        for index in range(2, len(node.inputs), 3):
            codes = _input(node, index)
            if codes is None:
                raise refuse(node, f"its input {index} is missing")
            grid = self.read_grid(node, index + 1, self._dtype(codes))
            operands.append(self.dequantize(node, codes, grid))
        result = ir.node("Concat", operands, name=node.name)
        for name, own in node.attributes.items():
            result.attributes[name] = own
        self._replace(node, result, self.read_grid(node, 0, None))

    def _write_moved_concat(self, node: ir.Node) -> bool:
        """Writes a Concat of codes, all of one grid."""
        grids = [self._find_grid(value) for value in node.inputs]
        first = next((grid for grid in grids if grid is not None), None)
        if first is None:
            return False
        if any(grid is not None and not _same(grid, first) for grid in grids):
            raise refuse(node, "it joins codes of several scales, which then mean several things")
        self._write_move(node, first, tuple(range(len(node.inputs))))
        return True

    def _write_move(self, node: ir.Node, grid: Grid, places: tuple[int, ...] | None = None) -> None:
        """Lets a node of ONNX itself move the numbers instead of the codes of one grid."""
        if node.op_type == "Pad":
            self._fill_with_code(node, grid)
        for index in _MOVES.get(node.op_type, (0,)) if places is None else places:
            codes = _input(node, index)
            if codes is not None:
                node.replace_input_with(index, self.dequantize(node, codes, grid))
        if node.op_type not in _READERS:
            for output in node.outputs[: None if node.op_type != "MaxPool" else 1]:
                self._grids[self.quantize(node, output, grid)] = grid

    def _fill_with_code(self, node: ir.Node, grid: Grid) -> None:
        """Says that a Pad of codes fills with code 0 where it says nothing, which is no number 0."""
        mode = node.attributes.get("mode")
        plain = mode is None or mode.as_string() == "constant"
        if plain and len(node.inputs) > 1 and _input(node, 2) is None:
            dtype = (grid.zero_point.dtype or ir.DataType.UINT8).numpy()
            fill = add_initializer(self.graph, f"{node.name}:fill", np.zeros((), dtype))
            node.resize_inputs(max(len(node.inputs), 3))
            node.replace_input_with(2, fill)

    def _replace(self, node: ir.Node, result: ir.Node, grid: Grid | None) -> None:
        """Puts ``result`` and a QuantizeLinear behind it in the place of ``node``."""
        old, new = node.outputs[0], result.outputs[0]
        new.type, new.shape = ir.TensorType(ir.DataType.FLOAT), old.shape
        self.graph.insert_before(node, result)
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        new.name, old.name = old.name, None
        self.graph.remove(node, safe=True)
        if grid is not None:
            self._grids[self.quantize(result, new, grid)] = grid

    def _dtype(self, codes: ir.Value) -> ir.DataType | None:
        grid = self._grids.get(codes)
        return codes.dtype if grid is None else grid.zero_point.dtype


def refuse(node: ir.Node, reason: str) -> ModelError:
    """Returns the error that an operator on codes is not read."""
    return ModelError(
        f"node '{node.name}' ({node.op_type}): {reason}; calibrate the float model instead, or write it with pairs of "
        "QuantizeLinear and DequantizeLinear (QDQ)"
    )


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _check_layout(node: ir.Node) -> None:
    if attribute(node, "channels_last", 0):
        raise refuse(node, "its channels come last, as ONNX Runtime keeps them for itself")
    softmax = node.attributes.get("opset")
    if softmax is not None and softmax.as_int() < 13 and attribute(node, "axis", -1) != -1:
        source = _input(node, 0)
        rank = None if source is None or source.shape is None else source.shape.rank()
        if rank is None or attribute(node, "axis", -1) % rank != rank - 1:
            raise refuse(node, "it is of several dimensions at once (opset below 13)")


def _channels(node: ir.Node, op: str, rank: int) -> int:
    """Returns the dimension of constant weights with the output channels."""
    if op == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return 0 if op == "Conv" else rank - 1


def _scale_index(node: ir.Node, index: int) -> int | None:
    """Returns the input of ``node`` with the scale of its codes at ``index``, None where it reads no codes there."""
    if node.domain not in DOMAINS:
        return None
    if node.op_type == "DequantizeLinear":
        return 1 if index == 0 else None
    if node.op_type == _CONCAT:
        return index + 1 if index >= 2 and index % 3 == 2 else None
    form = _FORMS.get(node.op_type)
    return index + 1 if form is not None and index in form.operands else None


def _same(a: Grid, b: Grid) -> bool:
    return all(_numbers(a.scale, b.scale)) and all(_numbers(a.zero_point, b.zero_point))


def _numbers(a: ir.Value, b: ir.Value) -> Iterator[bool]:
    first, second = constant(a), constant(b)
    yield first is not None and second is not None and bool(first == second)
