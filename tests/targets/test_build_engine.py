"""The script that builds an engine on the board, with a recorded stand-in for trtexec that checks what it is told."""

import shutil
import subprocess
from pathlib import Path

import pytest

from edgekit.targets.profile import ENGINES_DIR

SCRIPT = ENGINES_DIR / "build-engine.sh"

# What each TensorRT's `trtexec --help` begins with and lists; 11 has no flags of precision any more.
BANNER = "&&&& RUNNING TensorRT.trtexec [TensorRT v{}] # trtexec --help"
COMMON = "--onnx= --saveEngine= --timingCacheFile= --useDLACore= --allowGPUFallback --calib="
HELP = {
    "8201": f"{COMMON} --int8 --fp16 --workspace=N --buildOnly",
    "8502": f"{COMMON} --int8 --fp16 --memPoolSize=poolspec --buildOnly",
    "8602": f"{COMMON} --int8 --fp16 --memPoolSize=poolspec --skipInference",
    "110000": f"{COMMON} --memPoolSize=poolspec --skipInference",
}
STAND_IN = """#!/bin/sh
if [ "$1" = --help ]; then
    cat "$0.help"
    exit 0
fi
printf '%s\\n' "$@" >"$0.arguments"
[ ! -e "$0.fails" ] || exit 1
for word in "$@"; do
    case $word in
        --saveEngine=*) [ -e "$0.silent" ] || echo engine >"${word#--saveEngine=}" ;;
    esac
done
"""


@pytest.fixture
def board(tmp_path):
    """Returns a function that makes a deployment's folder and a trtexec on a PATH of their own."""

    def make(version="8502", precision="int8", dla_cores=2):
        folder, programs = tmp_path / "a bundle", tmp_path / "bin"
        folder.mkdir()
        programs.mkdir()
        shutil.copy(SCRIPT, folder)
        (folder / "engine.conf").write_text(f"precision={precision}\ndla_cores={dla_cores}\n")
        (folder / "model.onnx").write_bytes(b"network")
        if dla_cores:
            (folder / "model.dla.onnx").write_bytes(b"network")
            (folder / "model.dla.ranges").write_text("x: 3c010a14\n")
        if version:
            program = programs / "trtexec"
            program.write_text(STAND_IN)
            program.chmod(0o755)
            Path(f"{program}.help").write_text(f"{BANNER.format(version)}\n{HELP[version]}\n")
        return folder, programs

    return make


def run(folder, programs, *words):
    environment = {"PATH": f"{programs}:/usr/bin:/bin"}
    command = ["sh", str(folder / SCRIPT.name), *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def told(programs):
    return set((programs / "trtexec.arguments").read_text().splitlines())


@pytest.mark.parametrize(
    ("version", "expected", "left_out"),
    [
        ("8201", {"--int8", "--fp16", "--workspace=1024", "--buildOnly"}, "--memPoolSize"),
        (
            "8502",
            {"--int8", "--fp16", "--memPoolSize=workspace:1024", "--buildOnly"},
            "--workspace",
        ),
        ("8602", {"--int8", "--fp16", "--skipInference"}, "--buildOnly"),
        ("110000", {"--skipInference", "--memPoolSize=workspace:1024"}, "--fp16"),
    ],
)
def test_each_version_gets_the_options_that_it_knows(board, version, expected, left_out):
    folder, programs = board(version)
    done = run(folder, programs)
    assert done.returncode == 0, done.stderr
    words = told(programs)
    assert expected <= words
    assert not any(word.startswith(left_out) for word in words)
    assert ("--int8" in words) == (version != "110000")
    assert f"--onnx={folder}/model.onnx" in words
    assert f"--timingCacheFile={folder}/timing.cache" in words
    assert not any("DLA" in word for word in words)
    assert (folder / "model.engine").read_text() == "engine\n"
    assert not (folder / "model.engine.part").exists()


def test_a_gpu_without_int8_gets_float16(board):
    folder, programs = board("8201", precision="fp16", dla_cores=0)
    assert run(folder, programs).returncode == 0
    assert "--fp16" in told(programs)
    assert "--int8" not in told(programs)


def test_options_reach_trtexec(board, tmp_path):
    folder, programs = board()
    engine = tmp_path / "my engine"
    done = run(
        folder,
        programs,
        *("--output", str(engine), "--no-timing-cache", "--no-fp16", "--workspace", "256"),
    )
    assert done.returncode == 0, done.stderr
    words = told(programs)
    assert engine.read_text() == "engine\n"
    assert "--memPoolSize=workspace:256" in words
    assert "--fp16" not in words
    assert not any("timing" in word for word in words)


def test_dla_gets_floats_and_ranges(board):
    folder, programs = board()
    assert run(folder, programs, "--dla", "1").returncode == 0
    words = told(programs)
    cache = folder / "model.dla.cache"
    assert {"--useDLACore=1", "--allowGPUFallback", "--int8", "--fp16"} <= words
    assert {f"--onnx={folder}/model.dla.onnx", f"--calib={cache}"} <= words
    assert cache.read_text() == "TRT-8502-EntropyCalibration2\nx: 3c010a14\n"


def test_dry_run_does_nothing(board):
    folder, programs = board()
    done = run(folder, programs, "--dry-run", "--dla", "0")
    assert done.returncode == 0
    assert "--useDLACore=0" in done.stdout.splitlines()
    assert not (programs / "trtexec.arguments").exists()
    assert not (folder / "model.dla.cache").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dla", "2"], "this board has 2 DLA cores: there is no core 2"),
        (["--dla", "one"], "takes the number of a core, not 'one'"),
        (["--dla", "0", "--no-fp16"], "DLA computes int8 and float16 alone"),
        (["--dla"], "--dla needs a value"),
        (["--workspace", "1G"], "a number of MiB, not '1G'"),
        (["--fast"], "unknown option --fast"),
        (["--trtexec", "/nowhere/trtexec"], "trtexec is missing (/nowhere/trtexec)"),
    ],
)
def test_wrong_use_is_refused_in_words(board, words, message):
    folder, programs = board()
    done = run(folder, programs, *words)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (folder / "model.engine").exists()


def test_without_trtexec_it_says_where_to_get_it(board):
    folder, programs = board(version=None)
    if Path("/usr/src/tensorrt/bin/trtexec").exists():
        pytest.skip("this machine has TensorRT")
    done = run(folder, programs)
    assert done.returncode == 1
    assert "install TensorRT" in done.stderr


@pytest.mark.parametrize(("how", "message"), [("fails", "edgekit-run"), ("silent", "no engine")])
def test_a_failed_build_leaves_no_engine(board, how, message):
    folder, programs = board()
    (programs / f"trtexec.{how}").touch()
    (folder / "model.engine").write_text("the former one")
    done = run(folder, programs)
    assert done.returncode == 1
    assert message in done.stderr
    assert (folder / "model.engine").read_text() == "the former one"


@pytest.mark.parametrize("name", ["engine.conf", "model.onnx"])
def test_a_missing_file_is_named(board, name):
    folder, programs = board()
    (folder / name).unlink()
    done = run(folder, programs)
    assert done.returncode == 1
    assert f"{name} is missing" in done.stderr


def test_help(board):
    folder, programs = board()
    done = run(folder, programs, "--help")
    assert done.returncode == 0
    assert "--timing-cache" in done.stdout
