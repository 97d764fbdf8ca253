"""A bundle as one file: one archive for each bundle, and nothing else is read as one."""

import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signed_bundles import KEY
from small_bundles import make

from edgekit import EdgekitError, PlanError, SignatureError
from edgekit.bundles.archive import begins_as_bundle, is_bundle_file, unpack, unpacked
from edgekit.bundles.bundle import Bundle, read_bundle, sign_bundle
from edgekit.bundles.bundle_file import pack_bundle, rewritten, unpack_bundle
from edgekit.bundles.minisign import make_key
from edgekit.bundles.release import release_bundle

Members = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make(tmp_path_factory.mktemp("signed") / "bundle", sign_with=KEY)


@pytest.fixture(scope="module")
def packed(signed: Bundle) -> bytes:
    return pack_bundle(signed.path, signed.path.parent / "x.edgekit").read_bytes()


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Returns content and mode of each file by its path."""
    return {
        file.relative_to(folder).as_posix(): (file.read_bytes(), stat.S_IMODE(file.stat().st_mode))
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_there_and_back(signed: Bundle, packed: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.edgekit"
    file.write_bytes(packed)
    unpack_bundle(file, tmp_path / "again", key=KEY.public)
    contents = {name: content for name, (content, _) in tree(signed.path).items()}
    found = tree(tmp_path / "again")
    assert {name: content for name, (content, _) in found.items()} == contents
    assert {name for name, (_, mode) in found.items() if mode == 0o755} == {
        "edgekit-run",
        "edgekit-board",
    }
    assert {mode for _, mode in found.values()} == {0o755, 0o644}
    assert pack_bundle(tmp_path / "again", file).read_bytes() == packed


def test_the_same_bundle_gives_the_same_bytes(
    signed: Bundle, packed: bytes, tmp_path: Path
) -> None:
    shutil.copytree(signed.path, tmp_path / "copy")
    for file in (tmp_path / "copy").rglob("*"):
        os.utime(file, (1, 1))
        file.chmod(0o700)
    assert pack_bundle(tmp_path / "copy", tmp_path / "x.edgekit").read_bytes() == packed


def test_other_programs_read_it(signed: Bundle, packed: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.edgekit").write_bytes(packed)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        members = archive.getmembers()
    names = [member.name for member in members]
    assert names[:2] == ["manifest.json", "manifest.json.minisig"]
    assert names[2:] == sorted(signed.files)
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime, m.type) for m in members} == {
        (0, 0, "", "", 0, tarfile.REGTYPE)
    }
    (tmp_path / "out").mkdir()
    command = ["tar", "-xf", tmp_path / "x.edgekit", "-C", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert read_bundle(tmp_path / "out", key=KEY.public).files == signed.files


@pytest.mark.parametrize("length", [99, 100, 102, 155 + 1 + 100])
def test_long_paths(tmp_path: Path, length: int) -> None:
    folder = "a" * 40 + "/" + "b" * 48 + "/" if length < 120 else "a" * 55 + "/" + "b" * 99 + "/"
    name = folder + "c" * (length - len(folder))
    bundle = make(tmp_path / "bundle", extra={name: b"deep"})
    file = pack_bundle(bundle.path, tmp_path / "x.edgekit")
    with tarfile.open(file) as archive:
        assert name in archive.getnames()
    with unpacked(file) as folder_again:
        assert read_bundle(folder_again).files == bundle.files


def test_a_path_that_is_too_long_is_named(tmp_path: Path) -> None:
    bundle = make(tmp_path / "bundle", extra={"c" * 101: b""})
    with pytest.raises(PlanError, match="ccc: too long a path for a bundle's file"):
        pack_bundle(bundle.path, tmp_path / "x.edgekit")
    assert not (tmp_path / "x.edgekit").exists()


def test_what_is_not_a_bundle_s_file_is_not_overwritten(signed: Bundle, tmp_path: Path) -> None:
    (tmp_path / "x.edgekit").write_text("years of work")
    with pytest.raises(EdgekitError, match=r"x\.edgekit: not overwritten"):
        pack_bundle(signed.path, tmp_path / "x.edgekit")
    with pytest.raises(EdgekitError, match="it would lie in the bundle itself"):
        pack_bundle(signed.path, signed.path / "golden/x.edgekit")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    file = pack_bundle(signed.path, tmp_path / "y.edgekit")
    with pytest.raises(EdgekitError, match="mine: not overwritten"):
        unpack_bundle(file, tmp_path / "mine")


def test_a_damaged_bundle_is_not_packed(tmp_path: Path) -> None:
    bundle = make(tmp_path / "bundle")
    bundle.plan.write_bytes(b"plam")
    with pytest.raises(PlanError, match=r"model\.plan: changed"):
        pack_bundle(bundle.path, tmp_path / "x.edgekit")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "sources"]


def test_a_file_is_released_and_signed_anew(packed: bytes, tmp_path: Path) -> None:
    file = tmp_path / "x.edgekit"
    file.write_bytes(packed)
    with rewritten(file) as folder:
        release_bundle(folder, release=8)
    with unpacked(file) as folder:
        assert read_bundle(folder).release == 8
    with pytest.raises(SignatureError, match="not signed"), unpacked(file, key=KEY.public):
        pass
    with rewritten(file) as folder:
        sign_bundle(folder, KEY)
    with unpacked(file, key=KEY.public) as folder:
        assert read_bundle(folder, key=KEY.public).release == 8


def test_another_s_file_is_refused_before_it_is_unpacked(packed: bytes, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    # Nothing behind the signature is looked at.
    (tmp_path / "x.edgekit").write_bytes(packed[:4096])
    with pytest.raises(SignatureError, match=r"minisig: signed by the key [0-9A-F]{16}, not by"):
        unpack(tmp_path / "x.edgekit", tmp_path / "out", make_key().public)
    assert not list((tmp_path / "out").iterdir())


def test_files_are_told_by_content_and_by_name(packed: bytes, tmp_path: Path) -> None:
    cases = [("a.edgekit", packed), ("b.bin", packed), ("c.edgekit", b"x"), ("d.bin", b"x")]
    for name, content in cases:
        (tmp_path / name).write_bytes(content)
    assert [is_bundle_file(tmp_path / name) for name, _ in cases] == [True, True, True, False]
    assert [begins_as_bundle(tmp_path / name) for name, _ in cases] == [True, True, False, False]
    assert not is_bundle_file(tmp_path)
    os.mkfifo(tmp_path / "pipe.edgekit")
    assert not is_bundle_file(tmp_path / "pipe.edgekit")


def refuse(content: bytes, tmp_path: Path, match: str = "") -> None:
    """Checks that an archive is refused, and that what was written until then lies in the folder."""
    file = tmp_path / "forged.edgekit"
    file.write_bytes(content)
    out = tmp_path / "deep/out"
    shutil.rmtree(out.parent, ignore_errors=True)
    out.mkdir(parents=True)
    with pytest.raises(PlanError, match=match):
        unpack(file, out)
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert not any(path.is_symlink() for path in out.rglob("*"))
    assert {path.name for path in tmp_path.iterdir()} == {"forged.edgekit", "deep"}


@pytest.fixture
def members(packed: bytes) -> Members:
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        return [(info, archive.extractfile(info).read()) for info in archive]  # type: ignore[union-attr]


def write(members: Members, format: int = tarfile.USTAR_FORMAT) -> bytes:
    """Returns an archive that Python writes, without tar's padding to whole records."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
        length = archive.offset
    return stream.getvalue()[:length] + bytes(1024)


def list_in_manifest(members: Members, name: str, content: bytes) -> None:
    """Makes the manifest list one file more."""
    info, text = members[0]
    manifest = json.loads(text)
    digest = hashlib.sha256(content).hexdigest()
    manifest["files"][name] = {"sha256": digest, "size": len(content)}
    members[0] = (info, json.dumps(manifest).encode())
    info.size = len(members[0][1])


def member(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def test_what_python_writes_by_the_rules_is_the_same_file(members: Members, packed: bytes) -> None:
    assert write(members) == packed


@pytest.mark.parametrize("type_", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", ["/etc/passwd", "../../x", "model.plan"])
def test_links(members: Members, tmp_path: Path, type_: bytes, target: str) -> None:
    index = [info.name for info, _ in members].index("golden/digests.json")
    members[index] = member("golden/digests.json", type=type_, linkname=target)
    refuse(write(members), tmp_path, "cut off|something else")
    # Of the right size as well, so that only the header tells.
    list_in_manifest(members, "golden/digests.json", b"")
    refuse(write(members), tmp_path, "something else lies in it where golden/digests.json belongs")


@pytest.mark.parametrize(
    "type_", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, b"7", b"S"]
)
def test_devices_folders_and_sparse_files(members: Members, tmp_path: Path, type_: bytes) -> None:
    list_in_manifest(members, "zz", b"")
    content = write([*members, member("zz", type=type_)])
    refuse(content, tmp_path, "something else lies in it where zz belongs|cut off|more in it")


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "a//b", "./a", "a\\b", "a\nb"])
def test_paths_that_leave_the_folder(members: Members, tmp_path: Path, name: str) -> None:
    list_in_manifest(members, name, b"x")
    refuse(write([*members, member(name, b"x")]), tmp_path, "is not a plain path inside the bundle")
    refuse(write([*members[:1], member(name, b"x")]), tmp_path)


def test_a_file_that_is_a_folder_too(members: Members, tmp_path: Path) -> None:
    list_in_manifest(members, "model.plan/x", b"x")
    refuse(write([*members, member("model.plan/x", b"x")]), tmp_path, "lies in a file")


def test_members_twice_missing_or_in_another_order(members: Members, tmp_path: Path) -> None:
    plan = next(item for item in members if item[0].name == "model.plan")
    refuse(write([*members, plan]), tmp_path, "more in it than its manifest says")
    refuse(write([*members, members[0]]), tmp_path, "more in it")
    refuse(write([item for item in members if item != plan]), tmp_path, "cut off")
    refuse(write([*members[:2], *reversed(members[2:])]), tmp_path, "something else lies in it")
    refuse(write(members[1:]), tmp_path, "it does not begin with manifest.json")
    refuse(write([members[1], members[0], *members[2:]]), tmp_path, "it does not begin with")
    refuse(write([members[0], *members[2:], members[1]]), tmp_path, "more in it")


@pytest.mark.parametrize(
    ("field", "value"),
    [("mode", 0o4755), ("mode", 0o666), ("uid", 5), ("gid", 5), ("mtime", 1), ("uname", "root")],
)
def test_headers_with_something_more(
    members: Members, tmp_path: Path, field: str, value: Any
) -> None:
    setattr(members[-1][0], field, value)
    refuse(write(members), tmp_path, "something else lies in it")


@pytest.mark.parametrize("format_", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_other_formats_of_tar(members: Members, tmp_path: Path, format_: int) -> None:
    members[2][0].pax_headers = {"path": "model.plan", "size": "9"}
    refuse(write(members, format_), tmp_path)


def test_bytes_behind_the_end(packed: bytes, tmp_path: Path) -> None:
    refuse(packed + b"\0", tmp_path, "more in it")
    refuse(packed + bytes(10240), tmp_path, "more in it")
    refuse(packed[:-1024], tmp_path, "cut off")


@pytest.mark.parametrize("size", [1 << 33, (1 << 63) - 1, 8**11 - 1])
def test_a_manifest_that_asks_for_more_than_there_is(
    members: Members, tmp_path: Path, size: int
) -> None:
    info, text = members[0]
    manifest = json.loads(text)
    manifest["files"]["model.plan"]["size"] = size
    members[0] = (info, json.dumps(manifest).encode())
    info.size = len(members[0][1])
    refuse(write(members), tmp_path, "cut off: [0-9]+ bytes where [0-9]+ belong")
    assert not list((tmp_path / "deep/out").iterdir())


def test_a_manifest_without_end(members: Members, tmp_path: Path) -> None:
    info, text = members[0]
    members[0] = (info, text + b" " * (1 << 20))
    info.size = len(members[0][1])
    refuse(write(members), tmp_path, r"manifest\.json is longer than 1048576 bytes")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_byte_that_differs_is_found(
    packed: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    tmp_path = tmp_path_factory.getbasetemp() / "differs"
    tmp_path.mkdir(exist_ok=True)
    # minisign's first line is nobody's word: anyone may write another, and no signature covers it.
    comment = packed.index(b"untrusted comment:")
    trusted = set(range(len(packed))) - set(range(comment, packed.index(b"\n", comment)))
    position = data.draw(st.sampled_from(sorted(trusted)))
    other = data.draw(st.integers(1, 255))
    content = bytearray(packed)
    content[position] ^= other
    file = tmp_path / "x.edgekit"
    file.write_bytes(content)
    with pytest.raises((PlanError, SignatureError)), unpacked(file, key=KEY.public):
        pass


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_file_that_ends_early_is_found(
    packed: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    tmp_path = tmp_path_factory.getbasetemp() / "ends"
    tmp_path.mkdir(exist_ok=True)
    block = data.draw(st.integers(0, len(packed) // 512 - 1))
    file = tmp_path / "x.edgekit"
    file.write_bytes(packed[: 512 * block + data.draw(st.sampled_from([0, 1, 511]))])
    with pytest.raises(PlanError), unpacked(file):
        pass


PARTS = st.text("ab.é", min_size=1, max_size=20).filter(lambda part: part.strip("."))
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(PATHS, st.binary(max_size=1100), max_size=4))
def test_any_extra_files_come_back(
    tmp_path_factory: pytest.TempPathFactory, extra: dict[str, bytes]
) -> None:
    plain = {
        name: content
        for name, content in extra.items()
        if not any(other.startswith(name + "/") for other in extra)
    }
    folder = tmp_path_factory.getbasetemp() / "extra"
    folder.mkdir(exist_ok=True)
    bundle = make(folder / "bundle", extra=plain)
    file = pack_bundle(bundle.path, folder / "x.edgekit")
    with unpacked(file) as again:
        assert read_bundle(again).files == bundle.files


def test_errors_name_the_file_and_not_where_it_was_unpacked(
    tmp_path: Path, members: Members
) -> None:
    index = [info.name for info, _ in members].index("model.plan")
    members[index] = (members[index][0], b"plam")
    refuse(write(members), tmp_path, r"forged\.edgekit: model\.plan: changed")
    with pytest.raises(OSError, match=r"absent\.edgekit"):
        unpack(tmp_path / "absent.edgekit", tmp_path)


def test_errors_of_whoever_uses_it_name_the_file(packed: bytes, tmp_path: Path) -> None:
    file = tmp_path / "x.edgekit"
    file.write_bytes(packed)
    with (
        pytest.raises(PlanError, match=r"x\.edgekit/labels\.txt: not UTF-8$"),
        unpacked(file) as folder,
    ):
        raise PlanError(f"{folder / 'labels.txt'}: not UTF-8")
