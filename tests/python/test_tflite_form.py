"""The TFLite form through `deploy`, `load`, `verify`, `inspect` and the command line, and what is refused."""

import importlib.util
import json
import struct
import subprocess
import sys
import zipfile

import numpy as np
import onnx
import pytest
from PIL import Image

import edgekit
from edgekit import EdgekitError, ModelError, Preprocessing
from edgekit.bundles.bundle import is_replaceable, read_bundle
from edgekit.bundles.verify import verify
from edgekit.deployed import FLOAT_FORM, NATIVE_FORM, ONNX_FORM
from edgekit.inspection import inspect
from edgekit.interpreter import find_interpreter, open_interpreter, read_facts
from edgekit.session import TfliteSession, load
from edgekit.targets.errors import ToolError


@pytest.fixture(scope="module")
def three_forms(cnn, images, tmp_path_factory):
    return edgekit.deploy(
        cnn,
        calibration=images,
        format=("native", "onnx", "tflite"),
        precision="int8",
        ranges="minmax",
        output=tmp_path_factory.mktemp("forms") / "host",
    )


@pytest.fixture(scope="module")
def tflite_alone(cnn, images, tmp_path_factory):
    return edgekit.deploy(
        cnn,
        calibration=images,
        format="tflite",
        ranges="minmax",
        output=tmp_path_factory.mktemp("alone") / "host",
    )


def test_three_forms_give_the_same_bytes(three_forms, images):
    files = (three_forms.plan, three_forms.onnx, three_forms.tflite)
    native, onnx, tflite = (load(file).run(images)["logits"].tobytes() for file in files)
    assert native == tflite
    assert native == onnx


def test_a_bundle_lists_the_form(three_forms):
    assert "model.tflite" in read_bundle(three_forms.path).files
    assert verify(three_forms.path).ok


def test_the_report_names_operators_transposes_and_what_xnnpack_takes(three_forms):
    tflite = three_forms.report.tflite
    assert tflite.transposes == 0
    assert tflite.operators["CONV_2D"] == 2
    assert tflite.delegated == sum(tflite.operators.values())
    assert tflite.left == {}
    assert "transposes, TFLite" in str(three_forms.report)
    forms = [latency.form for latency in three_forms.report.latencies]
    assert forms == [FLOAT_FORM, ONNX_FORM, "int8, LiteRT", NATIVE_FORM]


def test_a_session_takes_the_source_model_s_order_and_any_number_of_samples(three_forms, images):
    session = load(three_forms.tflite)
    assert isinstance(session, TfliteSession)
    assert session.inputs[0].shape == (None, 3, 16, 16)
    together = session.run(images[:5])["logits"]
    apart = [session.run(images[i : i + 1])["logits"] for i in range(5)]
    assert np.array_equal(together, np.concatenate(apart))


def test_a_larger_batch_repeats_what_is_missing(cnn, images, tflite_alone, tmp_path):
    four = edgekit.deploy(
        cnn,
        calibration=images,
        format="tflite",
        ranges="minmax",
        batch=4,
        output=tmp_path / "four",
    )
    single = tflite_alone.load()
    for count in (1, 4, 6, 9):
        given = four.load().run(images[:count])["logits"]
        assert np.array_equal(given, single.run(images[:count])["logits"])


def test_the_form_alone_is_checked_as_far_as_it_can_be(tflite_alone):
    found = verify(tflite_alone.path)
    assert found.ok
    assert "not checked" in str(found)
    assert inspect(tflite_alone.path)["kind"] == "TensorFlow Lite model"
    assert is_replaceable(tflite_alone.path)
    assert tflite_alone.plan is None
    assert tflite_alone.report.isa == "tflite"


def test_a_file_of_others_is_not_replaced(tflite_alone, tmp_path):
    data = bytearray(tflite_alone.tflite.read_bytes())
    place = data.index(b"\x07\x00\x00\x00edgekit\x00")
    data[place + 4] = ord("X")
    (tmp_path / "model.tflite").write_bytes(data)
    assert read_facts(tmp_path / "model.tflite") == {}
    assert not is_replaceable(tmp_path)


@pytest.mark.parametrize("size", [0, 3, 8, 200, 2000])
def test_a_cut_file_is_one_error(tflite_alone, tmp_path, size):
    path = tmp_path / "cut.tflite"
    path.write_bytes(tflite_alone.tflite.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"cut\.tflite"):
        load(path)


def test_inspect_says_that_a_file_is_none_or_half_of_one(tflite_alone, tmp_path):
    path = tmp_path / "net.tflite"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(ModelError, match=r"net\.tflite: not a TensorFlow Lite model"):
        inspect(path)
    path.write_bytes(tflite_alone.tflite.read_bytes()[:2000])
    with pytest.raises(ModelError, match=r"net\.tflite: (damaged or truncated|the interpreter)"):
        inspect(path)


def test_damaged_metadata_is_one_error(tflite_alone, tmp_path):
    path = tmp_path / "damaged.tflite"
    path.write_bytes(
        tflite_alone.tflite.read_bytes().replace(b'{"channels_last"', b'["channels_last"')
    )
    with pytest.raises(ModelError, match=r"damaged\.tflite: its metadata"):
        load(path)


@pytest.mark.parametrize("data", [b"", b"abc", b"\x00" * 40, b"\xff" * 40])
def test_no_file_is_replaced_that_is_none_of_ours(tmp_path, data):
    (tmp_path / "model.tflite").write_bytes(data)
    assert not is_replaceable(tmp_path)


@pytest.mark.parametrize("form", ["onnx", "tflite"])
@pytest.mark.parametrize("shape", [(1, 3, 5, 5), (1, 16, 16, 3), (3, 16), ()])
def test_a_wrong_shape_is_one_error_in_the_source_model_s_order(three_forms, form, shape):
    message = rf"model\.{form}: input 'image' takes shape \[any, 3, 16, 16\], not \[[0-9, ]*\]$"
    with pytest.raises(EdgekitError, match=message):
        load(getattr(three_forms, form)).run(np.zeros(shape, np.float32))


def test_the_interpreter_s_greeting_is_kept_back_and_an_error_is_not(tflite_alone):
    """In a process of its own: the line comes once in one."""
    program = f"""
import os, edgekit
edgekit.load({str(tflite_alone.tflite)!r})
os.write(2, b"whole\\n")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stderr == b"whole\n"


def test_ranges_are_not_named_where_none_are_chosen(cnn, images, tmp_path):
    given = {"calibration": images, "format": "tflite", "output": tmp_path / "out"}
    report = edgekit.deploy(cnn, quantize="float32", **given).report
    assert report.ranges == ""
    assert "no ranges are chosen" in str(report)


def _install(monkeypatch, *names):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in names or None)


def test_without_an_interpreter_the_extra_is_named(tflite_alone, monkeypatch):
    _install(monkeypatch)
    with pytest.raises(ToolError, match=r"edgekit\[tflite\]"):
        load(tflite_alone.tflite)


def test_tflite_runtime_beside_numpy_2_is_refused_up_front(tflite_alone, monkeypatch):
    _install(monkeypatch, "tflite_runtime")
    monkeypatch.setattr(np, "__version__", "2.1.0")
    with pytest.raises(ToolError, match=r"numpy 2\.1\.0.*tflite-legacy"):
        open_interpreter(tflite_alone.tflite, 1)


def test_tflite_runtime_beside_numpy_1_is_taken(monkeypatch):
    _install(monkeypatch, "tflite_runtime")
    monkeypatch.setattr(np, "__version__", "1.26.4")
    assert find_interpreter() == "tflite_runtime"


def test_litert_comes_first(monkeypatch):
    _install(monkeypatch, "tflite_runtime", "ai_edge_litert")
    assert find_interpreter() == "ai_edge_litert"


@pytest.mark.parametrize(
    ("quantize", "least_db"),
    [("float32", 100.0), ("float16", 50.0), ("dynamic", 25.0), ("16x8", 40.0)],
)
def test_other_arithmetics(cnn, images, tmp_path, quantize, least_db):
    deployed = edgekit.deploy(
        cnn,
        calibration=images,
        format="tflite",
        quantize=quantize,
        output=tmp_path / "float",
    )
    assert deployed.report.snr_db > least_db
    assert deployed.report.tflite.arithmetic == quantize
    assert inspect(deployed.path)["kind"] == "TensorFlow Lite model"
    assert deployed.report.tflite.transposes == 0
    assert deployed.report.sizes[1].form == f"{quantize}, TFLite"


@pytest.mark.parametrize(
    "function",
    [
        "y = Pow (x, two)",
        # int8 saturates at the bound, and the table is a leaky rectifier's as well.
        "a = LeakyRelu <alpha = 0.2> (x) y = Max (a, bound)",
        "y = LeakyRelu <alpha = 0.2> (x)",
        "a = Add (x, two) b = Sqrt (a) y = Mul (b, x)",
        "y = HardSigmoid (x)",
        "y = Gelu (x)",
        "a = Abs (x) y = Log (a)",
    ],
)
def test_functions_are_exact_between_codes_of_16_bits(tmp_path, function):
    model = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : 20]>
        net (float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y)
        <float two = {{2.0}}, float bound = {{-0.4}}> {{ {function} }}"""
    )
    onnx.save(model, tmp_path / "function.onnx")
    samples = np.random.default_rng(0).uniform(-1.9, 6.0, (4, 1, 4, 8, 8)).astype(np.float32)
    deployed = edgekit.deploy(
        tmp_path / "function.onnx",
        calibration=[{"x": sample} for sample in samples],
        format="tflite",
        quantize="16x8",
        ranges="minmax",
        output=tmp_path / "wide",
    )
    # Two roundings to 15 bits; int8 has less than 50.
    assert deployed.report.snr_db > 70


def test_float_arithmetics_are_for_tflite_alone(cnn, images, tmp_path):
    with pytest.raises(EdgekitError, match="quantize='float16' is for format='tflite'"):
        edgekit.deploy(cnn, calibration=images, quantize="float16", output=tmp_path / "no")


def test_task_tools_find_labels_and_normalization(cnn, images, tmp_path):
    labels = [f"class {i}" for i in range(10)]
    (tmp_path / "labels").write_text("\n".join(labels))
    (tmp_path / "pictures").mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number}.png")
    deployed = edgekit.deploy(
        cnn,
        calibration=tmp_path / "pictures",
        preprocessing=Preprocessing(size=(16, 16), mean=127.0, scale=1 / 128),
        format="tflite",
        ranges="minmax",
        labels=tmp_path / "labels",
        output=tmp_path / "labelled",
    )
    assert deployed.load().run(images[:1])["logits"].shape == (1, 10)
    with zipfile.ZipFile(deployed.tflite) as archive:
        assert archive.read("labels.txt").decode().splitlines() == labels
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(deployed.tflite.read_bytes()))
    (entry,) = (m for m in model.metadata if m.name == b"TFLITE_METADATA")
    block = bytes(model.buffers[entry.buffer].data)
    assert block[4:8] == b"M001"
    assert b"labels.txt" in block
    assert struct.pack("<f", 127.0) in block
    assert struct.pack("<f", 128.0) in block


@pytest.mark.parametrize("labels", ["nowhere.txt", ["a", ""], ["a", 3]])
def test_labels_that_are_none_are_one_error(cnn, images, tmp_path, labels):
    with pytest.raises(EdgekitError, match="labels"):
        edgekit.deploy(
            cnn, calibration=images, format="tflite", labels=labels, output=tmp_path / "no"
        )


@pytest.mark.parametrize("count", [9, 11])
def test_labels_that_do_not_fit_the_first_output_are_refused(cnn, images, tmp_path, count):
    labels = [f"class {i}" for i in range(count)]
    with pytest.raises(EdgekitError, match=rf"{count} names, .* output 'logits' \(\w+, 10\)"):
        edgekit.deploy(
            cnn, calibration=images, format="tflite", labels=labels, output=tmp_path / "no"
        )
    assert not (tmp_path / "no").exists()


def test_an_empty_file_of_labels_is_refused(cnn, images, tmp_path):
    (tmp_path / "labels.txt").touch()
    with pytest.raises(EdgekitError, match=r"labels\.txt: .* empty"):
        edgekit.deploy(
            cnn,
            calibration=images,
            format="tflite",
            labels=tmp_path / "labels.txt",
            output=tmp_path / "no",
        )


@pytest.mark.slow
def test_the_command_line_deploys_and_runs_the_form(cnn, images, tmp_path):
    np.savez(tmp_path / "samples.npz", image=images)
    np.save(tmp_path / "image.npy", images[:1])
    (tmp_path / "labels.txt").write_text("".join(f"class {i}\n" for i in range(10)))

    def command(*words: str) -> str:
        line = [sys.executable, "-m", "edgekit", *words]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    options = ["--ranges", "minmax", "--format", "tflite", "--labels", "labels.txt"]
    out = command("deploy", str(cnn), "--calibration", "samples.npz", *options)
    assert "transposes, TFLite" in out
    assert "in XNNPACK, TFLite" in out
    found = json.loads(command("run", "dist", "--input", "image.npy", "--json"))
    wanted = load(tmp_path / "dist").run(images[:1])["logits"]
    assert next(iter(found["logits"]["largest"])) == str(wanted.argmax())


def test_without_the_schema_the_extra_is_named():
    code = "import sys; sys.modules['ai_edge_litert'] = None; import edgekit.converters.tflite"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ToolError: the TFLite form needs ai-edge-litert" in done.stderr
    assert "pip install 'edgekit[tflite]'" in done.stderr
