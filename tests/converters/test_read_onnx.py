import contextlib
import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.converters.passes import simplify
from edgekit.converters.read_onnx import (
    CANONICAL_OPSET,
    bind_batch,
    get_source_digest,
    read_onnx,
)
from edgekit.targets.errors import ModelError


def f32(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def outputs(model_or_path, **inputs):
    source = str(model_or_path)
    if isinstance(model_or_path, ir.Model):
        source = ir.to_proto(model_or_path).SerializeToString()
    return ort.InferenceSession(source).run(None, inputs)


def net(opset, body, result="float[N, q] y", shape="N, 3, 8, 8"):
    return f"""<ir_version: 8, opset_import: ["": {opset}]>
    net (float[{shape}] x) => ({result}) {{ {body} }}"""


INT64 = "Constant <value = int64[{}] {{{}}}> ()"
CLIP_9 = "y = Clip <min = -0.5, max = 1.5> (x)"
CLIP_11 = "a = Constant <value = float {-0.5}> () b = Constant <value = float {1.5}> () y = Clip (x, a, b)"
PAD_9 = "y = Pad <pads = [0, 0, 1, 2, 0, 0, 1, 0]> (x)"
PAD_11 = f"p = {INT64.format(8, '0, 0, 1, 2, 0, 0, 1, 0')} y = Pad (x, p)"
SQUEEZE_9 = "m = ReduceMean <axes = [2, 3]> (x) y = Squeeze <axes = [2, 3]> (m)"
SQUEEZE_13 = f"m = ReduceMean <axes = [2, 3]> (x) a = {INT64.format(2, '2, 3')} y = Squeeze (m, a)"
SQUEEZE_18 = f"a = {INT64.format(2, '2, 3')} m = ReduceMean (x, a) y = Squeeze (m, a)"
SOFTMAX = "y = Softmax <axis = 1> (x)"
SLICE_9 = "y = Slice <starts = [1], ends = [7], axes = [2]> (x)"
UPSAMPLE_9 = "s = Constant <value = float[4] {1.0, 1.0, 2.0, 2.0}> () y = Upsample (x, s)"
RANK_4 = "float[N, p, q, r] y"


@pytest.mark.parametrize(
    ("opset", "body", "result"),
    [
        *((opset, CLIP_9, RANK_4) for opset in (6, 9, 10)),
        *((opset, CLIP_11, RANK_4) for opset in (11, 12, 13, 21, 26)),
        *((opset, PAD_9, RANK_4) for opset in (9, 10)),
        *((opset, PAD_11, RANK_4) for opset in (11, 13, 18, 19, 21, 25)),
        *((opset, SOFTMAX, RANK_4) for opset in (9, 11, 13, 22)),
        *((opset, SQUEEZE_9, "float[N, q] y") for opset in (9, 11)),
        *((opset, SQUEEZE_13, "float[N, q] y") for opset in (13, 17)),
        *((opset, SQUEEZE_18, "float[N, q] y") for opset in (18, 21, 24)),
        (9, SLICE_9, RANK_4),
        (9, UPSAMPLE_9, RANK_4),
        *((opset, "y = Dropout (x)", RANK_4) for opset in (9, 12, 13)),
    ],
)
def test_every_opset_becomes_the_canonical_one_and_computes_the_same(
    model_file, opset, body, result
):
    path = model_file(net(opset, body, result))
    model = read_onnx(path)
    x = f32(2, 3, 8, 8)
    np.testing.assert_array_equal(outputs(model, x=x)[0], outputs(path, x=x)[0])
    assert model.opset_imports[""] == CANONICAL_OPSET
    assert all(node.op_type != "Constant" for node in model.graph)
    assert model.graph.outputs[0].shape is not None


def test_nodes_without_a_name_are_named_after_their_output(model_file):
    model = read_onnx(model_file(net(13, "a = Relu (x) y = Sigmoid (a)", RANK_4)))
    assert [node.name for node in model.graph] == ["a", "y"]


def test_newest_opset_of_the_installed_onnx_is_read(model_file):
    model = read_onnx(model_file(net(onnx.defs.onnx_opset_version(), "y = Relu (x)", RANK_4)))
    assert model.opset_imports[""] == CANONICAL_OPSET


@pytest.mark.parametrize("opset", [5, onnx.defs.onnx_opset_version() + 1])
def test_opset_out_of_range_is_named(model_file, opset):
    with pytest.raises(ModelError, match=f"opset {opset} is not supported"):
        read_onnx(model_file(net(opset, "y = Relu (x)", RANK_4)))


@pytest.mark.parametrize(("opset", "converts"), [(13, 1), (14, 0), (20, 0), (22, 0), (26, 0)])
def test_what_did_not_change_needs_no_conversion_and_is_read_alike(
    model_file, monkeypatch, opset, converts
):
    calls = []
    convert = onnx.version_converter.convert_version
    monkeypatch.setattr(
        onnx.version_converter,
        "convert_version",
        lambda *given: calls.append(given) or convert(*given),
    )
    path = model_file(net(opset, "a = Relu (x) y = Add (a, x)", RANK_4))
    read = ir.to_proto(read_onnx(path)).SerializeToString(deterministic=True)
    assert len(calls) == converts
    monkeypatch.setattr("edgekit.converters.read_onnx._is_the_same_at", lambda *_: False)
    assert ir.to_proto(read_onnx(path)).SerializeToString(deterministic=True) == read
    assert len(calls) == converts + 1


def test_operator_that_the_version_converter_lacks_is_named(model_file, monkeypatch):
    def refuse(proto, version):
        raise RuntimeError("adapt_relu_13_14: Assertion failed: Unsupported conversion")

    monkeypatch.setattr(onnx.version_converter, "convert_version", refuse)
    with pytest.raises(ModelError, match=r"operator Relu \(node 'first'\).*opset 13 to 21"):
        read_onnx(model_file(net(13, "[first] y = Relu (x)", RANK_4)))


@pytest.mark.parametrize("ir_version", [3, 8])
def test_initializers_listed_as_inputs_and_weights_in_constants_become_initializers(
    tmp_path, ir_version
):
    proto = onnx.parser.parse_model(
        net(
            13,
            "c = Constant <value = float[3] {1.0, 2.0, 3.0}> () a = Mul (x, w) y = Add (a, c)",
            "float[N, 3] y",
            "N, 3",
        )
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(f32(3), "w"))
    proto.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, [3]))
    proto.ir_version = ir_version
    onnx.save(proto, tmp_path / "net.onnx")
    model = read_onnx(tmp_path / "net.onnx")
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert sorted(model.graph.initializers) == ["c", "w"]
    assert [node.op_type for node in model.graph] == ["Mul", "Add"]


def test_local_functions_are_inlined(tmp_path):
    text = """<ir_version: 8, opset_import: ["": 17, "own": 1]>
    net (float[N, 3] x) => (float[N, 3] y) { y = own.twice (x) }
    <domain: "own", opset_import: ["": 17]> twice (a) => (b) { b = Add (a, a) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "net.onnx")
    model = read_onnx(tmp_path / "net.onnx")
    assert not model.functions
    assert [node.op_type for node in model.graph] == ["Add"]


def test_batch_is_bound_later_and_shapes_follow(model_file):
    body = "f = Flatten (x) y = Relu (f)"
    model = read_onnx(model_file(net(17, body)))
    assert str(model.graph.inputs[0].shape[0]) == "N"
    bind_batch(model, 5)
    assert list(model.graph.outputs[0].shape) == [5, 192]
    assert all(value.shape.is_static() for node in model.graph for value in node.outputs)
    with pytest.raises(ModelError, match="fixed batch of 5"):
        bind_batch(model, 2)
    with pytest.raises(ModelError, match="at least 1"):
        bind_batch(model, 0)


def _external(tmp_path, location, **entries):
    """Writes a model whose weights are said to be at ``location``; the real data is beside it in data.bin."""
    weights = f32(4, 300)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "data.bin").write_bytes(weights.tobytes())
    (tmp_path / "outside.bin").write_bytes(weights.tobytes())
    proto = onnx.parser.parse_model(net(17, "y = MatMul (x, w)", "float[N, 300] y", "N, 4"))
    tensor = onnx.TensorProto(name="w", dims=[4, 300], data_type=1, data_location=1)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    proto.graph.initializer.append(tensor)
    (tmp_path / "model" / "net.onnx").write_bytes(proto.SerializeToString())
    return tmp_path / "model" / "net.onnx", weights


def test_external_data_beside_the_model_is_mapped_and_part_of_the_digest(tmp_path):
    path, weights = _external(tmp_path, "data.bin")
    model = read_onnx(path)
    tensor = model.graph.initializers["w"].const_value
    assert isinstance(tensor, ir.ExternalTensor)
    np.testing.assert_array_equal(tensor.numpy(), weights)
    parts = [hashlib.sha256(data).digest() for data in (path.read_bytes(), weights.tobytes())]
    assert get_source_digest(model) == hashlib.sha256(b"".join(parts)).hexdigest()


def test_digest_of_one_file_is_that_of_its_bytes(model_file):
    path = model_file(net(17, "y = Relu (x)", RANK_4))
    assert get_source_digest(read_onnx(path)) == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "location", ["../outside.bin", "sub/../../outside.bin", "link.bin", "absolute", ""]
)
def test_external_data_that_leaves_the_folder_is_refused(tmp_path, location):
    target = str(tmp_path / "outside.bin") if location == "absolute" else location
    path, _ = _external(tmp_path, target)
    (path.parent / "link.bin").symlink_to(tmp_path / "outside.bin")
    with pytest.raises(ModelError, match="leaves the model's folder"):
        read_onnx(path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"offset": "4"}, "truncated or belongs to another model"),
        ({"offset": "-4"}, "truncated or belongs to another model"),
        ({"length": "4799"}, "truncated or belongs to another model"),
        ({"offset": "x"}, "damaged offset"),
    ],
)
def test_external_data_that_does_not_fit_is_refused(tmp_path, entries, message):
    path, _ = _external(tmp_path, "data.bin", **entries)
    with pytest.raises(ModelError, match=message):
        read_onnx(path)


def test_external_data_that_is_a_hard_link_to_another_file_is_refused(tmp_path):
    path, _ = _external(tmp_path, "linked.bin")
    (path.parent / "linked.bin").hardlink_to(tmp_path / "outside.bin")
    with pytest.raises(ModelError, match=r"initializer 'w' cannot be read.*hard links"):
        read_onnx(path)


def test_missing_external_data_is_named(tmp_path):
    path, _ = _external(tmp_path, "other.bin")
    with pytest.raises(ModelError, match=r"'other.bin' of tensor 'w' is missing"):
        read_onnx(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_named(model_file, bad):
    weights = f32(4, 3)
    weights[2, 1] = bad
    with pytest.raises(ModelError, match="initializer 'w' has 1 of 12 values"):
        read_onnx(model_file(net(17, "y = MatMul (x, w)", "float[N, 3] y", "N, 4"), w=weights))


def test_missing_file_folder_and_what_is_not_onnx(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        read_onnx(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="is a folder"):
        read_onnx(tmp_path)
    for data, message in (
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"Hello, this is no model at all.", "not an ONNX model"),
        (bytes(64), "not an ONNX model"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(200)), "not an ONNX model"),
    ):
        (tmp_path / "bad.onnx").write_bytes(data)
        with pytest.raises(ModelError, match=message):
            read_onnx(tmp_path / "bad.onnx")


def test_graph_that_breaks_the_standard_is_refused(model_file):
    with pytest.raises(ModelError, match="not valid ONNX"):
        read_onnx(model_file(net(17, "y = Relu (x, x)", RANK_4)))
    with pytest.raises(ModelError, match="not valid ONNX"):
        read_onnx(model_file(net(17, "y = NoSuchOperator (x)", RANK_4)))


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory):
    proto = onnx.parser.parse_model(
        net(13, "a = MatMul (x, w) y = Relu (a)", "float[N, 3] y", "N, 4")
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(f32(4, 3), "w"))
    return proto.SerializeToString(), tmp_path_factory.mktemp("damaged") / "net.onnx"


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_truncated_or_flipped_file_is_read_or_refused_but_never_crashes(whole_file, data):
    whole, path = whole_file
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    if damaged and data.draw(st.booleans()):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bytes(damaged))
    with contextlib.suppress(ModelError):
        assert isinstance(read_onnx(path), ir.Model)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("[first] y = Bogus (x)", "node 'first': ONNX has no operator Bogus"),
        ("[first] y = Conv (x, w)", "op_type:Conv, node name: first"),
        ("[first] y = Add (x, z)", r"node 'first' \(Add\) reads 'z', which nothing gives"),
        ("[first] z = Relu (x)", "output 'y' is given by no node"),
        (
            "[first] y = Reshape (x, s)",
            "the shape of output 'y' depends on what the model is given",
        ),
    ],
)
def test_what_keeps_shapes_open_is_named(tmp_path, body, message):
    text = f"""<ir_version: 8, opset_import: ["": 17]>
    net (float[N, 3, 8, 8] x, int64[r] s) => (y) {{ {body} }}"""
    proto = onnx.parser.parse_model(text)
    proto.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", 1, None))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(f32(4, 3), "w"))
    onnx.save(proto, tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=message):
        read_onnx(tmp_path / "net.onnx")


def test_two_versions_of_the_standard_operators_are_refused(tmp_path):
    proto = onnx.parser.parse_model(net(13, "y = Relu (x)", RANK_4))
    proto.opset_import.append(onnx.helper.make_opsetid("ai.onnx", 17))
    onnx.save(proto, tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=r"versions \[13, 17\] at once"):
        read_onnx(tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_type": 0}, "initializer 'w' has no type"),
        ({"data_type": 99}, "99 is not a valid DataType"),
        ({"raw_data": b"", "int64_data": [1]}, "initializer 'w' cannot be read"),
        ({"location": "a\0b"}, "at no path that a file can have"),
        ({"location": "a" * 5000}, "at no path that a file can have"),
        ({"location": "w.bin", "data_type": 8}, "of type 8, which no data file can hold"),
        ({"location": "w.bin", "data_type": 99}, "of type 99, which no data file can hold"),
        ({"location": "w.bin", "dims": [-1]}, "negative dimensions"),
        ({"location": "w.bin", "dims": [2**33, 2**31]}, "needs 73786976294838206464 bytes"),
    ],
)
def test_hostile_tensors_are_named(tmp_path, change, message):
    (tmp_path / "w.bin").write_bytes(bytes(4))
    proto = onnx.parser.parse_model(net(17, "y = Mul (x, w)", RANK_4))
    tensor = onnx.numpy_helper.from_array(f32(1), "w")
    for field, value in change.items():
        if field == "location":
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=value)
        elif isinstance(value, list):
            del getattr(tensor, field)[:]
            getattr(tensor, field).extend(value)
        elif value == b"":
            tensor.ClearField(field)
        else:
            setattr(tensor, field, value)
    proto.graph.initializer.append(tensor)
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match=message):
        read_onnx(tmp_path / "net.onnx")


LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(LIGHT.glob("*.onnx")), ids=lambda path: path.stem)
def test_classic_nets_are_read_and_simplified(path):
    model = read_onnx(path)
    simplify(model)
    known = {
        "Conv",
        "Relu",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "Concat",
        "Add",
        "Reshape",
    }
    known |= {"Transpose", "Flatten", "Gemm", "Softmax", "LRN", "ConstantOfShape"}
    assert {node.op_type for node in model.graph} <= known
