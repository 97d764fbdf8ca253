"""`deploy` of a torch.nn.Module; `make test-torch` runs these where torch is installed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit import EdgekitError, ModelError
from edgekit.converters.read_model import read_model
from edgekit.session import OnnxSession

torch = pytest.importorskip("torch", reason="make test-torch has an environment with torch")
pytest.importorskip("onnxscript", reason="make test-torch has an environment with onnxscript")


class Cnn(torch.nn.Module):
    """Convolutions with batch norm, dropout, a residual sum and a classifier."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, stride=2, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU6()
        )
        self.block = torch.nn.Sequential(
            torch.nn.Conv2d(8, 8, 3, padding=1, groups=8), torch.nn.Hardswish()
        )
        self.drop = torch.nn.Dropout(0.5)
        self.head = torch.nn.Linear(8, 10)

    def forward(self, image):
        x = self.stem(image)
        x = (x + self.block(x)).mean((2, 3))
        return self.head(self.drop(x))


class Pair(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.weight = torch.nn.Linear(6, 4)

    def forward(self, left, right):
        return {"sum": self.weight(left) + right, "left": torch.tanh(left)}


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(0, 1, (16, 3, 16, 16)).astype(np.float32)


def test_a_module_is_deployed_in_both_forms(images, tmp_path):
    module = Cnn().train()
    module.stem[1].eval()
    deployed = edgekit.deploy(
        module,
        example_inputs=(torch.zeros(1, 3, 16, 16),),
        calibration=images,
        output=tmp_path / "out",
        format=["native", "onnx"],
    )
    assert module.training
    assert module.head.training
    assert not module.stem[1].training
    assert deployed.report.model == "Cnn"
    assert deployed.report.sizes[0].form == "float, PyTorch, as exported"
    assert deployed.report.snr_db > 20
    assert [(s.name, s.shape) for s in deployed.load().inputs] == [("image", (None, 3, 16, 16))]
    with torch.no_grad():
        wanted = module.eval()(torch.from_numpy(images)).numpy()
    (given,) = deployed.load().run({"image": images}).values()
    assert np.square(given - wanted).mean() < 0.01 * np.square(wanted).mean()


def test_the_float_network_answers_as_the_module_for_any_batch(images):
    module = Cnn()
    source = read_model(module, example_inputs=images[:1])
    session = OnnxSession(source.reference, 1)
    for count in (1, 3, 16):
        (given,) = session.run({"image": images[:count]}).values()
        with torch.no_grad():
            wanted = module.eval()(torch.from_numpy(images[:count])).numpy()
        np.testing.assert_allclose(given, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "examples",
    [
        (torch.ones(2, 6), torch.ones(2, 4)),
        {"right": torch.ones(1, 4), "left": torch.ones(1, 6)},
        [np.ones((5, 6), np.float32), torch.ones(5, 4)],
    ],
)
def test_inputs_have_the_names_of_the_parameters(examples):
    graph = read_model(Pair(), example_inputs=examples).graph.graph
    assert {value.name for value in graph.inputs} == {"left", "right"}
    assert all(not isinstance(value.shape[0], int) for value in graph.inputs)
    assert len(graph.outputs) == 2


def test_nothing_says_where_the_module_was_written():
    source = read_model(Cnn(), example_inputs=torch.zeros(1, 3, 16, 16))
    assert b"test_torch" not in source.reference.read_bytes()


class Fixed(torch.nn.Module):
    def forward(self, x):
        return x.reshape(4, -1) * 2


def test_a_fixed_batch_is_said():
    source = read_model(Fixed(), example_inputs=torch.ones(4, 3))
    assert list(source.graph.graph.inputs[0].shape) == [4, 3]
    assert source.notes == ("the batch is fixed at 4, as in example_inputs: Fixed allows no other",)


class Branching(torch.nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x - 1


class Random(torch.nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)


class Failing(torch.nn.Module):
    def forward(self, x):
        return x @ torch.ones(7, 7)


@pytest.mark.parametrize(
    ("module", "examples", "error", "words"),
    [
        (
            Branching(),
            torch.ones(2, 3),
            ModelError,
            "Branching: torch cannot trace it: .*data-dependent",
        ),
        (Random(), torch.ones(2, 3), ModelError, "does forward draw random numbers"),
        (
            Failing(),
            torch.ones(2, 3),
            EdgekitError,
            "Failing: forward fails on example_inputs: .*mat1",
        ),
        (Fixed(), None, EdgekitError, "give example_inputs="),
        (Fixed(), (), EdgekitError, "example_inputs is empty"),
        (Fixed(), (torch.ones(4, 3), 3), EdgekitError, r"forward takes 1 inputs \(x\), not 2"),
        (Fixed(), ("x",), EdgekitError, "example input 'x' is no tensor or array but str"),
    ],
)
def test_mistakes_are_named(module, examples, error, words):
    module.train()
    with pytest.raises(error, match=words) as caught:
        read_model(module, example_inputs=examples)
    assert "\n" not in str(caught.value)
    assert module.training


def test_the_example_runs(tmp_path):
    example = Path(__file__).parents[2] / "examples" / "deploy_torch.py"
    done = subprocess.run(
        [sys.executable, str(example)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Sequential on host" in done.stdout


def test_example_inputs_go_with_modules_alone(tmp_path):
    with pytest.raises(EdgekitError, match="example_inputs goes with a torch"):
        read_model(tmp_path / "model.onnx", example_inputs=torch.ones(1))
