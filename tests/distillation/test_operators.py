"""The graph in torch answers as ONNX's own cases say, operator by operator, and as ONNX Runtime on whole networks."""

import warnings
from collections import Counter

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from onnx import helper

torch = pytest.importorskip("torch", reason="make test-torch has an environment with torch")

from cases import load_cases  # noqa: E402

from edgekit.converters.read_onnx import read_onnx  # noqa: E402
from edgekit.distillation import GraphNetwork  # noqa: E402
from edgekit.distillation.operators import OPERATORS  # noqa: E402
from edgekit.targets.errors import EdgekitError, ModelError  # noqa: E402

# What a reader turns into others, what has no gradient and no use in a trained network, or draws random numbers.
WITHOUT_CASES = {"GatherND", "Size", "Xor"}
# Those whose cases are newer than the opset that is read, or ask for outputs that are not computed.
OWN_CASES = {
    "Einsum": (
        "float[2, 3, 4] a, float[2, 4, 5] b",
        "float[2, 3, 5] y",
        'y = Einsum <equation = "bij,bjk->bik"> (a, b)',
    ),
    "GlobalMaxPool": ("float[2, 3, 4, 5] a", "float[2, 3, 1, 1] y", "y = GlobalMaxPool (a)"),
    "LayerNormalization": (
        "float[2, 3, 4] a, float[4] b, float[4] c",
        "float[2, 3, 4] y",
        "y = LayerNormalization <axis = -1, epsilon = 0.001> (a, b, c)",
    ),
}
# Of so many cases at least everything is there to be run.
LEAST_CASES = 500


def _run(case, folder):
    """Returns why a case was left out, or None where its answers are right."""
    path = folder / f"{case.name}.onnx"
    onnx.save(case.model, path)
    graph = read_onnx(path)
    network = GraphNetwork(graph)
    names = network.input_names
    for inputs, wanted in case.samples:
        arrays = [np.asarray(array) for array in inputs]
        floats = {array.dtype.name for array in arrays if array.dtype.kind not in "iub"}
        if not floats <= {"float32"} or len(arrays) != len(names):
            return "inputs"
        with torch.no_grad():
            found = network(
                {name: torch.from_numpy(np.array(a)) for name, a in zip(names, arrays, strict=True)}
            )
        for name, array in zip(network.output_names, wanted, strict=True):
            given = found[name].numpy()
            assert given.shape == np.shape(array), case.name
            rtol, atol = max(case.rtol, 1e-3), max(case.atol, 1e-5)
            np.testing.assert_allclose(given, array, rtol=rtol, atol=atol, err_msg=case.name)
    return None


def test_every_case_of_onnx_is_answered_or_refused(tmp_path):
    passed, kinds, wrong, refused = 0, Counter(), [], Counter()
    for kind in ("node", "simple", "pytorch-converted", "pytorch-operator"):
        for case in load_cases(kind):
            operators = {node.op_type for node in case.model.graph.node}
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    left_out = _run(case, tmp_path)
            except EdgekitError as error:
                refused[str(error).split(":")[0][:60]] += 1
                continue
            except Exception as error:
                wrong.append(f"{case.name}: {type(error).__name__}: {str(error).strip()[:200]}")
                continue
            if left_out is None:
                passed += 1
                kinds.update(operators)
    print(f"{passed} cases passed, {sum(refused.values())} refused")
    assert not wrong, "\n".join(wrong)
    assert passed >= LEAST_CASES
    missing = set(OPERATORS) - set(kinds) - WITHOUT_CASES - set(OWN_CASES)
    assert not missing


@pytest.mark.parametrize("operator", OWN_CASES)
def test_operators_answer_as_onnx_runtime_does(operator, tmp_path):
    inputs, output, body = OWN_CASES[operator]
    text = f'<ir_version: 9, opset_import: ["": 20]> net ({inputs}) => ({output}) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    rng = np.random.default_rng(3)
    arrays = {
        value.name: rng.normal(size=[d.dim_value for d in value.type.tensor_type.shape.dim]).astype(
            np.float32
        )
        for value in model.graph.input
    }
    (wanted,) = onnxruntime.InferenceSession(path).run(None, arrays)
    network = GraphNetwork(read_onnx(path))
    with torch.no_grad():
        found = network({name: torch.from_numpy(array) for name, array in arrays.items()})
    np.testing.assert_allclose(found["y"].numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_trained_is_named():
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"], name="find"),
        helper.make_node("Det", ["x"], ["y"], name="area"),
    ]
    float_type = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", float_type, [2, 2])],
        [helper.make_tensor_value_info("y", float_type, [])],
    )
    import onnx_ir as ir

    model = ir.from_proto(helper.make_model(graph))
    with pytest.raises(ModelError, match=r"NonZero \(node 'find'\), Det \(node 'area'\)"):
        GraphNetwork(model)
