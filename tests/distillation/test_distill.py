"""What `distill` writes is what was trained, zeros and codes included, and a kill changes nothing of it."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

torch = pytest.importorskip("torch", reason="make test-torch has an environment with torch")

from networks_for_training import make_images, read, write_cnn  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

import edgekit  # noqa: E402
from edgekit import CalibrationError, EdgekitError, ModelError  # noqa: E402
from edgekit.cli import app  # noqa: E402
from edgekit.converters.passes.rewrite import add_initializer  # noqa: E402
from edgekit.converters.prune.pattern import parse_pattern  # noqa: E402
from edgekit.converters.prune.record import pruned_pattern  # noqa: E402
from edgekit.distillation import GraphNetwork, Settings, distill  # noqa: E402
from edgekit.distillation.adapters import Adapters  # noqa: E402
from edgekit.distillation.answers import Answers  # noqa: E402
from edgekit.distillation.batches import Batches  # noqa: E402
from edgekit.distillation.distill import distill as start  # noqa: E402
from edgekit.distillation.losses import compare_by  # noqa: E402
from edgekit.distillation.sparsity import (  # noqa: E402
    Growth,
    Zeros,
    choose_kept,
    read_growth,
    spread_density,
)

FAST = {
    "steps": 24,
    "batch": 8,
    "learning_rate": 5e-3,
    "held_out": 0.25,
    "measure_every": 6,
    "patience": 0,
    "masks": "grown",
}


@pytest.fixture
def model(tmp_path):
    return write_cnn(tmp_path / "net.onnx")


@pytest.fixture
def images():
    return make_images(64)


def answers(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def weights(path):
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def test_weights_go_there_and_back_without_loss(model):
    graph = read(model)
    before = {v.name: v.const_value.numpy().copy() for v in graph.graph.initializers.values()}
    GraphNetwork(graph).store()
    for value in graph.graph.initializers.values():
        np.testing.assert_array_equal(value.const_value.numpy(), before[value.name])


def test_pruned_floats_come_nearer_and_keep_their_zeros(model, images, tmp_path):
    found = start(
        model,
        calibration=images,
        output=tmp_path / "out.onnx",
        prune={"unstructured": 0.7},
        quantize="none",
        **{**FAST, "steps": 80, "learning_rate": 2e-2},
    )
    kept = weights(found.path)
    assert (kept["w3"] == 0).mean() == pytest.approx(0.7, abs=0.01)
    assert found.zeros["conv3"] == pytest.approx(0.7, abs=0.01)
    # The same zeros without training.
    crude = weights(model)
    crude["w3"] = np.where(kept["w3"] == 0, 0, crude["w3"])
    proto = onnx.load(model)
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(crude[tensor.name], tensor.name))
    onnx.save(proto, tmp_path / "crude.onnx")
    wanted, fresh = answers(model, make_images(64, 9)), make_images(64, 9)
    lost = np.square(answers(tmp_path / "crude.onnx", fresh) - wanted).sum()
    left = np.square(answers(found.path, fresh) - wanted).sum()
    assert left < 0.5 * lost
    nodes = {node.name: node for node in read(found.path).graph}
    assert str(pruned_pattern(nodes["conv3"])) == "unstructured"


@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_deploy_keeps_the_codes_that_were_trained(quantize, model, images, tmp_path):
    found = start(
        model,
        calibration=images,
        output=tmp_path / "out.onnx",
        prune={"unstructured": 0.5},
        quantize=quantize,
        **FAST,
    )
    wanted = answers(found.path, images[:16])
    deployed = edgekit.deploy(
        found.path, calibration=images[:8], output=tmp_path / "bundle", precision="int8"
    )
    session = deployed.load()
    given = np.concatenate([session.run({"image": image[None]})["logits"] for image in images[:16]])
    # Codes are whole steps of the output; a sum of two grids may be one apart from ONNX Runtime's.
    step = np.diff(np.unique(given)).min()
    assert np.abs(given - wanted).max() <= 1.01 * step
    assert np.mean(given == wanted) > 0.98


def test_a_pruned_student_keeps_its_zeros(model, images, tmp_path):
    proto = onnx.load(model)
    zeros = {}
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        if tensor.name in ("w2", "w3"):
            array[np.random.default_rng(0).random(array.shape) < 0.6] = 0
            zeros[tensor.name] = array == 0
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(proto, tmp_path / "student.onnx")
    for quantize in ("none", "int8"):
        found = start(
            model,
            calibration=images,
            output=tmp_path / f"{quantize}.onnx",
            student=tmp_path / "student.onnx",
            quantize=quantize,
            **FAST,
        )
        kept = weights(found.path)
        for name, mask in zeros.items():
            (key,) = [k for k in kept if k.startswith(name) and kept[k].shape == mask.shape]
            assert (kept[key][mask] == 0).all()
        assert found.training.loss_after < found.training.loss_before


def test_the_same_seed_gives_the_same_bytes(model, images, tmp_path):
    more = {**FAST, "prune": {"unstructured": 0.5}}
    for name in "ab":
        start(model, calibration=images, output=tmp_path / f"{name}.onnx", **more)
    first, second = ((tmp_path / f"{name}.onnx").read_bytes() for name in "ab")
    assert first == second
    start(model, calibration=images, output=tmp_path / "c.onnx", **more, seed=1)
    assert (tmp_path / "c.onnx").read_bytes() != first


def test_a_killed_run_goes_on_to_the_same_bytes(model, images, tmp_path):
    np.savez(tmp_path / "images.npz", image=images)
    program = textwrap.dedent(
        """
        import json, os, sys
        from edgekit.distillation import train
        from edgekit.distillation.distill import distill
        model, images, output, checkpoint, settings, fatal = sys.argv[1:]
        train._SAVE_EVERY = 0.0
        def tell(stage, done, total):
            if stage == train.STAGE and done == int(fatal):
                os._exit(9)
        distill(model, calibration=images, output=output, checkpoint=checkpoint or None,
                prune={"unstructured": 0.5}, lora=2, lora_from=64, progress=tell, **json.loads(settings))
        """
    )

    def run(output, checkpoint, fatal):
        arguments = [
            model,
            tmp_path / "images.npz",
            tmp_path / output,
            checkpoint,
            json.dumps(FAST),
            fatal,
        ]
        return subprocess.run([sys.executable, "-c", program, *map(str, arguments)]).returncode

    assert run("whole.onnx", "", -1) == 0
    state = tmp_path / "state.ckpt"
    assert run("cut.onnx", state, 5) == 9
    assert run("cut.onnx", state, 17) == 9
    assert not (tmp_path / "cut.onnx").exists()
    assert run("cut.onnx", state, -1) == 0
    assert (tmp_path / "cut.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()


def test_checkpoints_of_others_and_damaged_ones_are_refused(model, images, tmp_path):
    state = tmp_path / "state.ckpt"
    start(model, calibration=images, output=tmp_path / "a.onnx", checkpoint=state, **FAST)
    with pytest.raises(EdgekitError, match="another network, other samples or other settings"):
        start(
            model, calibration=images, output=tmp_path / "b.onnx", checkpoint=state, **FAST, seed=3
        )
    data = state.read_bytes()
    for broken in (b"", data[: len(data) // 2], b"x" * 100):
        state.write_bytes(broken)
        with pytest.raises(EdgekitError, match="no checkpoint"):
            start(model, calibration=images, output=tmp_path / "b.onnx", checkpoint=state, **FAST)
        assert state.read_bytes() == broken


def test_gradients_of_parts_add_up_to_those_of_the_whole(model, images, tmp_path):
    outputs = []
    for size in (8, 2):
        found = start(
            model,
            calibration=images,
            output=tmp_path / f"{size}.onnx",
            quantize="none",
            micro_batch=size,
            **{**FAST, "steps": 3, "features": 0, "logits": "kl"},
        )
        outputs.append(answers(found.path, images))
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-3 * np.abs(outputs[0]).max())


def test_bfloat16_and_learned_scales_train_too(model, images, tmp_path):
    for more in ({"precision": "bfloat16"}, {"scales": "learned"}, {"lora": 4, "lora_from": 64}):
        found = start(
            model,
            calibration=images,
            output=tmp_path / "out.onnx",
            prune={"4x8": 0.5},
            **{**FAST, **more, "steps": 60},
        )
        # Before, masks still grow.
        settled = [loss for step, loss in found.training.history if step > 30]
        assert np.isfinite(settled).all()
        assert settled[-1] < settled[0]
        assert found.training.loss_after == min(settled)


def test_adapters_move_no_held_weight(model):
    network = GraphNetwork(read(model))
    with torch.no_grad():
        network.weight("w4")[:, ::2] = 0
    zeros = Zeros(network)
    adapters = Adapters(network, zeros, Settings(lora=3, lora_from=64))
    for _, _, b in adapters.pairs():
        torch.nn.init.normal_(b)
    network.change = adapters.change
    x = {"image": torch.from_numpy(make_images(4))}
    with torch.no_grad():
        before = network(x)["logits"]
    adapters.merge(network)
    assert (network.weight("w4")[:, ::2] == 0).all()
    with torch.no_grad():
        torch.testing.assert_close(network(x)["logits"], before)


def test_what_training_makes_worse_is_not_taken(model, images, tmp_path):
    found = start(
        model,
        calibration=images,
        output=tmp_path / "out.onnx",
        **{**FAST, "learning_rate": 0.9, "steps": 12},
    )
    assert found.training.best_step == 0
    assert found.training.loss_after == found.training.loss_before


def test_an_early_end_takes_the_best(model, images, tmp_path):
    found = start(
        model,
        calibration=images,
        output=tmp_path / "out.onnx",
        quantize="none",
        prune={"unstructured": 0.5},
        **{**FAST, "steps": 400, "measure_every": 2, "patience": 2, "learning_rate": 0.5},
    )
    training = found.training
    assert training.steps < training.planned
    grown = max(read_growth({"unstructured": 0.5}).steps(400))
    settled = [loss for step, loss in training.history if step > grown]
    assert training.loss_after == min(settled)


@pytest.mark.parametrize(
    ("text", "share"),
    [("2:4", 0.5), ("1:4", 0.75), ("4x8", 0.5), ("4x32", 0.75), ("unstructured", 0.9)],
)
def test_patterns(text, share):
    pattern = parse_pattern(text)
    scores = np.random.default_rng(0).random((64, 48)) + 0.01
    kept = choose_kept(scores, pattern, 1 - share)
    assert kept.mean() == pytest.approx(1 - share, abs=0.03)
    if ":" in text:
        groups = kept.reshape(64, -1, 4).sum(axis=2)
        assert (groups == pattern.keep).all()
    elif "x" in text:
        tiles = kept.reshape(64 // pattern.rows, pattern.rows, -1, pattern.columns).sum(axis=(1, 3))
        assert set(np.unique(tiles)) <= {0, pattern.rows * pattern.columns}


def test_masks_grow_by_a_schedule():
    growth = Growth(parse_pattern("unstructured"), 0.8, until=0.5, times=10)
    steps = growth.steps(100)
    shares = [steps[step] for step in sorted(steps)]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(0.8)
    assert max(steps) < 50
    assert read_growth({"2:4": 0.5}).steps(100) == {0: 0.5}


@pytest.mark.parametrize("text", ["unstructured", "4x8"])
def test_zeros_are_spread_over_layers(text):
    random = np.random.default_rng(0)
    even, peaked = random.random((32, 64)) + 1, np.kron(random.random((8, 8)) ** 9, np.ones((4, 8)))
    pattern = parse_pattern(text)
    scores = [1e-3 * even, peaked, 1e3 * random.random((8, 32))]
    densities = spread_density(scores, pattern, 0.25)
    kept = [choose_kept(s, pattern, d).sum() for s, d in zip(scores, densities, strict=True)]
    assert sum(kept) == pytest.approx(0.25 * sum(s.size for s in scores), rel=0.03)
    # The size of a layer's scores counts nothing, but how alike they are.
    assert densities[0] > densities[1] > 0
    assert spread_density([s * 7 for s in scores], pattern, 0.25) == densities
    assert spread_density(scores, pattern, 1.0) == [1, 1, 1]


def test_a_teacher_is_asked_once_for_each_sample(model, images, monkeypatch):
    teacher = GraphNetwork(read(model))
    source = [{"image": image[None]} for image in images]
    batches = Batches(source, range(len(source)), 8, 0)
    wanted = answers(model, images)
    kept = Answers(teacher, ["logits"], True)
    kept.keep(batches)
    monkeypatch.setattr(teacher, "forward", None)
    found = kept.of([5, 9, 2], {})["logits"].numpy()
    np.testing.assert_allclose(found, wanted[[5, 9, 2]], atol=1e-4)
    monkeypatch.undo()
    monkeypatch.setattr("edgekit.distillation.answers._MOST_KEPT", 64 * 10 * 4 - 1)
    large = Answers(teacher, ["logits"], True)
    large.keep(batches)
    monkeypatch.setattr(teacher, "forward", None)
    with pytest.raises(TypeError):
        large.of([5], {"image": None})


def test_no_constant_is_written_that_nothing_reads(model, images, tmp_path):
    student = read(model)
    add_initializer(student.graph, "left_over", np.ones((4, 4), np.float32))
    for quantize in ("none", "int8", "int4"):
        found = start(
            model,
            calibration=images,
            output=tmp_path / f"{quantize}.onnx",
            student=student,
            quantize=quantize,
            prune={"unstructured": 0.5},
            **{**FAST, "steps": 4},
        )
        graph = onnx.load(found.path).graph
        read_ones = {name for node in graph.node for name in node.input}
        assert {tensor.name for tensor in graph.initializer} <= read_ones


def test_what_is_compared(model):
    graph = read(model).graph
    compared = compare_by(graph, graph, Settings(features=2))
    assert compared.classes == ("logits",)
    assert compared.numbers == ("logits",)
    assert len(compared.features) == 2
    assert compare_by(graph, graph, Settings(logits="mse")).classes == ()
    named = compare_by(graph, graph, Settings(features=("p",)))
    assert named.features == ("p",)
    with pytest.raises(ModelError, match="feature 'nowhere'"):
        compare_by(graph, graph, Settings(features=("nowhere",)))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1"),
        ({"steps": 5, "epochs": 1}, "give one of steps, epochs and minutes"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number above 0"),
        ({"quantize": "int7"}, "quantize='int7' is not known"),
        ({"ranges": "widest"}, "ranges='widest' is not known"),
        ({"precision": "float8"}, "precision='float8' is not known"),
        ({"prune": {"3x": 0.5}}, "is no pattern of zeros"),
        ({"prune": {"4x32": 1.5}}, "share of zeros must be between 0 and 1"),
        ({"prune": {"2:4": 0.9}}, "makes 0.5 of the weights 0"),
        ({"prune": {"2:4": 0.5}, "layers": ["nobody"]}, "'nobody' is no dense layer"),
        ({"colour": 1}, "no argument 'colour'"),
        ({"output": "out.plan"}, "is an .onnx file"),
    ],
)
def test_wrong_arguments_are_told(arguments, reason, model, images, tmp_path):
    given = {"calibration": images, "output": tmp_path / "out.onnx", **arguments}
    with pytest.raises(EdgekitError, match=reason):
        start(model, **given)
    assert not (tmp_path / "out.onnx").exists()


def test_samples_and_students_that_do_not_fit(model, images, tmp_path):
    with pytest.raises(CalibrationError):
        start(model, calibration=images[:, :, :4], output=tmp_path / "o.onnx", **FAST)
    proto = onnx.load(model)
    proto.graph.output[0].name = "scores"
    proto.graph.node[-1].output[0] = "scores"
    onnx.save(proto, tmp_path / "other.onnx")
    with pytest.raises(ModelError, match="they must be the same"):
        start(
            model,
            calibration=images,
            output=tmp_path / "o.onnx",
            student=tmp_path / "other.onnx",
            **FAST,
        )


def test_on_the_command_line(model, images, tmp_path):
    np.savez(tmp_path / "images.npz", image=images)
    arguments = ["--calibration", str(tmp_path / "images.npz"), "-o", str(tmp_path / "out.onnx")]
    arguments += ["--prune", "4x8=0.5", "--no-spread", "--features", "2"]
    result = CliRunner().invoke(app, ["distill", str(model), *arguments, "--steps", "8", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["steps"] == 8
    assert Path(tmp_path / "out.onnx").is_file()
    assert distill is start
