"""What a bundle certifies of its answers: counted here again, by hand."""

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import edgekit
from edgekit import CalibrationError, Classification, EdgekitError, PlanError, Preprocessing
from edgekit.agreement import Difference
from edgekit.bundles.bundle import read_bundle
from edgekit.data import InputSpec, read_samples
from edgekit.inspection import inspect
from edgekit.session import load

LABELS = [f"class {index}" for index in range(10)]
QUICK: dict[str, Any] = {"ranges": "minmax", "precision": "int8"}


@pytest.fixture(scope="module")
def answers(cnn: Path, images: Any) -> Any:
    """The float network's answers, of which every fifth is made wrong."""
    right = np.concatenate([load(cnn).run(image[None])["logits"].argmax(-1) for image in images])
    right[::5] = (right[::5] + 1) % 10
    return right


@pytest.fixture(scope="module")
def certified(
    tmp_path_factory: pytest.TempPathFactory, cnn: Path, images: Any, answers: Any
) -> Path:
    folder = tmp_path_factory.mktemp("certified") / "dist"
    edgekit.deploy(
        cnn,
        calibration=images,
        evaluate=Classification(images, answers),
        max_drop=0.5,
        labels=LABELS,
        output=folder,
        **QUICK,
    )
    return folder


def read(folder: Path) -> Any:
    return json.loads((folder / "certificate.json").read_text())


def test_shares_are_counted(certified: Path, cnn: Path, images: Any, answers: Any) -> None:
    named = {
        who: np.array([int(session.run(image[None])["logits"].argmax()) for image in images])
        for who, session in (("float", load(cnn)), ("deployed", load(certified)))
    }
    facts = read(certified)["evaluation"]
    assert facts["samples"] == len(images)
    for who, classes in named.items():
        assert facts[who]["count"] == (classes == answers).sum()
        assert facts[who]["total"] == len(images)
        low, high = facts[who]["interval_95"]
        assert 0 <= low < facts[who]["share"] < high <= 1
    assert facts["changed"]["count"] == (named["float"] != named["deployed"]).sum()
    assert facts["drop"]["share"] == pytest.approx(
        facts["float"]["share"] - facts["deployed"]["share"]
    )
    shares = {k: (named["deployed"] == answers)[answers == k].mean() for k in set(answers)}
    worst = facts["worst_class"]
    assert worst["deployed"]["share"] == min(shares.values())
    assert worst["label"] == LABELS[worst["class"]]
    assert worst["deployed"]["total"] == (answers == worst["class"]).sum()


def test_agreement_is_the_report_s(certified: Path, images: Any) -> None:
    facts = read(certified)
    same = facts["agreement"]["same_answer"]
    assert same["total"] == len(images)
    assert facts["agreement"]["changed"]["count"] == len(images) - same["count"]
    assert facts["calibration"]["samples"] == len(images)
    assert facts["target"]["name"] == "host"
    assert "instruction set" in facts["measured_with"]


def test_inspect_shows_it(certified: Path) -> None:
    bundle = read_bundle(certified)
    facts = inspect(certified)
    assert facts["certificate"] == read(certified)
    assert facts["labels"] == len(LABELS)
    (certified / "other").mkdir()
    (certified / "other/certificate.json").write_text("[]")
    with pytest.raises(PlanError, match=r"certificate\.json: must be a table"):
        _ = replace(bundle, path=certified / "other").certificate
    shutil.rmtree(certified / "other")


def test_what_nobody_measured_is_said(
    deployment: Any, cnn: Path, images: Any, tmp_path: Path
) -> None:
    assert read(deployment.path)["evaluation"] == "not measured"
    edgekit.deploy(
        cnn, calibration=images, evaluate=lambda session: 0.25, output=tmp_path / "d", **QUICK
    )
    facts = read(tmp_path / "d")["evaluation"]
    assert (facts["float"], facts["deployed"], facts["drop"]) == (0.25, 0.25, 0)
    assert facts["interval_95"] == facts["worst_class"] == "not measured"


def test_the_digest_of_samples_knows_their_values_and_not_their_order(images: Any) -> None:
    specs = [InputSpec("image", (None, 3, 16, 16), "float32")]
    digest = read_samples(images, specs).digest
    assert read_samples(images[::-1].copy(), specs).digest == digest
    assert read_samples({"image": images}, specs).digest == digest
    other = images.copy()
    other[3, 0, 0, 0] += 1
    assert read_samples(other, specs).digest != digest
    assert read_samples(images[:-1], specs).digest != digest


def test_pictures_in_folders_are_their_classes(cnn: Path, images: Any, tmp_path: Path) -> None:
    how = Preprocessing(size=(16, 16), mean=127, scale=1 / 128)
    for index, image in enumerate(images[:6]):
        pixels = np.clip(image.transpose(1, 2, 0) * 127 + 127, 0, 255).astype(np.uint8)
        file = tmp_path / "test" / LABELS[index % 3] / "deep" / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    measure = Classification.from_folder(tmp_path / "test", LABELS, how)
    assert sorted(measure.answers.tolist()) == [0, 0, 1, 1, 2, 2]
    session = load(cnn)
    files = sorted((tmp_path / "test").rglob("*.png"))
    named = [int(session.run(how.read(file))["logits"].argmax()) for file in files]
    assert measure.name_classes(session).tolist() == named
    with pytest.raises(
        EdgekitError, match=r"0\.png: lies in no folder that has the name of a class"
    ):
        Classification.from_folder(tmp_path / "test", LABELS[1:], how)
    Image.fromarray(pixels).save(tmp_path / "test/loose.png")
    with pytest.raises(EdgekitError, match=r"loose\.png: lies in no folder"):
        Classification.from_folder(tmp_path / "test", [*LABELS, "loose.png"], how)
    with pytest.raises(CalibrationError, match="no such folder"):
        Classification.from_folder(tmp_path / "absent", LABELS, how)


@pytest.mark.parametrize("answers", [[], [[1]], [-1], [0.5], ["a"]])
def test_answers_that_are_none(images: Any, answers: Any) -> None:
    with pytest.raises(EdgekitError, match="answers must be the number of a class"):
        Classification(images, answers)


@pytest.mark.parametrize(
    ("answers", "message"),
    [([1, 2], "there are 2 answers for 32 samples"), ([10] * 32, "10 numbers for a sample")],
)
def test_answers_that_do_not_fit(cnn: Path, images: Any, answers: Any, message: str) -> None:
    with pytest.raises(EdgekitError, match=message):
        Classification(images, answers)(load(cnn))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_differences_are_of_shares(pairs: Sequence[tuple[bool, bool]]) -> None:
    first, second = (np.array(column) for column in zip(*pairs, strict=True))
    difference = Difference.of(first, second)
    assert math.isclose(difference.share, first.mean() - second.mean(), abs_tol=1e-12)
    low, high = difference.interval
    assert -1 <= low <= difference.share <= high <= 1
    assert Difference.of(second, first).interval == pytest.approx((-high, -low))


@pytest.mark.parametrize(("total", "more", "less"), [(30, 0.1, 0.05), (100, 0.02, 0.02)])
def test_intervals_hold_the_true_difference_as_often_as_they_say(
    total: int, more: float, less: float
) -> None:
    random = np.random.default_rng(0)
    draws = random.multinomial(total, [more, less, 1 - more - less], size=4000)
    intervals = [Difference(int(m), int(n), total).interval for m, n, _ in draws]
    held = np.mean([low <= more - less <= high for low, high in intervals])
    assert 0.94 <= held <= 0.995
