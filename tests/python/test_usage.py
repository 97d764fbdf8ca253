"""What a bundle tells applications: names of classes, and how a picture becomes an input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_bundles import make

import edgekit
from edgekit import EdgekitError, PlanError, Preprocessing
from edgekit.bundles.usage import Usage, read_usage
from edgekit.session import load
from edgekit.task_metadata import read_labels

HOW = Preprocessing(size=(16, 16), mean=(124.0, 117.5, 104.0), scale=1 / 128, crop=7 / 8)
LABELS = [f"class {index}" for index in range(9)] + ["naïve, «quoted»"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, cnn: Path, images: Any) -> Path:
    folder = tmp_path_factory.mktemp("usage")
    (folder / "pictures").mkdir()
    for index, image in enumerate(images[:8]):
        pixels = np.clip(image.transpose(1, 2, 0) * 127 + 127, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"pictures/{index}.png")
    edgekit.deploy(
        cnn,
        calibration=folder / "pictures",
        preprocessing=HOW,
        labels=LABELS,
        output=folder / "dist",
        ranges="minmax",
        precision="int8",
    )
    return folder / "dist"


def test_a_session_of_a_bundle_knows(bundle: Path) -> None:
    session = load(bundle)
    assert session.labels == tuple(LABELS)
    assert session.preprocessing == HOW
    picture = next((bundle.parent / "pictures").iterdir())
    assert session.preprocessing is not None
    assert session.run(session.preprocessing.read(picture))["logits"].shape == (1, 10)
    assert (bundle / "labels.txt").read_text(encoding="utf-8").splitlines() == LABELS
    alone = load(bundle / "model.plan")
    assert (alone.labels, alone.preprocessing) == ((), None)


def test_what_is_not_known_has_no_file(tmp_path: Path) -> None:
    assert Usage().to_files() == {}
    assert read_usage(tmp_path) == Usage()
    assert make(tmp_path / "bundle").usage == Usage()


@given(
    st.lists(
        st.text(min_size=1).filter(lambda t: t.strip() != "" and t.splitlines() == [t]), max_size=5
    )
)
def test_any_names_come_back(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("names")
    wanted = [name for name in names if name.isprintable()]
    for name, content in Usage(read_labels(wanted)).to_files().items():
        (folder / name).write_bytes(content)
    assert read_usage(folder).labels == tuple(wanted)


@pytest.mark.parametrize("name", ["a\nb", "a\u2028b", "a\rb", "a\x85b"])
def test_names_of_two_lines(name: str) -> None:
    with pytest.raises(EdgekitError, match="number 2 is no name"):
        read_labels(["a", name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": [0, 5]}, "size must be a height and a width"),
        ({"size": "224"}, "size must be a height and a width"),
        ({"mean": [1, 2]}, "mean must be one finite number"),
        ({"mean": "x"}, "mean must be one finite number"),
        ({"crop": None}, "crop must be a number"),
        ({"layout": "CHWN"}, "layout must be one of"),
        ({"layout": ["NCHW"]}, "layout must be one of"),
        ({"input": 3}, "'input' must be a string"),
        ({"schema": 2}, "and schema 1"),
        ({"gamma": 2}, "must have the keys"),
    ],
)
def test_a_forged_file_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    files = Usage(preprocessing=HOW, input="image").to_files()
    table = json.loads(files["preprocessing.json"]) | change
    (tmp_path / "preprocessing.json").write_text(json.dumps(table))
    with pytest.raises(PlanError, match=r"preprocessing\.json: .*" + message):
        read_usage(tmp_path)


def test_labels_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(PlanError, match=r"labels\.txt: not UTF-8"):
        read_usage(tmp_path)
