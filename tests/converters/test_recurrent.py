"""LSTM, GRU and RNN with int8 weights: the rule, the judge and sessions agree to the byte, float nearly so."""

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recurrent_oracle import run_recurrent

import edgekit
from edgekit import _native
from edgekit.converters.calibrate import Calibration, RangeChoice, calibrate
from edgekit.converters.fusion import report_fusion
from edgekit.converters.lower import lower
from edgekit.converters.passes import simplify
from edgekit.converters.quantization import RowQuantization, get_quantization
from edgekit.converters.quantize import get_report, quantize
from edgekit.converters.quantize.weights import PAIR_LIMIT, largest_pairs
from edgekit.converters.reference import run_program
from edgekit.converters.tflite import Weights, write_tflite
from edgekit.converters.write_onnx import write_onnx
from edgekit.converters.write_plan import write_plan
from edgekit.targets.errors import ModelError

RUNNABLE = [info.name for info in _native.isas() if info.built and info.supported]
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
BACKWARDS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


@dataclass(frozen=True)
class Case:
    kind: str = "LSTM"
    direction: str = "forward"
    steps: int = 3
    batch: int = 2
    features: int = 5
    hidden: int = 4
    layout: int = 0
    clip: float | None = None
    linear: bool = False
    biased: bool = True
    peepholes: bool = False
    states: bool = False
    lengths: bool = False
    seed: int = 0

    @property
    def directions(self):
        return len(BACKWARDS[self.direction])


def make_arrays(case):
    """Returns the constants of a case, the input and the first states."""
    rng = np.random.default_rng(case.seed)
    d, rows = case.directions, GATES[case.kind] * case.hidden

    def draw(*shape, scale=1.0):
        return rng.normal(0, scale, shape).astype(np.float32)

    arrays = {
        "w": draw(d, rows, case.features, scale=case.features**-0.5),
        "r": draw(d, rows, case.hidden, scale=case.hidden**-0.5),
    }
    if case.biased:
        arrays["b"] = draw(d, 2 * rows, scale=0.3)
    if case.peepholes:
        arrays["p"] = draw(d, 3 * case.hidden, scale=0.5)
    if case.lengths:
        arrays["l"] = np.full(case.batch, case.steps, np.int32)
    fed = {"x": draw(case.steps, case.batch, case.features)}
    if case.states:
        fed["h0"] = draw(d, case.batch, case.hidden, scale=0.5)
        if case.kind == "LSTM":
            fed["c0"] = draw(d, case.batch, case.hidden)
    if case.layout:
        fed = {name: array.swapaxes(0, 1).copy() for name, array in fed.items()}
    return arrays, fed


def make_model(case, arrays, fed):
    place = ["x", "w", "r", "b", "l", "h0", "c0", "p"]
    inputs = [name if name in arrays or name in fed else "" for name in place]
    while not inputs[-1]:
        inputs.pop()
    attributes = {"hidden_size": case.hidden, "direction": case.direction}
    if case.layout:
        attributes["layout"] = 1
    if case.clip is not None:
        attributes["clip"] = case.clip
    if case.linear:
        attributes["linear_before_reset"] = 1
    outputs = ["y", "hn", "cn"][: 3 if case.kind == "LSTM" else 2]
    node = onnx.helper.make_node(case.kind, inputs, outputs, name="layer", **attributes)
    floats = onnx.TensorProto.FLOAT
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "net",
        [info(name, floats, array.shape) for name, array in fed.items()],
        [info(name, floats, None) for name in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opsets = [onnx.helper.make_opsetid("", 21)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def compress(proto, fed, **arguments):
    model = ir.from_proto(proto)
    simplify(model)
    # ONNX Runtime cannot run layout 1.
    can_run = all("layout" not in node.attributes for node in model.graph)
    calibration = calibrate(model, [fed]) if can_run else Calibration("")
    return quantize(model, calibration, **arguments)


def by_the_rule(case, quantized, arrays, fed):
    """Returns what the oracle says, as ONNX orders it."""
    (node,) = quantized.graph
    records = [get_quantization(value) for value in node.inputs[1:3]]
    d, rows = case.directions, GATES[case.kind] * case.hidden
    given_first = {
        name: array.swapaxes(0, 1) if case.layout else array for name, array in fed.items()
    }
    y, h, c = run_recurrent(
        case.kind,
        given_first["x"],
        *((record.codes, record.scale) for record in records),
        arrays.get("b", np.zeros((d, 2 * rows), np.float32)).reshape(d, 2, rows),
        backwards=BACKWARDS[case.direction],
        state=given_first.get("h0"),
        cell=given_first.get("c0"),
        peepholes=arrays["p"].reshape(d, 3, case.hidden) if case.peepholes else None,
        clip=np.inf if case.clip is None else case.clip,
        linear=case.linear,
    )
    if case.layout:
        y, h, c = y.transpose(2, 0, 1, 3), h.swapaxes(0, 1), c.swapaxes(0, 1)
    return {"y": y, "hn": h, "cn": c}


def run_onnx(proto, fed):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [info.name for info in session.get_outputs()]
    return dict(zip(names, session.run(names, fed), strict=True))


def decibels(wanted, found):
    return 10 * np.log10(np.square(wanted).sum() / max(np.square(wanted - found).sum(), 1e-30))


@st.composite
def cases(draw):
    kind = draw(st.sampled_from(sorted(GATES)))
    return Case(
        kind=kind,
        direction=draw(st.sampled_from(sorted(BACKWARDS))),
        steps=draw(st.integers(1, 4)),
        batch=draw(st.integers(1, 3)),
        features=draw(st.integers(1, 9)),
        hidden=draw(st.integers(1, 9)),
        layout=draw(st.integers(0, 1)),
        clip=draw(st.sampled_from([None, 0.5, 2.0])),
        linear=kind == "GRU" and draw(st.booleans()),
        biased=draw(st.booleans()),
        peepholes=kind == "LSTM" and draw(st.booleans()),
        states=draw(st.booleans()),
        lengths=draw(st.booleans()),
        seed=draw(st.integers(0, 99)),
    )


@given(case=cases())
@settings(max_examples=40, deadline=None)
def test_the_lowered_layer_is_the_rule_to_the_byte(case):
    arrays, fed = make_arrays(case)
    quantized = compress(make_model(case, arrays, fed), fed)
    program = lower(quantized)
    kinds = {op.kind for op in program.ops}
    assert "DynamicFullyConnected" in kinds
    assert "FloatFullyConnected" not in kinds
    found = run_program(program, fed)
    expected = by_the_rule(case, quantized, arrays, fed)
    for name in program.outputs:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@pytest.mark.parametrize(
    "case",
    [
        Case(features=24, hidden=20, steps=5),
        Case(direction="bidirectional", peepholes=True, states=True, features=17, hidden=33),
        Case(kind="GRU", layout=1, linear=True, features=24, hidden=20),
        Case(kind="GRU", direction="reverse", clip=1.0, features=40, hidden=16),
        Case(kind="RNN", direction="bidirectional", features=12, hidden=24),
    ],
)
def test_sessions_give_the_judges_bytes_and_come_close_to_float(case, tmp_path):
    arrays, fed = make_arrays(case)
    proto = make_model(case, arrays, fed)
    quantized = compress(proto, fed)
    program = lower(quantized)
    recorded = run_program(program, fed)
    for isa in RUNNABLE:
        path = tmp_path / f"{isa}.plan"
        write_plan(program, path, isa=isa, target="host", source_digest="0" * 64)
        session = _native.Session(_native.Plan.open(path), 2)
        for _, tensor, values in session.trace(fed):
            np.testing.assert_array_equal(values, recorded[tensor], err_msg=f"{tensor} on {isa}")
    if not case.layout:  # ONNX Runtime has no other.
        for name, wanted in run_onnx(proto, fed).items():
            assert decibels(wanted, recorded[name]) > 30, name


def test_a_layer_that_is_to_stay_float_has_no_codes():
    case = Case(direction="bidirectional", clip=0.7, peepholes=True)
    arrays, fed = make_arrays(case)
    proto = make_model(case, arrays, fed)
    quantized = compress(proto, fed, keep_float={"layer": "the test wants it"})
    (left,) = get_report(quantized).float_nodes
    assert left.reason == "the test wants it"
    program = lower(quantized)
    assert "DynamicFullyConnected" not in {op.kind for op in program.ops}
    found = run_program(program, fed)
    for name, wanted in run_onnx(proto, fed).items():
        np.testing.assert_allclose(found[name], wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_a_plan_holds_the_weights_once_and_in_a_quarter(kind, tmp_path):
    case = Case(kind=kind, steps=6, batch=1, features=64, hidden=64)
    arrays, fed = make_arrays(case)
    sizes = {}
    for name, keep in (("int8", {}), ("float32", {"layer": "to compare"})):
        program = lower(compress(make_model(case, arrays, fed), fed, keep_float=keep))
        path = tmp_path / f"{name}.plan"
        summary = write_plan(program, path, isa="generic", target="host", source_digest="0" * 64)
        sizes[name] = summary.constants_size
    count = arrays["w"].size + arrays["r"].size
    assert count <= sizes["int8"] <= 1.4 * count
    assert 4 * count <= sizes["float32"] <= 4.4 * count


def test_the_report_names_a_layer_with_int8_weights():
    arrays, fed = make_arrays(Case())
    quantized = compress(make_model(Case(), arrays, fed), fed)
    (left,) = get_report(quantized).float_nodes
    assert (left.name, left.op) == ("layer", "LSTM")
    assert left.reason == "its weights are int8, its states stay float32"
    (node,) = quantized.graph
    for value in node.inputs[1:3]:
        record = get_quantization(value)
        assert isinstance(record, RowQuantization)
        assert record.codes.dtype == np.int8
        assert np.abs(record.codes).max(axis=2).min() >= 126


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_weights_that_products_of_16_bits_hold(kind):
    """ONNX Runtime has LSTM alone on codes."""
    case = Case(kind=kind, direction="bidirectional", features=24, hidden=20)
    arrays, fed = make_arrays(case)
    quantized = compress(
        make_model(case, arrays, fed), fed, method=RangeChoice("minmax", narrow_weights=True)
    )
    (node,) = quantized.graph
    codes = [get_quantization(value).codes for value in node.inputs[1:3]]
    pairs = [largest_pairs(rows.reshape(-1, rows.shape[2]).astype(float)).max() for rows in codes]
    narrowed = get_report(quantized).narrowed
    if kind == "LSTM":
        assert max(pairs) <= PAIR_LIMIT
        assert narrowed["layer"]
    else:
        assert max(pairs) > PAIR_LIMIT
        assert not narrowed


def test_sequences_of_other_lengths_are_refused():
    case = Case(lengths=True)
    arrays, fed = make_arrays(case)
    arrays["l"][0] -= 1
    quantized = compress(make_model(case, arrays, fed), fed)
    with pytest.raises(ModelError, match="lengths of its sequences"):
        lower(quantized)


def test_an_input_that_a_convolution_reads_too_keeps_its_channels():
    arrays, fed = make_arrays(Case(batch=5, features=5))
    proto = make_model(Case(batch=5, features=5), arrays, fed)
    kernel = np.ones((2, 5, 1), np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(kernel, "k"))
    proto.graph.node.append(onnx.helper.make_node("Conv", ["x", "k"], ["z"], name="conv"))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, None))
    program = lower(compress(onnx.shape_inference.infer_shapes(proto), fed))
    assert {"Conv", "DynamicFullyConnected"} <= {op.kind for op in program.ops}


STYLES = ["ort-x86", "ort-arm", "ort-x86-qlinear", "ort-uint16", "openvino", "tensorrt"]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "case",
    [
        Case(direction="bidirectional", peepholes=True, states=True, lengths=True, features=24),
        Case(kind="GRU", linear=True, clip=2.0, hidden=20),
        Case(layout=1),
    ],
)
def test_onnx_forms_hold_the_weights_as_codes(case, style, tmp_path):
    arrays, fed = make_arrays(case)
    proto = make_model(case, arrays, fed)
    quantized = compress(proto, fed)
    path = tmp_path / "net.onnx"
    if case.layout:
        # ONNX Runtime has no layout 1, whatever the weights are.
        with pytest.raises(ModelError, match=r"[Bb]atchwise"):
            write_onnx(quantized, path, style=style)
        return
    write_onnx(quantized, path, style=style)
    written = onnx.load(path)
    kinds = [node.op_type for node in written.graph.node]
    types = {tensor.name: tensor.data_type for tensor in written.graph.initializer}
    if style == "tensorrt":
        assert kinds == [case.kind]
    elif case.kind == "LSTM" and style.startswith("ort") and style != "ort-uint16":
        assert kinds == ["DynamicQuantizeLSTM"]
    else:
        assert sorted(kinds) == sorted(["Cast", "Cast", "Mul"] * 2 + [case.kind])
    if style != "tensorrt":
        stored = [name for name, kind in types.items() if kind == onnx.TensorProto.INT8]
        assert {"w:codes", "r:codes"} <= set(stored)
        assert not {"w", "r"} & set(types)
    for name, wanted in run_onnx(proto, fed).items():
        assert decibels(wanted, run_onnx(written, fed)[name]) > 28, name


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        Case(steps=1, batch=1, states=True, features=24, hidden=20),
        Case(kind="GRU", direction="bidirectional", linear=True, features=24, hidden=20),
        Case(kind="RNN", features=24, hidden=20),
    ],
)
def test_openvino_folds_the_weights(case, tmp_path):
    """Its plugin refuses a recurrent layer whose weights are not constants."""
    pytest.importorskip("openvino")
    arrays, fed = make_arrays(case)
    path = tmp_path / "net.onnx"
    write_onnx(compress(make_model(case, arrays, fed), fed), path, style="openvino")
    assert [node.op_type for node in report_fusion(path, "openvino").nodes] == [case.kind]


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_tflite_multiplies_the_codes_of_weights(kind, tmp_path):
    case = Case(kind=kind, steps=4, features=64, hidden=64)
    arrays, fed = make_arrays(case)
    proto = make_model(case, arrays, fed)
    summary = write_tflite(
        lower(compress(proto, fed), fuse=False), tmp_path / "net.tflite", weights=Weights.FLOAT16
    )
    assert summary.operators.count("FULLY_CONNECTED") == 1 + 4 * (2 if kind == "GRU" else 1)
    # One copy for all steps.
    assert summary.file_size < 1.4 * (arrays["w"].size + arrays["r"].size) + 20_000
    found = edgekit.load(tmp_path / "net.tflite").run(fed)
    for name, wanted in run_onnx(proto, fed).items():
        assert decibels(wanted, found[name]) > 30, name


def make_stateful(body, constants):
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> net (float[1, 6, 4] x, float[2, 1, 5] state) => '
        f"(float[1, 5, 1] y, float[2, 1, 5] next) {{ {body} }}"
    )
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()
    )
    for node in model.graph.node:
        node.name = node.output[0]
    return onnx.shape_inference.infer_shapes(model)


def test_a_state_stays_float_from_the_input_to_the_output():
    rng = np.random.default_rng(2)
    proto = make_stateful(
        """
        a = Conv (x, k) t = Transpose <perm = [2, 0, 1]> (a)
        h, c = Split <axis = 0, num_outputs = 2> (state)
        z, hn, cn = LSTM <hidden_size = 5> (t, w, r, , , h, c)
        next = Concat <axis = 0> (hn, cn)
        f = Transpose <perm = [1, 2, 0]> (hn) y = Conv (f, l)
        """,
        {
            "k": rng.normal(0, 0.4, (6, 6, 1)).astype(np.float32),
            "l": rng.normal(0, 0.4, (5, 5, 1)).astype(np.float32),
            "w": rng.normal(0, 0.4, (1, 20, 6)).astype(np.float32),
            "r": rng.normal(0, 0.4, (1, 20, 5)).astype(np.float32),
        },
    )
    fed = {
        "x": rng.normal(0, 1, (1, 6, 4)).astype(np.float32),
        "state": rng.normal(0, 1, (2, 1, 5)).astype(np.float32),
    }
    quantized = compress(proto, fed)
    report = get_report(quantized)
    carriers = {node.op for node in report.float_nodes if node.reason == "it carries a state"}
    assert carriers >= {"Slice", "Concat"}
    assert all(get_quantization(value) is None for value in quantized.graph.outputs[1:])
    names = {str(value.name): value for node in quantized.graph for value in node.outputs}
    # What the layer itself reads and gives is int8 as far as convolutions go.
    assert get_quantization(names["a"]) is not None
    assert get_quantization(quantized.graph.inputs[1]) is None
    program = lower(quantized)
    touched = {op.input for op in program.ops if op.kind == "Quantize"}
    assert "state" not in touched


def test_what_moves_codes_beside_a_recurrent_layer_moves_codes():
    rng = np.random.default_rng(2)
    proto = make_stateful(
        "a = Conv (state, k) h, c = Split <axis = 0, num_outputs = 2> (a) t = Transpose <perm = [2, 0, 1]> (x) "
        "z, hn, cn = LSTM <hidden_size = 5> (t, w, r, , , h, c) next = Concat <axis = 0> (hn, cn) "
        "y = Transpose <perm = [1, 2, 0]> (hn)",
        {
            "k": rng.normal(0, 0.4, (1, 1, 1)).astype(np.float32),
            "w": rng.normal(0, 0.4, (1, 20, 6)).astype(np.float32),
            "r": rng.normal(0, 0.4, (1, 20, 5)).astype(np.float32),
        },
    )
    fed = {
        "x": rng.normal(0, 1, (1, 6, 4)).astype(np.float32),
        "state": rng.normal(0, 1, (2, 1, 5)).astype(np.float32),
    }
    quantized = compress(proto, fed)
    slices = [node for node in quantized.graph if node.op_type in ("Slice", "Split")]
    assert slices
    assert all(get_quantization(node.outputs[0]) is not None for node in slices)
