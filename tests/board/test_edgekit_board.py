"""What edgekit-board takes, runs, refuses and takes back."""

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from device_root import Device, make_device
from signed_bundles import BOARD, KEY, LAYERS, make_bundle

from edgekit.bundles.minisign import SecretKey, sign


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return make_device(tmp_path / "device")


def digest_manifest(bundle: Path) -> str:
    return hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()


def write_manifest(bundle: Path, manifest: Any) -> None:
    """Replaces a bundle's manifest and signs it."""
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    (bundle / "manifest.json").write_bytes(text)
    (bundle / "manifest.json.minisig").write_text(sign(text, KEY, "test").to_text())


def begin_words(device: Device, bundle: Path) -> tuple[list[str], bytes]:
    ((words, stdin),) = device.steps(bundle)
    return words[2:], stdin


def refuse_begin(device: Device, bundle: Path) -> str:
    words, stdin = begin_words(device, bundle)
    return device.refuse(*words, stdin=stdin)


def test_a_bundle_is_taken_checked_and_confirmed(device: Device, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "one", release=3)
    assert device.run("start").returncode == 3
    device.send(bundle)
    assert device.status["trial"] == "-"
    health = json.loads(device.do("switch"))
    assert health == {
        "slot": "a",
        "layers_equal": 1,
        "median_us": 1500,
        "peak_resident_bytes": 4096,
    }
    assert device.status | {"version": ""} == {
        "version": "",
        "board": BOARD,
        "active": "-",
        "trial": "a",
        "starts": 3,
        "floor": 0,
        "sequence": 1,
        "slots": {"a": {"release": 3, "manifest_sha256": digest_manifest(bundle)}},
    }
    assert device.do("start") == f"{device.root}/slots/a\n"
    assert os.readlink(device.root / "current") == "slots/a"
    device.do("confirm")
    device.do("confirm")
    assert device.status["active"] == "a"
    assert device.status["floor"] == 3
    for name, mode in (("edgekit-run", 0o755), ("edgekit-board", 0o755), ("model.plan", 0o644)):
        assert (device.root / "slots/a" / name).stat().st_mode & 0o777 == mode
    for file in bundle.rglob("*"):
        if file.is_file():
            there = device.root / "slots/a" / file.relative_to(bundle)
            assert there.read_bytes() == file.read_bytes()
    assert "slot a is confirmed: release 3" in device.log


def test_a_trial_that_is_never_confirmed_is_taken_back(device: Device, tmp_path: Path) -> None:
    device.install(make_bundle(tmp_path / "one"))
    device.send(make_bundle(tmp_path / "two", plan=b"new"))
    device.do("switch")
    starts = [device.do("start").strip()[-1] for _ in range(5)]
    assert starts == ["b", "b", "b", "a", "a"]
    assert "never confirmed" in device.log
    assert device.status["active"] == "a"
    device.do("check", "a")


def test_a_trial_is_taken_back_by_hand(device: Device, tmp_path: Path) -> None:
    device.install(make_bundle(tmp_path / "one"))
    device.send(make_bundle(tmp_path / "two", plan=b"new"))
    device.do("switch")
    assert "on trial" in device.refuse("switch")
    assert "on trial" in refuse_begin(device, tmp_path / "one")
    assert "on trial" in device.refuse("put", "model.plan", "0")
    device.do("back", "too warm")
    assert device.do("start").strip()[-1] == "a"
    assert "goes back to slot a: too warm" in device.log


def test_the_former_bundle_comes_back(device: Device, tmp_path: Path) -> None:
    assert "nothing is installed" in device.refuse("back", "why")
    assert "nothing is installed" in device.refuse("confirm")
    device.install(make_bundle(tmp_path / "one", release=1))
    assert "nothing to go back to" in device.refuse("back", "why")
    device.install(make_bundle(tmp_path / "two", release=2, plan=b"new"))
    assert device.status["active"] == "b"
    device.do("back", "wrong answers")
    assert device.status["active"] == "a"
    assert device.status["floor"] == 2
    (device.root / "slots/b/model.plan").write_bytes(b"torn")
    assert "missing or changed" in device.refuse("back", "again")
    assert device.status["active"] == "a"


def test_there_is_no_way_back_to_a_bundle_that_was_refused(device: Device, tmp_path: Path) -> None:
    device.install(make_bundle(tmp_path / "one", release=1))
    device.install(make_bundle(tmp_path / "two", release=2, plan=b"new"))
    device.send(make_bundle(tmp_path / "three", release=3, plan=b"3", ending="exit 3"))
    device.refuse("switch")
    error = device.refuse("back", "why")
    assert "nothing to go back to" in error
    assert "ended with exit status 3" in error
    assert device.status["active"] == "b"


def test_only_what_is_missing_is_wanted(device: Device, tmp_path: Path) -> None:
    device.install(make_bundle(tmp_path / "one"))
    two = make_bundle(tmp_path / "two", plan=b"x" * 100)
    assert device.begin(two) == [(0, 100, "model.plan")]
    error = device.refuse("put", "model.plan", "0", stdin=b"x" * 40)
    assert "ended after 40 of 100 bytes; what came is kept" in error
    assert device.begin(two) == [(40, 100, "model.plan")]
    assert "40 bytes are here, not 41" in device.refuse("put", "model.plan", "41", stdin=b"x" * 59)
    # What is sent again takes the place of what came.
    device.refuse("put", "model.plan", "30", stdin=b"x" * 10)
    device.do("put", "model.plan", "40", stdin=b"x" * 60)
    assert device.begin(two) == []
    device.do("switch")


def test_status_tells_of_bundles_that_the_device_trusts(device: Device, tmp_path: Path) -> None:
    assert device.status["slots"] == {}
    one, two = make_bundle(tmp_path / "one", release=1), make_bundle(tmp_path / "two", release=2)
    device.install(one)
    device.begin(two)
    slots = {
        "a": {"release": 1, "manifest_sha256": digest_manifest(one)},
        "b": {"release": 2, "manifest_sha256": digest_manifest(two)},
    }
    assert device.status["slots"] == slots
    (device.root / "slots/b/manifest.json").write_text("{}")
    assert device.status["slots"] == {"a": slots["a"]}


def test_wrong_bytes_are_not_kept(device: Device, tmp_path: Path) -> None:
    two = make_bundle(tmp_path / "two", plan=b"x" * 100)
    device.begin(two)
    error = device.refuse("put", "model.plan", "0", stdin=b"y" * 100)
    assert "not the bytes that the manifest says; send it again" in error
    error = device.refuse("put", "model.plan", "0", stdin=b"x" * 101)
    assert "more than the 100 bytes that the manifest says" in error
    assert (0, 100, "model.plan") in device.begin(two)
    assert "no file of the bundle" in device.refuse("put", "../state", "0", stdin=b"")
    assert "missing or changed" in device.refuse("switch")


def test_another_bundle_takes_the_place_of_one_that_was_begun(
    device: Device, tmp_path: Path
) -> None:
    device.send(make_bundle(tmp_path / "one"))
    three = make_bundle(tmp_path / "three", plan=b"3", edit=move_input)
    (three / "golden/inputs/0.npy").rename(three / "x.npy")
    device.send(three)
    assert sorted(path.name for path in (device.root / "slots/a").iterdir()) == [
        "edgekit-board",
        "edgekit-run",
        "golden",
        "manifest.json",
        "manifest.json.minisig",
        "model.plan",
        "x.npy",
    ]
    device.do("switch")


def move_input(manifest: dict[str, Any]) -> None:
    """Lists the golden input as x.npy."""
    manifest["files"]["x.npy"] = manifest["files"].pop("golden/inputs/0.npy")
    manifest["golden"]["inputs"][0]["file"] = "x.npy"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": [LAYERS[0] | {"sha256": "cd" * 32}]}, "layer conv computes other bytes"),
        ({"layers": LAYERS * 2}, "not of the layers that run"),
        ({"answer": {"digests": []}}, "not of the layers that run"),
        ({"answer": {"outputs": []}}, "other outputs than the golden ones"),
        ({"answer": {"outputs": [{"name": "y", "file": "../../../state"}]}}, "other outputs"),
        ({"ending": 'echo wrong > "$out/0.npy"'}, "output y has other bytes"),
        ({"ending": "echo }"}, "not valid JSON"),
        ({"ending": "exit 3"}, "ended with exit status 3"),
        ({"ending": "kill -SEGV $$"}, "was ended by signal 11"),
        ({"answer": {"median_ms": None}}, "did not say how long it took"),
        ({"answer": {"median_ms": -1}}, "impossible time"),
        ({"limits": {"latency_us": 1499}}, "takes 1500 us, and at most 1499 are allowed"),
        ({"limits": {"memory_bytes": 4095}}, "holds 4096 bytes, and at most 4095 are allowed"),
    ],
)
def test_a_bundle_that_computes_wrongly_or_too_slowly_is_not_switched_to(
    device: Device, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    device.install(make_bundle(tmp_path / "good"))
    device.send(make_bundle(tmp_path / "bad", plan=b"bad", **changes))
    assert message in device.refuse("switch")
    assert "refuses slot b: " in device.log
    assert device.do("start").strip()[-1] == "a"
    assert not (device.root / "check").exists()


def test_limits_that_are_kept_are_no_hindrance(device: Device, tmp_path: Path) -> None:
    limits = {"latency_us": 1500, "memory_bytes": 4096}
    device.install(make_bundle(tmp_path / "good", limits=limits))


def test_older_releases_are_refused(device: Device, tmp_path: Path) -> None:
    device.install(make_bundle(tmp_path / "three", release=3))
    assert "is release 2, and this device takes none before 3" in refuse_begin(
        device, make_bundle(tmp_path / "two", release=2)
    )
    device.install(make_bundle(tmp_path / "other", release=3, plan=b"same release"))


def test_an_older_release_that_lay_there_already_is_refused(device: Device, tmp_path: Path) -> None:
    device.install(make_bundle(tmp_path / "one", release=1))
    device.install(make_bundle(tmp_path / "two", release=2, plan=b"2"))
    assert "takes none before 2" in device.refuse("switch")


def test_another_board_s_bundle_is_refused(device: Device, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "one", board="rpi5")
    assert "the bundle is for rpi5, and this is rpi4" in refuse_begin(device, bundle)


def test_only_keys_of_the_device_may_sign(device: Device, tmp_path: Path) -> None:
    stranger = SecretKey(b"stranger", bytes(32))
    bundle = make_bundle(tmp_path / "one", key=stranger)
    assert "no key of this device is of that name" in refuse_begin(device, bundle)
    namesake = SecretKey(KEY.key_id, bytes(32))
    bundle = make_bundle(tmp_path / "two", key=namesake)
    assert "the signature does not fit" in refuse_begin(device, bundle)
    (device.root / "keys/new.pub").write_text(stranger.public.to_text())
    device.install(make_bundle(tmp_path / "one", key=stranger))
    (device.root / "keys/new.pub").unlink()
    assert "no key of this device" in device.refuse("check", "a")


@pytest.mark.slow
def test_every_changed_byte_of_manifest_and_signature_is_refused(
    device: Device, tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "one")
    words, whole = begin_words(device, bundle)
    # The untrusted comment is the first line, and the only part that nobody signed.
    first = whole.index(b"\n") + 1
    for at in range(first, len(whole)):
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        assert device.run(*words, stdin=changed).returncode == 1, at
    for size in (0, 1, first, len(whole) // 2, len(whole) - 1):
        assert device.run(*words, stdin=whole[:size]).returncode == 1, size
    assert not (device.root / "slots/a").exists()


@pytest.mark.parametrize("name", ["model.plan", "edgekit-run", "golden/digests.json"])
def test_a_file_changed_on_the_device_is_found(device: Device, tmp_path: Path, name: str) -> None:
    bundle = make_bundle(tmp_path / "one")
    device.send(bundle)
    path = device.root / "slots/a" / name
    content = path.read_bytes()
    for at in (0, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert f"{name}: missing or changed" in device.refuse("switch")
    path.write_bytes(content[:-1])
    assert "missing or changed" in device.refuse("switch")
    path.unlink()
    assert "missing or changed" in device.refuse("switch")
    path.symlink_to(bundle / name)
    assert "neither a file nor a folder" in device.refuse("switch")
    path.unlink()
    path.write_bytes(content)
    (device.root / "slots/a/more").write_bytes(b"")
    assert "more: not listed in manifest.json" in device.refuse("switch")
    # What is there besides goes, what is changed is wanted again.
    path.write_bytes(b"")
    for offset, _, missing in device.begin(bundle):
        assert missing == name
        device.do("put", missing, str(offset), stdin=content[offset:])
    device.do("switch")


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "/x",
        "a/../x",
        "a//x",
        "./x",
        "",
        "a/",
        "a\\x",
        "manifest.json",
        "a\nb",
        "x" * 256,
        "/".join("a" * 17),
        "manifest.json.minisig",
        "model.plan/x",
    ],
)
def test_paths_that_leave_the_bundle_are_refused(device: Device, tmp_path: Path, path: str) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["files"][path] = {"size": 1, "sha256": "0" * 64}

    error = refuse_begin(device, make_bundle(tmp_path / "one", edit=edit))
    assert "not a plain path inside the bundle" in error or "lies in a file" in error
    assert not (device.root / "slots/a").exists()


def edit_size(size: Any) -> Any:
    return lambda manifest: manifest["files"]["model.plan"].update(size=size)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda manifest: manifest.update(schema=2), "its schema is not 1"),
        (lambda manifest: manifest.pop("schema"), "its schema is not 1"),
        (lambda manifest: manifest.pop("target"), "no 'target.name'"),
        (lambda manifest: manifest.update(target={"name": 4}), "no 'target.name'"),
        (lambda manifest: manifest.update(files=[]), "no 'files'"),
        (lambda manifest: manifest["files"].pop("model.plan"), "no model.plan"),
        (lambda manifest: manifest["files"].pop("edgekit-run"), "no edgekit-run"),
        (lambda manifest: manifest["files"].pop("golden/digests.json"), "no golden/digests.json"),
        (lambda manifest: manifest["files"].update(x={}), "must have 'sha256' and 'size'"),
        (lambda manifest: manifest["files"].update(x=[]), "must have 'sha256' and 'size'"),
        (
            lambda manifest: manifest["files"].update(x={"size": 1, "sha256": "AB" * 32}),
            "must have 'sha256' and 'size'",
        ),
        (edit_size(-1), "must have 'sha256' and 'size'"),
        (edit_size(1.5), "must have 'sha256' and 'size'"),
        (edit_size(2**63), "must have 'sha256' and 'size'"),
        (edit_size(2**63 - 1), "must have 'sha256' and 'size'"),
        (edit_size(2**50), "has room for"),
        (lambda manifest: manifest.pop("golden"), "no 'golden.inputs'"),
        (lambda manifest: manifest["golden"].update(outputs=[]), "no 'golden.outputs'"),
        (
            lambda manifest: manifest["golden"]["inputs"][0].update(file="/etc/passwd"),
            "names no file of the bundle",
        ),
        (lambda manifest: manifest.update(release="3"), "'release' is no count"),
        (lambda manifest: manifest.update(limits={"latency_us": -1}), "'latency_us' is no count"),
    ],
)
def test_manifests_that_are_signed_and_wrong_are_refused(
    device: Device, tmp_path: Path, edit: Any, message: str
) -> None:
    assert message in refuse_begin(device, make_bundle(tmp_path / "one", edit=edit))
    assert not (device.root / "slots/a").exists()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"{}x",
        b'{"schema": 1, "schema": 1}',
        b"[" * 100000,
        b'"\\ud800"',
        b'"\xff"',
        b'"\\u0000"',
        b"01",
        b"1.",
        b"1e",
        b"nul",
        b'"a\nb"',
        b"{,}",
        b"[1,]",
        b" " * (1 << 20),
    ],
)
def test_what_is_no_manifest_is_refused(device: Device, tmp_path: Path, text: bytes) -> None:
    bundle = make_bundle(tmp_path / "one")
    write_manifest(bundle, text)
    assert "manifest.json: " in refuse_begin(device, bundle)


def test_a_lost_state_is_made_anew(device: Device, tmp_path: Path) -> None:
    device.install(make_bundle(tmp_path / "one", release=1))
    device.install(make_bundle(tmp_path / "two", release=2, plan=b"2"))
    text = (device.root / "state").read_text()
    for broken in ("", text[:-2], text.replace("floor 2", "floor 0"), text + "x", "\0" * 74):
        (device.root / "state").write_text(broken)
        assert device.do("start").strip()[-1] == "b"
        assert device.status["floor"] == 2
    (device.root / "state").unlink()
    (device.root / "slots/b/model.plan").write_bytes(b"torn")
    assert device.do("start").strip()[-1] == "a"
    assert "state was lost; made anew with slot a" in device.log


def test_a_lost_state_brings_back_nothing_that_was_refused(device: Device, tmp_path: Path) -> None:
    device.install(make_bundle(tmp_path / "one", release=1))
    wrong = [LAYERS[0] | {"sha256": "cd" * 32}]
    device.send(make_bundle(tmp_path / "two", release=2, layers=wrong))
    device.refuse("switch")
    (device.root / "state").unlink()
    assert device.do("start").strip()[-1] == "a"
    assert "made anew with slot a, b: layer conv computes other bytes here" in device.log


def test_a_folder_in_use_is_not_made_anew(device: Device, tmp_path: Path) -> None:
    error = device.refuse("init", BOARD, str(tmp_path / "key.pub"))
    assert "exists and is in use" in error
    other = Device(tmp_path / "other", device.program)
    assert "no device's folder" in other.refuse("status")
    assert "no public key" in other.refuse("init", BOARD, str(device.root / "board"))
    assert "no name of a board" in other.refuse("init", "a/b", str(tmp_path / "key.pub"))


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("begin",),
        ("begin", "x"),
        ("begin", "99999999"),
        ("put", "model.plan"),
        ("check", "c"),
        ("back",),
        ("status", "x"),
        ("fly",),
        ("init",),
    ],
)
def test_wrong_usage_is_told(device: Device, words: tuple[str, ...]) -> None:
    done = device.run(*words)
    assert done.returncode == 2
    assert b"usage: edgekit-board" in done.stderr


@pytest.mark.parametrize(
    ("word", "answer"), [("--version", "edgekit-board "), ("--help", "usage: edgekit-board ")]
)
def test_it_says_what_it_is(device: Device, word: str, answer: str) -> None:
    done = subprocess.run([device.program, word], check=True, capture_output=True, text=True)
    assert done.stdout.startswith(answer)


def test_two_installers_at_once_leave_one_whole_bundle(device: Device, tmp_path: Path) -> None:
    device.install(make_bundle(tmp_path / "now"))
    bundles = [make_bundle(tmp_path / name, plan=name.encode() * 999) for name in ("one", "two")]
    script = """
    set -e
    sent=$(stat -c %s "$3/manifest.json.minisig")
    cat "$3/manifest.json.minisig" "$3/manifest.json" | "$1" "$2" begin "$sent" > "$3.wanted"
    while read offset size path; do
      tail -c +$((offset + 1)) "$3/$path" | "$1" "$2" put "$path" "$offset"
    done < "$3.wanted"
    "$1" "$2" switch
    """
    installers = [
        subprocess.Popen(
            ["sh", "-c", script, "sh", device.program, device.root, bundle],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for bundle in bundles
    ]
    done = [installer.wait() for installer in installers]
    if device.status["trial"] != "-":
        device.do("check", "b")
        winner = (device.root / "slots/b/model.plan").read_bytes()
        assert winner in [(bundle / "model.plan").read_bytes() for bundle in bundles]
    else:
        assert 0 not in done
    device.do("check", "a")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small file system")
def test_a_full_disk_leaves_what_runs(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", small], check=True)
    try:
        device = make_device(small / "device")
        device.install(make_bundle(tmp_path / "one"))
        large = make_bundle(tmp_path / "large", plan=bytes(3 << 20))
        assert "has room for" in refuse_begin(device, large)
        # Room when it began, and none left when the bytes come.
        fits = make_bundle(tmp_path / "fits", plan=os.urandom(1 << 20))
        wanted = device.begin(fits)
        (small / "other").write_bytes(bytes((2 << 20) + (256 << 10)))
        ((offset, _, path),) = wanted
        error = device.refuse("put", path, str(offset), stdin=(fits / path).read_bytes())
        assert "No space left on device" in error
        assert device.do("start").strip()[-1] == "a"
        (small / "other").unlink()
        device.do("check", "a")
        device.send(fits)
        device.do("switch")
        # Full again, so that no start of the trial can be counted: what was confirmed runs.
        with pytest.raises(OSError, match="No space left"):
            (small / "other").write_bytes(bytes(3 << 20))
        assert device.do("start").strip()[-1] == "a"
        (small / "other").unlink()
        assert device.do("start").strip()[-1] == "b"
        device.do("confirm")
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_clock_that_is_set_back_changes_nothing(device: Device, tmp_path: Path) -> None:
    device.install(make_bundle(tmp_path / "one", release=1))
    for path in device.root.rglob("*"):
        if not path.is_symlink():
            os.utime(path, (0, 0))
    device.install(make_bundle(tmp_path / "two", release=2, plan=b"2"))
    numbers = [int(line.split(" ", 2)[1]) for line in device.log.splitlines()]
    assert numbers == sorted(numbers)
    assert device.status["active"] == "b"
