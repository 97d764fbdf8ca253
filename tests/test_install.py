"""The installed wheel is what is tested, not the source tree beside it."""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import edgekit

installed = pytest.mark.skipif(
    os.environ.get("EDGEKIT_TEST_INSTALLED") != "1",
    reason="needs the wheel: run `make test-python`",
)


@installed
def test_package_lies_in_site_packages():
    assert [Path(path).parent.name for path in edgekit.__path__] == ["site-packages"]


@installed
@pytest.mark.parametrize("folder", ["csrc", "tests", "examples"])
def test_source_tree_cannot_be_imported(folder):
    with pytest.raises(ModuleNotFoundError):
        __import__(f"edgekit.{folder}")


def test_version_is_the_distribution_s():
    assert edgekit.__version__ == importlib.metadata.version("edgekit")


def test_import_is_lazy():
    code = "import edgekit, sys; print(*sorted({'onnxruntime', 'onnx', 'PIL', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_public_name_can_be_had():
    for name in edgekit.__all__:
        assert getattr(edgekit, name) is not None


def test_distillation_says_that_it_needs_torch():
    if importlib.util.find_spec("torch") is not None:
        assert callable(edgekit.distill)
    else:
        with pytest.raises(edgekit.ToolError, match="PyTorch"):
            _ = edgekit.distill
