"""Checks that a bundle computes on its board what it computed where it was made, to the byte."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit import _native
from edgekit.benchmark import make_inputs
from edgekit.building.emulate import Machine, find_machine
from edgekit.bundles.archive import is_bundle_file, unpacked
from edgekit.bundles.bundle import TFLITE_FILE, Bundle, find_bare_forms, read_bundle
from edgekit.bundles.golden import Golden, LayerDigest, read_array
from edgekit.bundles.manifest import MANIFEST
from edgekit.bundles.minisign import PublicKey, read_public_key
from edgekit.converters.size_names import describe_shapes
from edgekit.interpreter import find_interpreter
from edgekit.session import load
from edgekit.targets.errors import ModelError, PlanError, SignatureError, ToolError

# The digest of each layer's output, and the outputs by name.
Answer = tuple[list[LayerDigest], dict[str, NDArray[Any]]]


@dataclass(frozen=True)
class LayerCheck:
    """One layer's output on the golden inputs.

    Attributes:
        op, tensor: Names of the op and its output.
        expected: SHA-256 from the bundle.
        actual: SHA-256 of what was computed now.
    """

    op: str
    tensor: str
    expected: str
    actual: str

    @property
    def equal(self) -> bool:
        """Whether every byte is the same."""
        return self.expected == self.actual


@dataclass(frozen=True)
class OutputCheck:
    """One output on the golden inputs.

    Attributes:
        name: Name of the output.
        elements: Number of its elements.
        differing: How many of them differ in any bit.
    """

    name: str
    elements: int
    differing: int

    @property
    def equal(self) -> bool:
        """Whether every byte is the same."""
        return self.differing == 0


@dataclass(frozen=True)
class Verification:
    """What checking a bundle found.

    Attributes:
        target: Name of the board's profile, "any" where there is no native form.
        machine: Where it ran: "native x86_64" or "emulated cortex-a72". It says nothing about speed.
        emulated: Whether it ran in an emulator.
        files: Number of files whose digests were checked.
        layers: Every layer, in order of execution.
        outputs: Every output.
        unchecked: What could not be checked, and why; empty where everything was.
        signer: The key by which the bundle was asked to be signed, and is; empty where none was asked for.
    """

    target: str
    machine: str
    emulated: bool
    files: int
    layers: tuple[LayerCheck, ...]
    outputs: tuple[OutputCheck, ...]
    unchecked: str = ""
    signer: str = ""

    @property
    def ok(self) -> bool:
        """Whether everything that could be checked is as it was."""
        return all(layer.equal for layer in self.layers) and all(
            output.equal for output in self.outputs
        )

    @property
    def first_difference(self) -> str | None:
        """Names the first layer that differs; the ones after it follow from it."""
        return next((layer.op for layer in self.layers if not layer.equal), None)

    def __str__(self) -> str:
        if not self.layers:
            return f"{self.target}, {self.machine}: loads\n  not checked: {self.unchecked}"
        equal = sum(layer.equal for layer in self.layers)
        lines = [
            f"{self.target}, {self.machine}: {'equal' if self.ok else 'DIFFERENT'}",
            f"  files checked: {self.files}",
            f"  layers equal: {equal} of {len(self.layers)}",
        ]
        if self.signer:
            lines.append(f"  signed by {self.signer}")
        lines += [
            f"  output {output.name}: {output.differing} of {output.elements} elements differ"
            for output in self.outputs
        ]
        if self.first_difference:
            lines.append(f"  first layer that differs: {self.first_difference}")
        return "\n".join(lines)


def verify(path: Path | str, *, threads: int = 1, key: Path | str | None = None) -> Verification:
    """Checks a bundle's files, runs its program on the golden inputs, and compares bytes.

    A folder without the native form has neither golden inputs nor digests: its networks are checked, loaded and, where
    their shapes are known, run on made-up inputs; the result says what that leaves open.

    Args:
        path: The folder of a deployment, or a bundle's one file.
        threads: Threads that the program uses; the bytes may not depend on it.
        key: File with the public key, in minisign's format, that must have signed the bundle. By default a signature is
            not looked at.

    Raises:
        SignatureError: The bundle is not signed by that key, or has no native form and so no manifest to sign.
        PlanError: A file is damaged, or manifest and plan contradict each other.
        ModelError: The ONNX or TFLite form is damaged.
        ToolError: The emulator is missing, or the program failed.
    """
    path = Path(path)
    signer = None if key is None else read_public_key(Path(key))
    if path.is_file() and not is_bundle_file(path):
        raise PlanError(
            f"{path}: no bundle: give its folder, which holds {MANIFEST}, or its one file"
        )
    with unpacked(path, key=signer) as folder:
        return _verify_folder(folder, signer, threads)


def _verify_folder(path: Path, signer: PublicKey | None, threads: int) -> Verification:
    if bare := find_bare_forms(path):
        if signer is not None:
            raise SignatureError(f"{path}: not signed: only bundles, which hold {MANIFEST}, can be")
        return _verify_forms(bare, threads)
    bundle = read_bundle(path, key=signer)
    check_plan(bundle)
    machine = find_machine(bundle.target)

    def run(golden: Golden) -> Answer:
        with tempfile.TemporaryDirectory(prefix="edgekit-verify-") as folder:
            return run_golden(bundle, machine, Path(folder), threads=threads, golden=golden)

    return compare_bundle(bundle, run, machine=machine.label, emulated=machine.emulated, key=signer)


def compare_bundle(
    bundle: Bundle,
    run: Callable[[Golden], Answer],
    *,
    machine: str,
    emulated: bool,
    key: PublicKey | None = None,
) -> Verification:
    """Runs all golden inputs of a bundle somewhere and compares every byte.

    Args:
        bundle: With checked files.
        run: Runs the bundle's program on golden inputs.
        machine: Where that is, as the result says it.
        emulated: Whether an emulator stands between.
        key: Who signed the bundle, where that was asked for.

    Raises:
        PlanError: The golden files are not of this plan.
    """
    layers: list[LayerCheck] = []
    checks: list[OutputCheck] = []
    for golden in bundle.sizes:
        label = _name_size(golden) if len(bundle.sizes) > 1 else ""
        digests, outputs = run(golden)
        layers += _compare_layers(bundle, golden, digests, label)
        checks += [
            _compare_output(name, read_array(file), outputs[name], label)
            for name, file in golden.outputs.items()
        ]
    return Verification(
        target=bundle.target.name,
        machine=machine,
        emulated=emulated,
        files=len(bundle.files),
        layers=tuple(layers),
        outputs=tuple(checks),
        signer="" if key is None else key.name,
    )


def _name_size(golden: Golden) -> str:
    """Returns what a size is called behind the names of its layers and outputs."""
    shapes = {name: read_array(file).shape for name, file in golden.inputs.items()}
    return f" at {describe_shapes(shapes)}"


def _verify_forms(files: list[Path], threads: int) -> Verification:
    runtimes = [_try_form(path, threads) for path in files]
    return Verification(
        target="any",
        machine=", ".join(runtimes),
        emulated=False,
        files=0,
        layers=(),
        outputs=(),
        unchecked="whether it computes what it did where it was made: without the native form there are no golden "
        "vectors and digests. Deploy the native form too to have them",
    )


def _try_form(path: Path, threads: int) -> str:
    """Loads an ONNX or TFLite form, runs it where its shapes are known, and returns what ran it."""
    if path.name == TFLITE_FILE:
        runtime = f"{find_interpreter()}'s interpreter"
    else:
        import onnx
        import onnxruntime

        runtime = f"ONNX Runtime {onnxruntime.__version__}"
        try:
            onnx.checker.check_model(str(path), full_check=True)
        except Exception as error:  # The checker's and protobuf's classes share no base.
            raise ModelError(f"{path}: not valid ONNX: {error}") from error
    session = load(path, threads=threads)
    if not any(None in spec.shape[1:] for spec in session.inputs):
        session.run(make_inputs(session.inputs))
    return runtime


def check_plan(bundle: Bundle) -> None:
    """Checks that plan and manifest speak of the same thing.

    Raises:
        PlanError: The plan is damaged, was made for another board or instruction set than the manifest says, or has
            other inputs and outputs than the golden arrays.
    """
    plan = _native.Plan.open(str(bundle.plan))
    target = bundle.target
    for what, said, is_ in (
        ("instruction set", target.isa, plan.isa),
        ("target", target.name, plan.target),
        ("inputs", list(bundle.inputs), [tensor.name for tensor in plan.inputs]),
        ("outputs", list(bundle.outputs), [tensor.name for tensor in plan.outputs]),
    ):
        if said != is_:
            raise PlanError(
                f"{bundle.plan}: its {what}: {is_}, but the manifest of the bundle says {said}"
            )
    if len(plan.sizes) != len(bundle.sizes):
        raise PlanError(
            f"{bundle.plan}: it has {len(plan.sizes)} sizes, but the bundle golden inputs for {len(bundle.sizes)}"
        )
    for number, (size, golden) in enumerate(zip(plan.sizes, bundle.sizes, strict=True)):
        for what, files, tensors in (
            ("inputs", golden.inputs, size.inputs),
            ("outputs", golden.outputs, size.outputs),
        ):
            given = {name: read_array(file).shape for name, file in files.items()}
            wanted = {tensor.name: tuple(tensor.shape) for tensor in tensors}
            if given != wanted:
                raise PlanError(
                    f"{bundle.path}: the golden {what} of size {number} are {describe_shapes(given)}, but the plan's "
                    f"{describe_shapes(wanted)}"
                )


def run_golden(
    bundle: Bundle,
    machine: Machine,
    folder: Path,
    *,
    threads: int = 1,
    golden: Golden | None = None,
) -> Answer:
    """Runs the bundle's program on its golden inputs.

    Args:
        bundle: What to run.
        machine: Where.
        folder: Takes the outputs.
        threads: Threads that the program uses.
        golden: The size of which the inputs are, the first by default.

    Returns:
        The digest of each layer's output, and the outputs by name.
    """
    golden = golden or bundle.sizes[0]
    printed = machine.run(write_command(bundle, golden, bundle.path, folder, threads))
    digests, files = read_answer(printed, golden, str(bundle.runner))
    return digests, {name: read_array(folder / file) for name, file in files.items()}


def write_command(
    bundle: Bundle, golden: Golden, root: PurePath, outputs: PurePath, threads: int
) -> list[str]:
    """Returns the words that run a bundle on golden inputs.

    Args:
        bundle: What to run.
        golden: On which inputs.
        root: Where the bundle lies on the machine that runs it.
        outputs: A folder there for what comes out.
        threads: Threads that the program uses.
    """
    words = [str(root / bundle.runner.name), str(root / bundle.plan.name)]
    for name, file in golden.inputs.items():
        words += ["--input", f"{name}={root / file.relative_to(bundle.path)}"]
    return [*words, "--output-dir", str(outputs), "--threads", str(threads), "--digests", "--json"]


def read_answer(
    printed: str, golden: Golden, program: str
) -> tuple[list[LayerDigest], dict[str, str]]:
    """Reads what a bundle's program printed: digests of layers, and the names of files with outputs by output.

    Raises:
        ToolError: It says something else.
    """
    try:
        answer = json.loads(printed)
        digests = [LayerDigest(d["op"], d["tensor"], d["sha256"]) for d in answer["digests"]]
        files = {str(output["name"]): str(output["file"]) for output in answer["outputs"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ToolError(f"{program} printed what edgekit cannot read: {error}") from error
    if files.keys() != golden.outputs.keys():
        raise ToolError(f"{program} wrote other outputs than {', '.join(golden.outputs)}")
    return digests, files


def _compare_layers(
    bundle: Bundle, golden: Golden, digests: list[LayerDigest], label: str
) -> list[LayerCheck]:
    """Compares the layers of one size, whose names ``label`` goes behind."""
    if [(d.op, d.tensor) for d in golden.digests] != [(d.op, d.tensor) for d in digests]:
        raise PlanError(f"{bundle.path}: the golden digests name other layers than the plan runs")
    return [
        LayerCheck(expected.op + label, expected.tensor, expected.sha256, actual.sha256)
        for expected, actual in zip(golden.digests, digests, strict=True)
    ]


def _compare_output(
    name: str, golden: NDArray[Any], actual: NDArray[Any], label: str
) -> OutputCheck:
    if (golden.dtype, golden.shape) != (actual.dtype, actual.shape):
        raise PlanError(
            f"output {name}: {actual.dtype}{list(actual.shape)}, but the golden one is "
            f"{golden.dtype}{list(golden.shape)}"
        )
    width = golden.dtype.itemsize
    expected_bytes = np.frombuffer(golden.tobytes(), np.uint8).reshape(-1, width)
    actual_bytes = np.frombuffer(actual.tobytes(), np.uint8).reshape(-1, width)
    differing = int((expected_bytes != actual_bytes).any(axis=1).sum())
    return OutputCheck(name + label, golden.size, differing)
