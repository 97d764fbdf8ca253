"""Transformers from token ids: sizes that are left open, masks of places, embedding tables, in each form."""

import subprocess

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import edgekit
from edgekit.bundles.verify import verify

WORDS, LENGTH, WIDTH = 2048, 12, 32
# As torch.onnx exports a BERT: places from the length of the sentence, a mask by index, then by addition.
BODY = """
    size = Shape (input_ids) count = Gather (size, zero) length = Gather (size, one)
    places = Range (zero, length, one) place = Gather (positions, places)
    word = Gather (table, input_ids) sum = Add (word, place)
    x = LayerNormalization <axis = -1> (sum, scale, shift)
    rows = Range (zero, count, one) row = Unsqueeze (rows, last) wide = Expand (row, size)
    all = Expand (places, size) left = Unsqueeze (wide, end) right = Unsqueeze (all, end)
    at = Concat <axis = -1> (left, right) taken = Cast <to = 9> (attention_mask)
    there = GatherND (taken, at) seen = Unsqueeze (there, last) bias = Where (seen, none, least)
    query = MatMul (x, q) key = MatMul (x, k) turned = Transpose <perm = [0, 2, 1]> (key)
    scores = MatMul (query, turned) scaled = Mul (scores, factor) masked = Add (scaled, bias)
    shares = Softmax <axis = -1> (masked) mixed = MatMul (shares, x) dense = MatMul (mixed, w)
    z = Add (dense, x) numbers = Cast <to = 1> (attention_mask) weight = Unsqueeze (numbers, end)
    kept = Mul (z, weight) total = ReduceSum <keepdims = 0> (kept, last)
    many = ReduceSum <keepdims = 0> (weight, last) sentence_embedding = Div (total, many)
"""


def write_reader(path, sizes=("N", "S"), sharpness=1.0):
    """Writes a reader of sentences, one layer of attention over 2048 words; the sharper, the fewer it looks at."""
    random = np.random.default_rng(11)
    text = ", ".join(map(str, sizes))
    proto = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 18]> reader (int64[{text}] input_ids, int64[{text}] attention_mask) => '
        f"(float[{sizes[0]}, {WIDTH}] sentence_embedding) {{ {BODY} }}"
    )
    constants = {
        "table": random.normal(size=(WORDS, WIDTH)) * np.exp(random.normal(size=(WORDS, 1))),
        "positions": random.normal(size=(64, WIDTH)) * 0.2,
        "scale": np.ones(WIDTH),
        "shift": np.zeros(WIDTH),
        "none": np.array(0.0),
        "least": np.array(np.finfo(np.float32).min),
        "factor": np.array(sharpness * WIDTH**-0.5),
        **{name: random.normal(size=(WIDTH, WIDTH)) * WIDTH**-0.5 for name in "qkw"},
    }
    arrays = {name: array.astype(np.float32) for name, array in constants.items()}
    arrays |= {"zero": np.array(0), "one": np.array(1), "last": np.array([1]), "end": np.array([2])}
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    onnx.checker.check_model(proto)
    onnx.save(proto, path)
    return path


def make_sentences(count, seed=5):
    """Returns samples of 3 to 12 words, the rest of the places empty."""
    random = np.random.default_rng(seed)
    samples = []
    for _ in range(count):
        words = random.integers(3, LENGTH + 1)
        mask = (np.arange(LENGTH) < words).astype(np.int64)
        ids = random.integers(1, WORDS, LENGTH) * mask
        samples.append({"input_ids": ids[None], "attention_mask": mask[None]})
    return samples


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return write_reader(tmp_path_factory.mktemp("reader") / "reader.onnx")


@pytest.fixture(scope="module")
def deployed(reader, tmp_path_factory):
    return edgekit.deploy(
        reader,
        calibration=make_sentences(16),
        format="native",
        output=tmp_path_factory.mktemp("deployed") / "host",
    )


def noise_db(session, reference, samples):
    wanted = [reference.run(sample)["sentence_embedding"] for sample in samples]
    found = [session.run(sample)["sentence_embedding"] for sample in samples]
    error = sum(np.square(a - b).sum() for a, b in zip(wanted, found, strict=True))
    return 10 * np.log10(sum(np.square(a).sum() for a in wanted) / error)


@pytest.mark.slow
def test_defaults_keep_the_answers_and_a_quarter_of_the_table(reader, deployed):
    others = make_sentences(16, seed=6)
    assert noise_db(deployed.load(), edgekit.load(reader), others) > 20
    assert deployed.plan.stat().st_size < reader.stat().st_size / 2.5


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_other_forms_take_ids_too(reader, tmp_path, form):
    if form == "tflite":
        pytest.importorskip("ai_edge_litert")
    made = edgekit.deploy(
        reader, calibration=make_sentences(16), format=form, output=tmp_path / "out"
    )
    others = make_sentences(16, seed=6)
    assert noise_db(made.load(), edgekit.load(reader), others) > 20
    size = next(size.bytes for size in made.report.sizes if size.form.startswith("int8"))
    assert size < reader.stat().st_size / 2.5


@pytest.mark.slow
def test_an_open_length_keeps_no_layer_from_float(tmp_path):
    # Attention so sharp that int8 alone leaves less than 20 dB.
    sharp = write_reader(tmp_path / "sharp.onnx", sharpness=4.0)
    made = edgekit.deploy(
        sharp, calibration=make_sentences(32), format="onnx", output=tmp_path / "out"
    )
    assert noise_db(made.load(), edgekit.load(sharp), make_sentences(16, seed=6)) > 20
    (kept,) = {tuple(size.shape) for size in made.load().inputs}
    assert kept == (None, None)


def test_int4_weights_are_a_choice(reader, tmp_path):
    made = edgekit.deploy(
        reader,
        calibration=make_sentences(8),
        format="onnx",
        onnx_style="ort-int4",
        shapes={"input_ids": (None, LENGTH), "attention_mask": (None, LENGTH)},
        output=tmp_path / "out",
    )
    report = made.report
    assert [size.form for size in report.sizes] == ["float, ONNX", "int4 weights, ONNX"]
    assert [latency.form for latency in report.latencies][1:] == ["int4 weights, ONNX Runtime"]
    assert report.ranges == ""
    # q, k and w; the products of two activations stay as they are, and are named.
    assert report.fusion.fused["MatMul"] + report.fusion.fused.get("Gemm", 0) == 3
    assert all("(MatMul)" in line for line in report.fusion.left_float)
    assert len(report.fusion.left_float) == 2
    model = onnx.load(made.onnx)
    weights = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT4]
    assert len(weights) == 3
    others = make_sentences(16, seed=6)
    assert 8 < noise_db(made.load(), edgekit.load(reader), others) < 30


@pytest.mark.parametrize(
    ("style", "words"), [("ort-uint16", "16x8"), ("tensorrt-float", "float32")]
)
def test_the_report_names_each_style_s_arithmetic(reader, tmp_path, style, words):
    made = edgekit.deploy(
        reader,
        calibration=make_sentences(4),
        format="onnx",
        onnx_style=style,
        ranges="minmax",
        precision="int8",
        output=tmp_path / "out",
    )
    assert made.report.sizes[1].form == f"{words}, ONNX"
    assert made.report.to_dict()["onnx_arithmetic"] == words


def test_empty_places_do_not_matter(deployed):
    session = deployed.load()
    (sample,) = make_sentences(1, seed=8)
    other = {**sample, "input_ids": np.where(sample["attention_mask"], sample["input_ids"], 77)}
    assert not sample["attention_mask"].all()
    np.testing.assert_array_equal(
        session.run(sample)["sentence_embedding"], session.run(other)["sentence_embedding"]
    )


def test_the_bundle_verifies(deployed):
    assert verify(deployed.path).ok


def run_board(deployed, folder, arrays):
    """Runs the bundle's own runner with arrays as .npy files."""
    runner = deployed.path / "edgekit-run"
    if not runner.is_file():
        pytest.skip("the bundle has no runner for this machine")
    arguments = []
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
        arguments += ["--input", f"{name}={folder / name}.npy"]
    command = [runner, deployed.plan, *arguments, "--output-dir", folder / "out"]
    (folder / "out").mkdir()
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_runner_takes_ids(deployed, tmp_path):
    (sample,) = make_sentences(1, seed=9)
    done = run_board(deployed, tmp_path, sample)
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "out").iterdir()
    wanted = deployed.load().run(sample)["sentence_embedding"]
    np.testing.assert_array_equal(np.load(file), wanted)


def test_the_runner_names_ids_of_another_type(deployed, tmp_path):
    (sample,) = make_sentences(1, seed=9)
    small = {name: array.astype(np.int32) for name, array in sample.items()}
    done = run_board(deployed, tmp_path, small)
    assert done.returncode == 4
    assert "'input_ids' is int32, the plan takes int64" in done.stderr


def test_sizes_that_the_samples_do_not_have_are_refused(reader, tmp_path):
    with pytest.raises(edgekit.EdgekitError, match="input_ids"):
        edgekit.deploy(
            reader,
            calibration=make_sentences(2),
            shapes={"input_ids": (1, 9), "attention_mask": (1, 9)},
            format="native",
            output=tmp_path / "out",
        )
