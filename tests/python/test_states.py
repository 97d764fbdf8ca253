"""States: what one run gives is what the next one takes."""

import numpy as np
import onnx
import pytest

import edgekit
from edgekit import _native
from edgekit.converters.lower import lower
from edgekit.converters.quantization import keep_float
from edgekit.converters.read_onnx import read_onnx
from edgekit.converters.write_plan import write_plan
from edgekit.states import describe_states, parse_state
from edgekit.targets.errors import EdgekitError, ModelError, PlanError


@pytest.fixture
def program(tmp_path):
    """``y = x + state`` is the next state; ``twice = 2 y``."""
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> sums (float[1, 3] x, float[1, 3] state) => '
        "(float[1, 3] twice, float[1, 3] next) { next = Add (x, state) twice = Add (next, next) }"
    )
    path = tmp_path / "sums.onnx"
    onnx.save(model, path)
    graph = read_onnx(path)
    for node in graph.graph:
        keep_float(node)
    return lower(graph)


def write(program, path, metadata):
    isa = _native.best_isa()
    write_plan(program, path, isa=isa, target="host", source_digest="00", metadata=metadata)
    return path


@pytest.fixture
def session(program, tmp_path):
    metadata = describe_states(program, {"state": "next"})
    return edgekit.load(write(program, tmp_path / "sums.plan", metadata))


X = np.float32([[1, 2, 3]])


@pytest.mark.parametrize("name", ["shapes", "constants", "states"])
def test_what_is_no_dict_is_one_error(name, tmp_path):
    with pytest.raises(EdgekitError, match=f"{name} must be a dict by the names of inputs, not"):
        edgekit.deploy("net.onnx", output=tmp_path / "out", **{name: ["a"]})


def test_a_session_carries_its_state_until_it_is_reset(session):
    assert dict(session.states) == {"state": "next"}
    for times in (1, 2, 3):
        np.testing.assert_array_equal(session.run({"x": X})["next"], times * X)
    session.reset()
    np.testing.assert_array_equal(session.run(X)["twice"], 2 * X)


def test_a_state_that_is_given_takes_the_place_of_the_one_kept(session):
    session.run({"x": X})
    given = np.float32([[10, 20, 30]])
    np.testing.assert_array_equal(session.run({"x": X, "state": given})["next"], X + given)
    np.testing.assert_array_equal(session.run({"x": X})["next"], 2 * X + given)


def test_samples_of_a_batch_hand_on_their_states(session):
    rows = np.concatenate([X, X, X])
    np.testing.assert_array_equal(session.run({"x": rows})["next"], np.cumsum(rows, axis=0))


def test_traces_leave_the_state_as_it_is(session):
    session.run({"x": X})
    session.native.trace({"x": X})
    session.native.digests({"x": X})
    session.native.profile({"x": X})
    np.testing.assert_array_equal(session.run({"x": X})["next"], 2 * X)


def test_other_inputs_must_be_given(session):
    with pytest.raises(EdgekitError, match="x"):
        session.run({"state": X})
    with pytest.raises(EdgekitError, match="inputs are x"):
        session.run({"x": X, "other": X})


@pytest.mark.parametrize(
    ("states", "reason"),
    [
        ({"nothing": "next"}, "no input 'nothing'"),
        ({"state": "nothing"}, "no output 'nothing'"),
    ],
)
def test_what_cannot_be_a_state_is_named(program, states, reason):
    with pytest.raises(ModelError, match=reason):
        describe_states(program, states)


@pytest.mark.parametrize(
    "entry", [("state:state", "x"), ("state:", "next"), ("state:next", "next")]
)
def test_a_plan_that_joins_what_does_not_fit_is_refused(program, tmp_path, entry):
    path = write(program, tmp_path / "forged.plan", dict([entry]))
    with pytest.raises(PlanError, match="joins no output to an input like it"):
        edgekit.load(path)


def test_a_malformed_state_is_named():
    assert parse_state("h=hn") == ("h", "hn")
    with pytest.raises(ModelError, match="INPUT=OUTPUT"):
        parse_state("h")
