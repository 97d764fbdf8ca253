"""Without torch `distill` says how to get it."""

import subprocess
import sys

PROGRAM = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NoTorch())
import edgekit
try:
    edgekit.distill
except edgekit.ToolError as error:
    print(error)
"""


def test_without_torch_it_says_how_to_get_it():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert (
        done.stdout.strip() == 'distillation trains with PyTorch: pip install "edgekit[torch]"'
    ), done.stderr
