"""The command line: what it prints, that --json is JSON, and its exit codes."""

import json
import shutil
import subprocess
import sys
import types

import numpy as np
import onnx
import pytest
from PIL import Image

import edgekit
from edgekit.__main__ import main


def edgekit_command(*words, cwd=None):
    """Runs the command as a user would; returns its exit code, output and error output."""
    command = [sys.executable, "-m", "edgekit", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def here(capsys, monkeypatch):
    """Does as `edgekit_command` in this process, which has imported what takes long."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["edgekit", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, images):
    folder = tmp_path_factory.mktemp("pictures")
    for index, image in enumerate(images[:8]):
        pixels = np.clip(image.transpose(1, 2, 0) * 127 + 127, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


PREPROCESS = [
    word for item in ("size=16", "mean=127", "scale=1/128") for word in ("--preprocess", item)
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, cnn, pictures):
    folder = tmp_path_factory.mktemp("cli") / "dist"
    code, out, err = edgekit_command(
        "deploy", cnn, "--calibration", pictures, *PREPROCESS, "--output", folder, "--json"
    )
    assert code == 0, err
    facts = json.loads(out)
    assert facts["path"] == str(folder)
    assert facts["calibration"] == f"8 pictures in {pictures}"
    return folder


def test_console_script_is_installed():
    script = shutil.which("edgekit", path=str(sys.executable.rsplit("/", 1)[0]))
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"edgekit {edgekit.__version__}"


@pytest.mark.parametrize("name", ["main", "__getattr__"])
def test_an_interrupt_exits_with_130_and_no_traceback(monkeypatch, name):
    """While it runs, and while it is imported: a module without `main` asks its `__getattr__`."""

    def interrupt(*_):
        raise KeyboardInterrupt

    module = types.ModuleType("edgekit.cli")
    setattr(module, name, interrupt)
    monkeypatch.setitem(sys.modules, "edgekit.cli", module)
    with pytest.raises(SystemExit) as exited:
        main()
    assert exited.value.code == 130


def test_deploy_prints_the_report(cnn, images, tmp_path):
    np.savez(tmp_path / "samples.npz", image=images)
    code, out, err = edgekit_command(
        "deploy", cnn, "--calibration", "samples.npz", "--format", "onnx", cwd=tmp_path
    )
    assert code == 0, err
    assert "size, int8, ONNX" in out
    assert " kB" in out
    assert " 0.00 MB" not in out
    assert "written to dist" in out
    assert (tmp_path / "dist/model.onnx").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("file", ["", "model.plan"])
def test_inspect(here, bundle, file):
    code, out, err = edgekit_command("inspect", bundle / file, "--json")
    assert code == 0, err
    facts = json.loads(out)
    plan = facts.get("plan", facts)
    assert [tensor["name"] for tensor in plan["inputs"]] == ["image"]
    assert len(plan["layers"]) >= 7
    assert "kind: " in here("inspect", bundle / file)[1]


def test_inspect_onnx(cnn):
    code, out, err = edgekit_command("inspect", cnn, "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["operators"]["Conv"] == 3
    assert facts["inputs"] == [{"name": "image", "shape": ["N", 3, 16, 16], "dtype": "float"}]


def test_verify(here, bundle):
    code, out, err = edgekit_command("verify", bundle, "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["ok"]
    assert all(layer["expected"] == layer["actual"] for layer in facts["layers"])
    assert "equal" in here("verify", bundle)[1]


def test_verify_of_a_changed_file(bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    plan = bytearray((copy / "model.plan").read_bytes())
    plan[-1] ^= 1
    (copy / "model.plan").write_bytes(plan)
    code, out, err = edgekit_command("verify", copy)
    assert (code, out) == (1, "")
    assert "model.plan: changed" in err
    assert "Traceback" not in err


def test_verify_of_other_bytes(bundle, tmp_path):
    """A bundle that says it computes something else than it does."""
    import hashlib

    copy = shutil.copytree(bundle, tmp_path / "copy")
    digests = json.loads((copy / "golden/digests.json").read_text())
    digests[2]["sha256"] = "0" * 64
    (copy / "golden/digests.json").write_text(json.dumps(digests))
    manifest = json.loads((copy / "manifest.json").read_text())
    data = (copy / "golden/digests.json").read_bytes()
    manifest["files"]["golden/digests.json"] = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
    }
    (copy / "manifest.json").write_text(json.dumps(manifest))
    code, out, _ = edgekit_command("verify", copy)
    assert code == 3
    assert f"first layer that differs: {digests[2]['op']}" in out


def test_run_writes_what_the_session_computes(bundle, images, tmp_path):
    np.save(tmp_path / "in.npy", images[:2])
    code, out, err = edgekit_command(
        "run", bundle, "--input", f"image={tmp_path / 'in.npy'}", "--output-dir", tmp_path, "--json"
    )
    assert code == 0, err
    facts = json.loads(out)
    assert facts["logits"]["shape"] == [2, 10]
    expected = edgekit.load(bundle).run(images[:2])["logits"]
    np.testing.assert_array_equal(np.load(facts["logits"]["file"]), expected)


def test_an_input_given_twice_is_refused(bundle, images, tmp_path):
    np.save(tmp_path / "in.npy", images[:1])
    file = tmp_path / "in.npy"
    code, out, err = edgekit_command("run", bundle, "--input", file, "--input", f"image={file}")
    assert (code, out) == (1, "")
    assert "input 'image' was given already" in err


def test_run_takes_a_picture(bundle, pictures):
    code, out, err = edgekit_command("run", bundle, "--input", pictures / "0.png", *PREPROCESS)
    assert code == 0, err
    assert "largest:" in out


@pytest.mark.slow
def test_bench_compares_with_the_first(bundle, cnn):
    words = ["bench", cnn, bundle, "--threads", 1, "--threads", 2, "--seconds", 0, "--json"]
    code, out, err = edgekit_command(*words)
    assert code == 0, err
    facts = json.loads(out)
    assert [(row["form"], row["threads"]) for row in facts["latencies"]] == [
        (str(path), threads) for threads in (1, 2) for path in (cnn, bundle)
    ]
    assert "1.00 x" in edgekit_command(*words[:-1])[1]


def test_targets(here):
    code, out, _ = here("targets", "--json")
    assert code == 0
    assert {"host", "rpi4", "rpi5", "x86-64-v3"} <= {row["name"] for row in json.loads(out)}
    assert "Raspberry Pi 5" in here("targets")[1]
    assert "clock_mhz: 2400" in here("targets", "rpi5")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["inspect", "missing.onnx"], "missing.onnx"),
        (["inspect", "."], "error: .: no bundle: the folder holds no manifest.json"),
        (["doctor", "."], "error: .: the folder holds no .onnx and no .tflite file"),
        (["deploy", ".", "--calibration", "x.npz"], "is a folder; give the .onnx file in it"),
        (["verify", "missing"], "no such bundle"),
        (["verify", sys.executable], "no bundle: give its folder"),
        (["targets", "a" * 5000 + ".toml"], "File name too long"),
        (["run", "missing.plan", "--input", "a.npy"], "missing.plan: no such file"),
        (["bench", "missing.plan"], "missing.plan: no such file"),
        (["targets", "rpi55"], "rpi5"),
        (["deploy", "missing.onnx", "--calibration", "x.npz"], "missing.onnx"),
        (["deploy", "missing.onnx", "--calibration", "x", "--target", "rpi55"], "rpi5"),
        (
            ["deploy", "m.onnx", "--calibration", "x", "--preprocess", "size=a"],
            "not a whole number",
        ),
    ],
)
def test_mistakes_exit_with_1_and_no_traceback(here, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = here(*words)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 2


def test_a_mistake_ends_the_process_with_1(tmp_path):
    code, out, err = edgekit_command("verify", "missing", cwd=tmp_path)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [["deploy"], ["flash"], ["bench"], ["run", "a.plan"], ["targets", "--colour"]],
)
def test_wrong_usage_exits_with_2(here, words):
    assert here(*words)[0] == 2


def test_a_model_that_onnx_cannot_infer_exits_with_1_and_no_traceback(here, tmp_path, monkeypatch):
    text = """<ir_version: 8, opset_import: ["": 17]>
    net (float[N, 3] x) => (float[N, 3] y) { y = absent.Twist (x) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    code, out, err = here("inspect", "net.onnx")
    assert (code, out) == (1, "")
    assert err.startswith("error: net.onnx: ")
    assert "Twist" in err


@pytest.mark.slow
def test_bench_against_the_peers(cnn, images, tmp_path):
    np.savez(tmp_path / "samples.npz", image=images)
    samples, plot = tmp_path / "samples.npz", tmp_path / "plot.svg"
    words = ("--calibration", samples, "--seconds", 0.1, "--plot", plot, "--json")
    code, out, err = edgekit_command("bench", cnn, "--peers", *words)
    assert code == 0, err
    record = json.loads(out)
    entries = {entry["name"]: entry for entry in record["contests"][0]["entries"]}
    for name in ("edgekit int8", "ONNX Runtime int8"):
        assert not entries[name]["reason"], entries[name]["reason"]
        assert entries[name]["timings"]["1"]["median_ms"] > 0
    assert record["instruction_sets"]
    assert all(entry["timings"] or entry["reason"] for entry in entries.values())
    assert plot.is_file()


def test_bench_refuses_what_goes_with_peers_alone(here, cnn, tmp_path):
    assert here("bench", cnn, "--plot", tmp_path / "plot.svg")[0] == 2
    assert here("bench", cnn, cnn, "--peers")[0] == 2


def test_bench_against_the_peers_names_a_missing_file(here, tmp_path):
    code, _, err = here("bench", tmp_path / "none.onnx", "--peers")
    assert code == 1
    assert err.splitlines()[-1] == f"error: {tmp_path / 'none.onnx'}: no such file"


def test_one_file_does_for_the_folder(here, bundle, pictures, tmp_path):
    file = tmp_path / "model.edgekit"
    code, out, err = here("pack", bundle, "-o", file)
    assert (code, err) == (0, "")
    assert out == f"{file}: {file.stat().st_size} bytes\n"
    code, out, err = here("verify", file)
    assert code == 0, err
    assert ": equal" in out
    code, out, err = here("inspect", file, "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert (facts["kind"], facts["release"]) == ("bundle", 1)
    given = ["--input", pictures / "0.png", *PREPROCESS, "--json"]
    assert here("run", file, *given) == here("run", bundle, *given)
    code, _, err = here("bench", file, "--seconds", 0)
    assert code == 0, err
    assert here("doctor", file) == (
        1,
        "",
        f"error: {file}: the folder holds no .onnx and no .tflite file, which is what can be examined\n",
    )
    code, out, err = here("unpack", file, "-o", tmp_path / "again")
    assert (code, err) == (0, "")
    assert (tmp_path / "again/manifest.json").read_bytes() == (
        bundle / "manifest.json"
    ).read_bytes()


def test_a_bundle_knows_how_a_picture_becomes_its_input(here, bundle, pictures, tmp_path):
    given = ["run", bundle, "--input", pictures / "0.png", "--json"]
    known = here(*given)
    assert known == here(*given, *PREPROCESS)
    assert known != here(*given, "--preprocess", "size=16")
    code, _, err = here("run", bundle / "model.plan", "--input", pictures / "0.png")
    assert code == 1
    assert "say how the picture becomes an input" in err


def test_deploy_measures_by_pictures_in_folders(here, cnn, pictures, tmp_path):
    (tmp_path / "labels.txt").write_text("".join(f"class {i}\n" for i in range(10)))
    (tmp_path / "test/class 3").mkdir(parents=True)
    for number in range(4):
        shutil.copy(pictures / f"{number}.png", tmp_path / "test/class 3")
    given = ["deploy", cnn, "--calibration", pictures, *PREPROCESS, "--output", tmp_path / "dist"]
    given += ["--evaluate", tmp_path / "test", "--ranges", "minmax", "--precision", "int8"]
    assert here(*given)[0] == 2
    code, out, err = here(*given, "--labels", tmp_path / "labels.txt", "--max-drop", 1, "--json")
    assert code == 0, err
    facts = json.loads((tmp_path / "dist/certificate.json").read_text())["evaluation"]
    assert facts["worst_class"]["label"] == "class 3"
    assert facts["deployed"]["share"] == json.loads(out)["accuracy"]["int8"]


def test_a_release_of_either_kind(here, bundle, tmp_path):
    mine = tmp_path / "dist"
    shutil.copytree(bundle, mine)
    secret = tmp_path / "team.key"
    code, _, err = here("keygen", tmp_path / "team", "--no-password")
    assert code == 0, err
    code, out, err = here("release", mine, "--max-ms", 20, "--sign-with", secret)
    assert code == 0, err
    assert f"{mine}: release 2, signed by" in out
    file = tmp_path / "dist.edgekit"
    assert here("pack", mine)[0] == 0
    code, out, err = here("release", file, "--release", 9, "--json")
    assert code == 0, err
    assert json.loads(out) == {"release": 9, "limits": {"latency_us": 20000}, "signer": None}
    code, _, err = here("verify", file, "--key", tmp_path / "team.pub")
    assert (code, err) == (
        1,
        f"error: {file}/manifest.json.minisig: missing: the bundle is not signed\n",
    )
    code, out, err = here("sign", file, "--key", secret)
    assert code == 0, err
    assert here("verify", file, "--key", tmp_path / "team.pub")[0] == 0
    code, _, err = here("release", file, "--no-limits", "--max-mb", 3)
    assert code == 2
    assert "--no-limits goes without" in err


def test_a_bundle_is_signed_and_checked(here, bundle, tmp_path):
    mine = tmp_path / "dist"
    shutil.copytree(bundle, mine)
    code, out, err = here("keygen", tmp_path / "team.v1", "--no-password")
    assert (code, err) == (0, "")
    secret, public = tmp_path / "team.v1.key", tmp_path / "team.v1.pub"
    name = public.read_text().split()[5]
    assert out.split() == f"key {name}: {secret}, to be kept secret, and {public}".split()

    code, out, err = here("verify", mine, "--key", public)
    assert (code, err) == (
        1,
        f"error: {mine}/manifest.json.minisig: missing: the bundle is not signed\n",
    )
    code, out, err = here("sign", mine, "--key", secret)
    assert (code, err) == (0, "")
    assert out.split() == f"signed by {name}: {mine}/manifest.json.minisig".split()
    code, out, err = here("verify", mine, "--key", public)
    assert (code, err) == (0, "")
    assert f"signed by {name}" in out
    code, out, err = here("verify", mine, "--key", public, "--json")
    assert json.loads(out)["signer"] == name

    here("keygen", tmp_path / "other", "--no-password")
    code, out, err = here("verify", mine, "--key", tmp_path / "other.pub")
    assert code == 1
    assert f"signed by the key {name}, not by" in err
    code, out, err = here("keygen", tmp_path / "other", "--no-password")
    assert code == 1
    assert "never overwritten" in err
