"""Several sizes in one deployment: one quantization, one copy of the weights, the same bytes in every form."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from line_network import write_line_network
from typer.testing import CliRunner

import edgekit
from edgekit import _native
from edgekit.bundles.bundle import read_bundle
from edgekit.bundles.verify import verify
from edgekit.cli import app
from edgekit.pad import pad_to_size
from edgekit.sizes import list_sizes

pytest.importorskip("ai_edge_litert")

SIZES = [(1, 16), (1, 32), (4, 16)]
SHAPES = [{"x": (count, 3, 8, width)} for count, width in SIZES]
FORMS = ("native", "onnx", "tflite")


def draw(count: int, width: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (count, 3, 8, width)).astype(np.float32)


def make_samples(sizes: Sequence[tuple[int, int]]) -> list[dict[str, np.ndarray]]:
    return [{"x": draw(*size, seed=seed)} for seed, size in enumerate([*sizes] * 4)]


def deploy(folder: Path, **arguments: object) -> edgekit.Deployment:
    model = write_line_network(folder / "line.onnx")
    given: dict[str, object] = {
        "calibration": make_samples(SIZES[:2]),
        "shapes": SHAPES,
        "format": FORMS,
        "precision": "int8",
        "ranges": "minmax",
        "output": folder / "out",
    }
    return edgekit.deploy(model, **(given | arguments))


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> edgekit.Deployment:
    return deploy(tmp_path_factory.mktemp("sizes"))


@pytest.mark.parametrize("size", SIZES)
def test_every_form_gives_the_same_bytes_at_every_size(
    deployed: edgekit.Deployment, size: tuple[int, int]
) -> None:
    x = draw(*size)
    answers = [
        edgekit.load(path).run(x)["y"] for path in (deployed.plan, deployed.onnx, deployed.tflite)
    ]
    real = edgekit.load(deployed.source.reference).run(x)["y"]
    for answer in answers:
        assert answer.shape == real.shape == (size[0], size[1] // 2, 6)
        np.testing.assert_array_equal(answer, answers[0])
    assert np.abs(answers[0] - real).max() < 0.05


def test_weights_are_stored_once(deployed: edgekit.Deployment, tmp_path: Path) -> None:
    single = deploy(
        tmp_path, shapes=SHAPES[0], calibration=make_samples(SIZES[:1]), format="native"
    )
    plans = [_native.Plan.open(path) for path in (deployed.plan, single.plan)]
    constants = [
        int.from_bytes(path.read_bytes()[48:56], "little") for path in (deployed.plan, single.plan)
    ]
    assert constants[0] == constants[1]
    assert [len(plan.sizes) for plan in plans] == [3, 1]
    arenas = [size.arena_size for size in plans[0].sizes]
    assert plans[0].memory.arena == max(arenas) > arenas[0]
    assert any("weights are stored once" in note for note in deployed.report.notes)


def test_another_size_is_told_which_there_are(deployed: edgekit.Deployment) -> None:
    for path in (deployed.plan, deployed.tflite):
        with pytest.raises(edgekit.EdgekitError) as error:
            edgekit.load(path).run(draw(1, 20))
        for size in ("[1, 3, 8, 20]", "[1, 3, 8, 16]", "[1, 3, 8, 32]", "[4, 3, 8, 16]"):
            assert size in str(error.value)


@pytest.mark.parametrize("form", FORMS)
def test_inputs_are_filled_up_when_asked(deployed: edgekit.Deployment, form: str) -> None:
    session = edgekit.load(getattr(deployed, {"native": "plan"}.get(form, form)))
    assert [size["x"] for size in session.sizes] == [shape["x"] for shape in SHAPES]
    x = draw(1, 20)
    filled = np.pad(x, [(0, 0), (0, 0), (0, 0), (0, 12)], constant_values=0.5)
    np.testing.assert_array_equal(session.run(x, pad=0.5)["y"], session.run(filled)["y"])
    fitting = draw(1, 16)
    np.testing.assert_array_equal(session.run(fitting, pad=9.0)["y"], session.run(fitting)["y"])
    with pytest.raises(
        edgekit.EdgekitError, match=r"no size is large enough for x \[1, 3, 8, 40\]"
    ):
        session.run(draw(1, 40), pad=0.0)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9])
@pytest.mark.parametrize("form", ["plan", "tflite"])
def test_a_batch_runs_in_the_size_that_takes_it_in_the_fewest_runs(
    deployed: edgekit.Deployment, count: int, form: str
) -> None:
    session = edgekit.load(getattr(deployed, form))
    x = draw(count, 16)
    whole = session.run(x)["y"]
    apart = [session.run(x[index : index + 1])["y"] for index in range(count)]
    np.testing.assert_array_equal(whole, np.concatenate(apart))


def test_a_batch_size_alone_fills_up_what_is_too_few(tmp_path: Path) -> None:
    shapes = [{"x": (4, 3, 8, width)} for width in (16, 32)]
    deployed = deploy(tmp_path, shapes=shapes, format="native", calibration=make_samples([(4, 16)]))
    session = deployed.load()
    x = draw(6, 32)
    np.testing.assert_array_equal(session.run(x)["y"][:4], session.run(x[:4])["y"])
    assert session.run(x)["y"].shape == (6, 16, 6)


def test_verify_runs_every_size(deployed: edgekit.Deployment) -> None:
    found = verify(deployed.path)
    assert found.ok
    layers = len(_native.Plan.open(deployed.plan).ops)
    assert len(found.layers) == 3 * layers
    assert {output.name for output in found.outputs} == {
        f"y at x [{count}, 3, 8, {width}]" for count, width in SIZES
    }


def edit(bundle: Path, change: object) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["golden"]["sizes"].pop(), "not listed|3 sizes"),
        (lambda m: m["golden"].pop("sizes"), "3 sizes, but the bundle golden inputs for 1"),
        (lambda m: m["golden"]["sizes"].reverse(), "golden inputs of size 1"),
        (lambda m: m["golden"].update(sizes=3), "'golden.sizes' must be an array"),
        (lambda m: m["golden"].update(sizes=[[]]), "'golden.sizes' must be an array"),
        (lambda m: m["golden"]["sizes"][0].pop("inputs"), r"'golden.sizes\[0\]' must have"),
        (
            lambda m: m["golden"]["sizes"][1]["inputs"][0].update(file="../x.npy"),
            "which 'files' does not list",
        ),
        (lambda m: m["golden"]["sizes"].append(m["golden"]["sizes"][0]), "golden/3/digests.json"),
    ],
)
def test_bundles_whose_sizes_lie_are_refused(
    deployed: edgekit.Deployment, tmp_path: Path, change: object, message: str
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(deployed.path, bundle)
    edit(bundle, change)
    with pytest.raises(edgekit.PlanError, match=message):
        verify(bundle)


def test_a_bundle_without_the_digests_of_a_size_is_refused(
    deployed: edgekit.Deployment, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(deployed.path, bundle)
    (bundle / "golden/2/digests.json").unlink()
    with pytest.raises(edgekit.PlanError, match=r"golden/2/digests\.json: missing"):
        read_bundle(bundle)
    edit(bundle, lambda manifest: manifest["files"].pop("golden/2/digests.json"))
    with pytest.raises(edgekit.PlanError, match=r"golden/2/digests\.json: missing"):
        read_bundle(bundle)


def test_a_plan_of_one_size_in_the_place_of_all_is_refused(
    deployed: edgekit.Deployment, tmp_path: Path
) -> None:
    from edgekit.bundles.manifest import describe_file

    single = deploy(
        tmp_path, shapes=SHAPES[0], calibration=make_samples(SIZES[:1]), format="native"
    )
    bundle = tmp_path / "bundle"
    shutil.copytree(deployed.path, bundle)
    shutil.copyfile(single.plan, bundle / "model.plan")
    edit(bundle, lambda m: m["files"].update({"model.plan": describe_file(bundle / "model.plan")}))
    with pytest.raises(edgekit.PlanError, match="it has 1 sizes, but the bundle"):
        verify(bundle)


def test_the_onnx_form_keeps_what_differs_open(deployed: edgekit.Deployment) -> None:
    model = onnx.load(deployed.onnx)
    (x,) = model.graph.input
    dims = [dim.dim_param or dim.dim_value for dim in x.type.tensor_type.shape.dim]
    assert dims == ["N", 3, 8, "W"]
    # Sizes that nobody asked for run too, as the float model does.
    for size in [(2, 24), (3, 64)]:
        answer = edgekit.load(deployed.onnx).run(draw(*size))["y"]
        real = edgekit.load(deployed.source.reference).run(draw(*size))["y"]
        assert answer.shape == real.shape
        assert np.abs(answer - real).max() < 0.05


def test_onnx_files_that_lie_about_sizes_only_lose_them(
    deployed: edgekit.Deployment, tmp_path: Path
) -> None:
    model = onnx.load(deployed.onnx)
    for text in (
        "[{",
        "3",
        "[1]",
        '[{"x": 1}]',
        '[{"x": [1, 3, 9, 16]}]',
        '[{"x": [1, 3, 8, -1]}]',
    ):
        model.metadata_props[0].value = text
        onnx.save(model, tmp_path / "lies.onnx")
        assert edgekit.load(tmp_path / "lies.onnx").sizes == []


def test_every_size_may_have_samples_and_the_first_must(tmp_path: Path) -> None:
    with pytest.raises(edgekit.CalibrationError, match=r"first size, x \[1, 3, 8, 16\]"):
        deploy(tmp_path, calibration=make_samples([(1, 32)]))
    with pytest.raises(
        edgekit.CalibrationError, match=r"sample 1 is of no size: x \[1, 3, 8, 24\]"
    ):
        deploy(tmp_path, calibration=make_samples([(1, 16), (1, 24)]))


def test_ranges_are_those_of_all_sizes(tmp_path: Path) -> None:
    quiet, loud = {"x": 0.1 * draw(1, 16)}, {"x": 10 * draw(1, 32)}
    one = deploy(tmp_path, calibration=[quiet, loud], format="native")
    assert one.calibration is not None
    assert one.calibration.samples == 2
    assert one.calibration.sketches["x"].hi == loud["x"].max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shapes": [*SHAPES, SHAPES[0]]}, "given twice"),
        ({"shapes": []}, "or a list of them"),
        ({"shapes": [(1, 3, 8, 16)]}, "or a list of them"),
        ({"shapes": [{"x": (1, 3, 8, 16)}, {"x": (1, 3, 8, None)}]}, "leaves dimensions of x open"),
        ({"shapes": [{"x": (1, 3, 8, 16)}, {"z": (1, 3, 8, 32)}]}, "no input 'z'"),
        ({"shapes": [{"x": (1, 3, 8, 16)}, {"x": (1, 3, 9, 32)}]}, "is 8 in the model"),
        ({"tune": True, "format": "native"}, "tune measures one size"),
    ],
)
def test_impossible_sizes_are_refused(
    tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(edgekit.EdgekitError, match=message):
        deploy(tmp_path, **arguments)
    assert not (tmp_path / "out").exists()


def test_padding_that_depends_on_the_size(tmp_path: Path) -> None:
    # SAME_UPPER pads even and odd widths differently.
    model = write_line_network(tmp_path / "line.onnx", pad="SAME_UPPER")
    sizes = [(1, 16), (1, 15)]

    def deploy_as(*forms: str) -> edgekit.Deployment:
        return edgekit.deploy(
            model,
            calibration=make_samples(sizes),
            shapes=[{"x": (count, 3, 8, width)} for count, width in sizes],
            format=forms,
            precision="int8",
            ranges="minmax",
            output=tmp_path / "out",
        )

    deployed = deploy_as("native", "tflite")
    for size in sizes:
        answers = [
            edgekit.load(path).run(draw(*size))["y"] for path in (deployed.plan, deployed.tflite)
        ]
        np.testing.assert_array_equal(answers[0], answers[1])
        real = edgekit.load(deployed.source.reference).run(draw(*size))["y"]
        assert np.abs(answers[0] - real).max() < 0.05
    with pytest.raises(edgekit.ModelError, match=r"node 'stem' \(Conv\) has other attributes"):
        deploy_as("onnx")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4, unique=True),
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
)
def test_the_next_size_is_the_smallest_that_holds_the_input(
    sizes: list[tuple[int, int]], have: tuple[int, int]
) -> None:
    array = np.ones((2, *have), np.float32)
    named = [{"x": (1, *size)} for size in sizes]
    able = [size for size in sizes if size[0] >= have[0] and size[1] >= have[1]]
    if not able:
        with pytest.raises(edgekit.EdgekitError, match="no size is large enough"):
            pad_to_size({"x": array}, named, 0.0)
        return
    filled = pad_to_size({"x": array}, named, -1.0)["x"]
    assert filled.shape[1:] in able
    if have in able:
        assert filled.shape == array.shape
    else:
        assert filled[0].size == min(height * width for height, width in able)
    np.testing.assert_array_equal(filled[:, : have[0], : have[1]], array)
    assert filled.sum() == array.size - (filled.size - array.size)


def test_one_mapping_is_one_size() -> None:
    assert list_sizes(None) == ({},)
    assert list_sizes({"x": (1, 2)}) == ({"x": (1, 2)},)
    assert list_sizes([{"x": (1, 2)}]) == ({"x": (1, 2)},)


def test_the_command_line_takes_sizes_and_fills_up(tmp_path: Path) -> None:
    runner = CliRunner()
    model = write_line_network(tmp_path / "line.onnx")
    np.savez(tmp_path / "samples.npz", x=np.concatenate([draw(1, 16, seed) for seed in range(4)]))
    words = ["deploy", str(model), "--calibration", str(tmp_path / "samples.npz")]
    words += ["--shape", "x=1,3,8,16", "--shape", "x=1,3,8,32", "--output", str(tmp_path / "out")]
    done = runner.invoke(app, [*words, "--precision", "int8", "--ranges", "minmax", "--json"])
    assert done.exit_code == 0, done.output
    np.save(tmp_path / "x.npy", draw(1, 20))
    words = ["run", str(tmp_path / "out"), "--input", str(tmp_path / "x.npy"), "--json"]
    assert json.loads(runner.invoke(app, [*words, "--pad", "0"]).stdout)["y"]["shape"] == [1, 16, 6]
    refused = runner.invoke(app, words)
    assert "[1, 3, 8, 32]" in str(refused.exception)
