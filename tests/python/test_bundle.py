import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from signed_bundles import KEY
from small_bundles import TARGET, edit_manifest, make

from edgekit import EdgekitError, PlanError, SignatureError, ToolError
from edgekit.building.emulate import Machine
from edgekit.bundles.bundle import Bundle, read_bundle, sign_bundle
from edgekit.bundles.golden import read_array
from edgekit.bundles.minisign import make_key
from edgekit.bundles.verify import run_golden


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make(tmp_path / "bundle")


def test_round_trip(bundle: Bundle) -> None:
    again = read_bundle(bundle.path)
    assert again == bundle
    assert again.target == TARGET
    assert [layer.op for layer in again.digests] == ["conv", "fc"]
    assert list(again.inputs) == ["../image:0"]
    assert list(again.outputs) == ["logits", "aux"]
    assert read_array(again.outputs["aux"]).tolist() == [1, 1]
    assert os.access(again.runner, os.X_OK)
    assert os.access(again.path / "edgekit-board", os.X_OK)
    assert "forms/model.onnx" in again.files


def test_equal_contents_give_equal_bytes(tmp_path: Path) -> None:
    first, second = make(tmp_path / "one"), make(tmp_path / "two")
    assert first.files == second.files
    assert (first.path / "manifest.json").read_bytes() == (
        second.path / "manifest.json"
    ).read_bytes()


def test_an_older_bundle_is_replaced(bundle: Bundle) -> None:
    again = make(bundle.path, extra={})
    assert "forms/model.onnx" not in again.files
    assert not (bundle.path / "forms").exists()
    assert sorted(path.name for path in bundle.path.parent.iterdir()) == ["bundle", "sources"]


def test_other_folders_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    with pytest.raises(EdgekitError, match="mine: not overwritten"):
        make(tmp_path / "mine")
    assert (tmp_path / "mine/thesis.txt").read_text() == "years of work"


def test_a_bundle_that_fails_leaves_the_older_one(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = bundle.plan.read_bytes()
    real = os.replace

    def fail(source: Path, target: Path) -> None:
        if Path(target) == bundle.path and Path(source).name == "new":
            raise OSError("no space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        make(bundle.path)
    assert read_bundle(bundle.path).plan.read_bytes() == before
    assert sorted(path.name for path in bundle.path.parent.iterdir()) == ["bundle", "sources"]


@pytest.mark.parametrize("name", ["../out", "/etc/x", "a/../b", "a//b", "", "manifest.json", "./a"])
def test_extra_files_stay_inside(tmp_path: Path, name: str) -> None:
    with pytest.raises(PlanError, match="not a plain path"):
        make(tmp_path / "bundle", extra={name: b""})
    assert not (tmp_path / "bundle").exists()


def test_extra_file_of_a_taken_name(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"model\.plan: the bundle has a file of that name"):
        make(tmp_path / "bundle", extra={"model.plan": b""})


FILES = [
    "model.plan",
    "edgekit-run",
    "edgekit-board",
    "golden/digests.json",
    "golden/inputs/0.npy",
    "golden/outputs/0.npy",
    "golden/outputs/1.npy",
    "forms/model.onnx",
]


def test_the_list_of_files_is_whole(bundle: Bundle) -> None:
    assert sorted(bundle.files) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_checked(bundle: Bundle, name: str) -> None:
    file = bundle.path / name
    original = file.read_bytes()
    for position in range(0, len(original), max(1, len(original) // 16)):
        damaged = bytearray(original)
        damaged[position] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(PlanError, match=f"{name}: changed"):
            read_bundle(bundle.path)
    file.write_bytes(original[:-1])
    with pytest.raises(PlanError, match=f"{name}: changed"):
        read_bundle(bundle.path)
    file.unlink()
    with pytest.raises(PlanError, match=f"{name}: missing"):
        read_bundle(bundle.path)


def test_extra_file(bundle: Bundle) -> None:
    (bundle.path / "golden/more.npy").write_bytes(b"")
    with pytest.raises(PlanError, match=r"golden/more\.npy: not listed"):
        read_bundle(bundle.path)


def test_link_to_the_same_bytes(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(bundle.plan.read_bytes())
    bundle.plan.unlink()
    bundle.plan.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PlanError, match=r"model\.plan: a symbolic link"):
        read_bundle(bundle.path)


def test_linked_folder(bundle: Bundle, tmp_path: Path) -> None:
    (bundle.path / "golden").rename(tmp_path / "golden")
    (bundle.path / "golden").symlink_to(tmp_path / "golden")
    with pytest.raises(PlanError, match="golden: a symbolic link"):
        read_bundle(bundle.path)


def test_pipe_in_place_of_a_file(bundle: Bundle) -> None:
    bundle.plan.unlink()
    os.mkfifo(bundle.plan)
    with pytest.raises(PlanError, match=r"model\.plan: not a regular file"):
        read_bundle(bundle.path)


@pytest.mark.parametrize("name", ["../sources/a.plan", "/etc/hostname", "golden/../model.plan"])
def test_manifest_that_leaves_the_folder(bundle: Bundle, name: str) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["files"][name] = manifest["files"]["model.plan"]

    edit_manifest(bundle.path, edit)
    with pytest.raises(PlanError, match=r"manifest\.json: '.*' is not a plain path"):
        read_bundle(bundle.path)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["schema"], 2, "'schema' is 2, but this edgekit reads 1"),
        (["schema"], True, "'schema' is missing or not of type int"),
        (["files"], [], "'files' is missing or not of type dict"),
        (["files", "model.plan"], "x", "'files.model.plan' must have 'sha256' and 'size'"),
        (["files", "model.plan", "size"], 4.5, "'files.model.plan' must have 'sha256' and 'size'"),
        (["files", "model.plan", "size"], 5, "model.plan: changed"),
        (["files", "model.plan", "sha256"], "0" * 64, "model.plan: changed"),
        (["files", "model.plan", "mtime"], 1, "'files.model.plan' must have 'sha256' and 'size'"),
        (["note"], "hi", "unknown key 'note'"),
        (["target", "isa"], 3, "'target.isa' must be a string"),
        (["target", "isa"], None, "'target.isa' must be a string"),
        (["target", "colour"], "red", "'target' must have the keys name, title"),
        (["versions", "numpy"], 2, "'versions' must be a table of strings"),
        (["golden", "inputs"], [], "'golden' must have the arrays"),
        (["golden", "more"], [], "'golden' must have the arrays"),
        (["golden", "inputs"], [{"name": "x"}], "each of 'golden.inputs' must have"),
        (["golden", "inputs"], [{"name": "x", "file": "no"}], "names 'no', which 'files' does not"),
        (["golden", "inputs"], [{"name": "x", "file": []}], "names [], which 'files' does not"),
        (["golden", "inputs"], [{"name": 1, "file": "model.plan"}], "one that is no string"),
    ],
)
def test_edited_manifest(bundle: Bundle, keys: list[str], value: Any, message: str) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        for key in keys[:-1]:
            manifest = manifest[key]
        manifest[keys[-1]] = value

    edit_manifest(bundle.path, edit)
    with pytest.raises(PlanError) as caught:
        read_bundle(bundle.path)
    assert message in str(caught.value)


def test_manifest_that_drops_a_needed_file(bundle: Bundle) -> None:
    edit_manifest(bundle.path, lambda manifest: manifest["files"].pop("model.plan"))
    bundle.plan.unlink()
    with pytest.raises(PlanError, match=r"model\.plan: missing"):
        read_bundle(bundle.path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"[" * 100_000, b"9" * 10_000])
def test_manifest_that_is_no_table(bundle: Bundle, content: bytes) -> None:
    (bundle.path / "manifest.json").write_bytes(content)
    with pytest.raises(PlanError, match=r"manifest\.json: (not valid JSON|must be a table)"):
        read_bundle(bundle.path)


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="absent: no such bundle folder"):
        read_bundle(tmp_path / "absent")
    with pytest.raises(PlanError, match=r"no bundle: the folder holds no manifest\.json"):
        read_bundle(tmp_path)


def test_arrays_never_run_code(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(
        PlanError, match=r"a\.npy: not a valid \.npy file: it is damaged, or holds Python objects"
    ):
        read_array(tmp_path / "a.npy")


def test_what_is_no_array_is_told_without_numpys_advice(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"not an array")
    with pytest.raises(PlanError, match=r"valid \.npy file: it begins neither as an \.npy"):
        read_array(tmp_path / "a.npy")


@pytest.mark.parametrize(
    "shape",
    ["(1099511627776,)", "(99999999999999999999999,)", "(-1,)", "(" * 5000, "__import__('os')"],
)
def test_arrays_that_lie_about_their_shape_are_refused(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    size = len(header).to_bytes(2, "little")
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + size + header)
    with pytest.raises(PlanError, match=r"a\.npy: not a valid \.npy file"):
        read_array(tmp_path / "a.npy")


def test_an_archive_is_no_array(tmp_path: Path) -> None:
    with (tmp_path / "a.npy").open("wb") as stream:
        np.savez(stream, a=np.ones(3))
    with pytest.raises(PlanError, match=r"a\.npy: not a valid \.npy file"):
        read_array(tmp_path / "a.npy")


class _Answer(Machine):
    """A machine whose program prints its label."""

    def run(self, command: list[str], *, timeout_s: float = 600.0) -> str:
        return self.label


@pytest.mark.parametrize(
    ("printed", "message"),
    [
        ('{"digests": [], "outputs": []}', "wrote other outputs than logits, aux"),
        ("[]", "cannot read"),
        ("", "cannot read"),
    ],
)
def test_a_program_that_answers_something_else(
    bundle: Bundle, tmp_path: Path, printed: str, message: str
) -> None:
    with pytest.raises(ToolError, match=message):
        run_golden(bundle, _Answer(printed, emulated=False), tmp_path)


def test_a_signed_bundle_is_accepted(bundle: Bundle) -> None:
    signature = sign_bundle(bundle.path, KEY)
    first = signature.read_bytes()
    assert read_bundle(bundle.path, key=KEY.public) == bundle
    assert read_bundle(bundle.path) == bundle
    assert sign_bundle(bundle.path, KEY).read_bytes() == first
    assert b"edgekit bundle for rpi4" in first
    assert make(bundle.path) == bundle  # Replaceable as it was, and unsigned again.
    assert not signature.exists()


def test_an_unsigned_bundle_is_refused_where_a_key_is_asked_for(bundle: Bundle) -> None:
    with pytest.raises(SignatureError, match="missing: the bundle is not signed"):
        read_bundle(bundle.path, key=KEY.public)


def test_another_s_signature_is_refused(bundle: Bundle) -> None:
    sign_bundle(bundle.path, make_key())
    with pytest.raises(SignatureError, match=r"minisig: signed by the key [0-9A-F]{16}, not by"):
        read_bundle(bundle.path, key=KEY.public)


def test_a_manifest_changed_after_signing_is_refused(bundle: Bundle) -> None:
    sign_bundle(bundle.path, KEY)
    edit_manifest(bundle.path, lambda manifest: manifest["versions"].update(edgekit="9"))
    read_bundle(bundle.path)
    with pytest.raises(SignatureError, match="the signature does not fit"):
        read_bundle(bundle.path, key=KEY.public)


def test_a_changed_bundle_is_not_signed(bundle: Bundle) -> None:
    bundle.plan.write_bytes(b"plan!")
    with pytest.raises(PlanError, match="changed"):
        sign_bundle(bundle.path, KEY)
    assert not (bundle.path / "manifest.json.minisig").exists()


def test_the_signature_cannot_be_listed(bundle: Bundle) -> None:
    with pytest.raises(PlanError, match="not a plain path"):
        make(bundle.path.parent / "other", extra={"manifest.json.minisig": b"x"})
