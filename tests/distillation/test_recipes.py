"""How training gets its zeros, its rounding and its steps: solver, float phase, optimizer, codes as a student."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

torch = pytest.importorskip("torch", reason="make test-torch has an environment with torch")

from networks_for_training import make_images, read, write_cnn  # noqa: E402

from edgekit import EdgekitError  # noqa: E402
from edgekit.converters.prune.pattern import parse_pattern  # noqa: E402
from edgekit.converters.prune.record import pruned_pattern  # noqa: E402
from edgekit.data import read_samples  # noqa: E402
from edgekit.distillation import Settings  # noqa: E402
from edgekit.distillation.adam import Adam  # noqa: E402
from edgekit.distillation.distill import _make_quantized  # noqa: E402
from edgekit.distillation.distill import distill as start  # noqa: E402
from edgekit.distillation.rotation import Rotation  # noqa: E402
from edgekit.distillation.solver import takes_solver  # noqa: E402
from edgekit.distillation.sparsity import Growth  # noqa: E402
from edgekit.progress import ignore_progress  # noqa: E402
from edgekit.session import OnnxSession  # noqa: E402

FAST = {"steps": 12, "batch": 8, "learning_rate": 3e-3, "held_out": 0.25, "patience": 0}


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


def make_quantized(model, images):
    samples = read_samples(images, OnnxSession(model, 1).inputs, None)
    return _make_quantized(read(model), samples, "int8", {}, "minmax", Settings(), ignore_progress)


@pytest.mark.parametrize("text", ["unstructured", "4x8"])
def test_the_solver_makes_zeros_that_cost_less(text, model, images, tmp_path):
    lost = {}
    wanted, fresh = answers(model, make_images(64, 9)), make_images(64, 9)
    for masks in ("solver", "grown"):
        found = start(
            model,
            calibration=images,
            output=tmp_path / f"{masks}.onnx",
            prune={text: 0.7},
            quantize="none",
            masks=masks,
            **FAST,
        )
        assert (weights(found.path)["w3"] == 0).mean() == pytest.approx(0.7, abs=0.04)
        nodes = {node.name: node for node in read(found.path).graph}
        assert str(pruned_pattern(nodes["conv3"])) == text
        lost[masks] = np.square(answers(found.path, fresh) - wanted).sum()
    assert lost["solver"] < lost["grown"]


def test_a_run_with_the_solver_goes_on_to_the_same_bytes(model, images, tmp_path, monkeypatch):
    monkeypatch.setattr("edgekit.distillation.train._SAVE_EVERY", 0.0)
    asked = {"calibration": images[:24], "prune": {"unstructured": 0.6}, "masks": "solver", **FAST}
    whole = start(model, output=tmp_path / "whole.onnx", **asked).path.read_bytes()

    class KilledError(Exception):
        pass

    for fatal in (1, 9):

        def tell(stage, done, total, fatal=fatal):
            if stage == "distilling" and done == fatal:
                raise KilledError

        with pytest.raises(KilledError):
            start(
                model,
                output=tmp_path / "cut.onnx",
                checkpoint=tmp_path / "state",
                progress=tell,
                **asked,
            )
    found = start(model, output=tmp_path / "cut.onnx", checkpoint=tmp_path / "state", **asked)
    assert found.path.read_bytes() == whole


def test_which_masks_the_solver_makes(model):
    graph = read(model)
    dense = Growth(parse_pattern("unstructured"), 0.5)
    first = Growth(parse_pattern("unstructured"), 0.5, layers=("conv0",))
    assert takes_solver(graph, dense, "auto")
    assert not takes_solver(graph, dense, "grown")
    for node in graph.graph:
        if node.name == "conv3":
            node.op_type = "ConvTranspose"
    named = Growth(parse_pattern("unstructured"), 0.5, layers=("conv3",))
    assert takes_solver(graph, first, "auto")
    assert not takes_solver(graph, named, "auto")
    with pytest.raises(EdgekitError, match="masks='solver': node 'conv3' cannot be pruned so"):
        takes_solver(graph, named, "solver")


def test_without_rounding_numbers_are_floats_between_the_ends_of_codes(model, images):
    network = make_quantized(model, images)
    inputs = {"image": torch.from_numpy(images[:8])}
    with torch.no_grad():
        rounded = network(inputs)["logits"]
        network.rounding = False
        smooth = network(inputs, ("r0", "f"))
    wanted = torch.from_numpy(answers(model, images[:8]))
    power = wanted.pow(2).sum()
    assert (smooth["logits"] - wanted).pow(2).sum() < 0.1 * (rounded - wanted).pow(2).sum()
    assert (rounded - wanted).pow(2).sum() < 0.01 * power
    assert float(smooth["r0"].min()) >= 0
    loud = {"image": 100 * inputs["image"]}
    with torch.no_grad():
        most = network(loud, ("r0",))["r0"].max()
    assert float(most) < 100 * float(smooth["r0"].max())


def test_codes_are_a_student(model, images, tmp_path):
    first = start(
        model,
        calibration=images,
        output=tmp_path / "a.onnx",
        prune={"unstructured": 0.6},
        masks="grown",
        **FAST,
    )
    second = start(
        model,
        calibration=images,
        output=tmp_path / "b.onnx",
        student=first.path,
        **{**FAST, "learning_rate": 1e-9},
    )
    before, after = (
        [
            array
            for array in weights(found.path).values()
            if array.dtype == np.int8 and array.ndim > 1
        ]
        for found in (first, second)
    )
    assert len(before) == 5
    for codes, others in zip(before, after, strict=True):
        np.testing.assert_array_equal(codes, others)
    assert second.zeros["conv3"] == pytest.approx(first.zeros["conv3"])
    step = np.abs(answers(first.path, images) - answers(second.path, images)).max()
    assert step < 0.05 * np.abs(answers(model, images)).max()


def test_a_student_that_training_makes_worse_stays(model, images, tmp_path):
    found = start(
        model,
        calibration=images,
        output=tmp_path / "out.onnx",
        student=model,
        **{**FAST, "learning_rate": 0.9, "measure_every": 2},
    )
    assert found.training.best_step == 0
    assert found.training.loss_after == found.training.loss_before


def test_an_early_end_waits_for_rounding(model, images, tmp_path):
    found = start(
        model,
        calibration=images,
        output=tmp_path / "out.onnx",
        student=model,
        **{**FAST, "learning_rate": 0.9, "measure_every": 1, "patience": 2},
    )
    # Half of 12 steps are not rounded, and the first that is begins to count.
    assert found.training.steps >= 9


def test_rotations_are_undone_and_follow_the_gradients():
    random = torch.Generator().manual_seed(0)
    shape = torch.Size((12, 3, 2, 2))
    rotation = Rotation(shape)
    mixed = torch.randn(12, 12, generator=random) @ torch.diag(torch.logspace(0, 2, 12))
    for step in range(1, 200):
        noise = torch.randn(shape, generator=random)
        rotation.follow((mixed @ noise.reshape(12, -1)).reshape(shape), step)
    x = torch.randn(shape, generator=random)
    torch.testing.assert_close(rotation.leave(rotation.enter(x)), x, atol=1e-4, rtol=1e-4)
    turned = torch.stack(
        [
            rotation.enter(
                (mixed @ torch.randn(shape, generator=random).reshape(12, -1)).reshape(shape)
            ).reshape(12, -1)
            for _ in range(500)
        ]
    )
    covariance = torch.einsum("bik,bjk->ij", turned, turned)
    size = covariance.diagonal().sqrt()
    alike = covariance / size[:, None] / size[None, :] - torch.eye(12)
    assert float(alike.abs().max()) < 0.4
    other = Rotation(shape)
    other.restore(rotation.state())
    torch.testing.assert_close(other.enter(x), rotation.enter(x), atol=0, rtol=0)


def test_rotated_steps_need_fewer_of_them():
    random = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(24, 24, generator=random))[0]
    right = torch.linalg.qr(torch.randn(16, 16, generator=random))[0]
    weigh = torch.logspace(0, -2, 24)[:, None] * torch.logspace(0, -2, 16)[None]
    wanted = torch.randn(24, 16, generator=random)
    losses = []
    for rotates in (False, True):
        weight = torch.nn.Parameter(torch.zeros(24, 16))
        optimizer = Adam([(weight, 0.05)], rotates=rotates)
        for step in range(200):
            optimizer.forget_gradients()
            loss = (weigh * (left.T @ (weight - wanted) @ right)).pow(2).sum()
            loss.backward()
            optimizer.step(1 - step / 200)
        losses.append(loss.item())
    assert losses[1] < 0.3 * losses[0]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"masks": "drawn"}, "masks='drawn' is not known"),
        ({"optimizer": "sgd"}, "optimizer='sgd' is not known"),
        ({"features_until": 0.0}, "features_until must be a number above 0"),
        ({"round_from": 1.0}, "round_from must be at least 0 and below 1"),
    ],
)
def test_wrong_settings_are_told(arguments, reason):
    with pytest.raises(EdgekitError, match=reason):
        Settings(**arguments)
