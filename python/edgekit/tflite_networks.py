"""The networks of a TFLite file: one, or one a signature where it holds several sizes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.data import InputSpec
from edgekit.targets.errors import EdgekitError, ModelError

Arrays = dict[str, npt.NDArray[Any]]


def open_networks(path: Path, interpreter: Any, facts: Mapping[str, Any]) -> list[TfliteNetwork]:
    """Returns the networks of a file, at least one.

    Args:
        path: The file, for errors.
        interpreter: Of it, its tensors allocated.
        facts: What edgekit wrote into its metadata; empty for the files of others.

    Raises:
        ModelError: The metadata speak of signatures that the file lacks, or that take other inputs.
    """
    versions = facts.get("sizes", [])
    if not versions:
        return [TfliteNetwork(path, interpreter, None, facts)]
    signatures = interpreter.get_signature_list()
    try:
        keys = [str(version["signature"]) for version in versions]
        if len(set(keys)) != len(keys) or set(keys) != set(signatures):
            raise ModelError(
                f"{path}: its sizes are {', '.join(keys)}, its signatures {', '.join(signatures)}"
            )
        networks = [
            TfliteNetwork(path, interpreter, key, version)
            for key, version in zip(keys, versions, strict=True)
        ]
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise ModelError(f"{path}: its metadata is damaged: {error}") from error
    outlines = {
        (
            tuple((spec.name, spec.dtype, len(spec.shape)) for spec in network.inputs),
            *network.outputs,
        )
        for network in networks
    }
    if len(outlines) > 1:
        raise ModelError(f"{path}: its signatures take other inputs or give other outputs")
    return networks


class TfliteNetwork:
    """One network in an interpreter.

    Attributes:
        inputs: What it takes, images in the source model's order.
        size: Shapes of the inputs by name, with the first dimension that the file has; 1 for what is open.
        outputs: Names of what it gives.
    """

    def __init__(
        self, path: Path, interpreter: Any, signature: str | None, facts: Mapping[str, Any]
    ) -> None:
        """Finds the inputs and outputs.

        Args:
            path: The file, for errors.
            interpreter: Of it, its tensors allocated.
            signature: Its signature's key, None where the file's first subgraph is meant.
            facts: What edgekit wrote of it.
        """
        self._path = path
        self._interpreter = interpreter
        self._runner = None if signature is None else interpreter.get_signature_runner(signature)
        self._channels_last = set(facts.get("channels_last", ()))
        self._batch: int | None = facts.get("batch")
        self._sources, self._results = self._find_borders(signature)
        self.inputs = [self._describe(name) for name in self._sources]
        self.outputs = list(self._results)
        self.size = {
            spec.name: tuple(
                (self._batch if axis == 0 and self._batch else 1) if dim is None else dim
                for axis, dim in enumerate(spec.shape)
            )
            for spec in self.inputs
        }

    def count_runs(self, count: int) -> int:
        """Returns how often it runs for inputs of a leading dimension of ``count``."""
        return 1 if self._batch is None else -(-count // self._batch)

    def run(self, inputs: Arrays) -> Arrays:
        """Returns the outputs by name.

        Raises:
            EdgekitError: The interpreter does not take the inputs.
        """
        batch = self._batch
        if batch is None:
            return self._invoke(inputs)
        counts = {len(array) for array in inputs.values() if array.ndim}
        if len(counts) != 1 or 0 in counts:
            raise EdgekitError(f"{self._path}: its inputs need one leading dimension of at least 1")
        (count,) = counts
        parts = []
        for first in range(0, count, batch):
            # The last part begins earlier where it would be too short; what it repeats is cut off.
            start = max(min(first, count - batch), 0)
            part = {name: array[start : start + batch] for name, array in inputs.items()}
            if count < batch:
                part = {
                    name: np.resize(array, (batch, *array.shape[1:]))
                    for name, array in part.items()
                }
            outputs = self._invoke(part)
            parts.append({name: array[first - start :] for name, array in outputs.items()})
        return {
            name: np.concatenate([part[name] for part in parts])[:count] for name in self.outputs
        }

    def _find_borders(self, signature: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the details of inputs and outputs, by the names that the signature gives them."""
        signatures = self._interpreter.get_signature_list()
        if signature is None and len(signatures) != 1:
            both = (self._interpreter.get_input_details(), self._interpreter.get_output_details())
            sources, results = ({str(info["name"]): info for info in infos} for infos in both)
            return sources, results
        key = next(iter(signatures)) if signature is None else signature
        names = signatures[key]
        runner = self._runner or self._interpreter.get_signature_runner(key)
        sources, results = runner.get_input_details(), runner.get_output_details()
        return {name: sources[name] for name in names["inputs"]}, {
            name: results[name] for name in names["outputs"]
        }

    def _describe(self, name: str) -> InputSpec:
        info = self._sources[name]
        signature = info.get("shape_signature", info["shape"])
        shape = [None if size < 0 else int(size) for size in signature]
        if name in self._channels_last:
            shape = [shape[axis] for axis in (0, 3, 1, 2)]
        if self._batch is not None:
            shape[0] = None
        return InputSpec(name, tuple(shape), np.dtype(info["dtype"]).name)

    def _invoke(self, inputs: Arrays) -> Arrays:
        turned = {
            name: np.ascontiguousarray(array.transpose(0, 2, 3, 1))
            if name in self._channels_last and array.ndim == 4
            else array
            for name, array in inputs.items()
        }
        try:
            outputs = self._call(turned) if self._runner is None else self._runner(**turned)
        except (ValueError, RuntimeError) as error:
            raise EdgekitError(f"{self._path}: the interpreter cannot run it: {error}") from error
        for name in self._channels_last & outputs.keys():
            outputs[name] = np.ascontiguousarray(outputs[name].transpose(0, 3, 1, 2))
        return {name: outputs[name] for name in self.outputs}

    def _call(self, inputs: Arrays) -> Arrays:
        """Runs the first subgraph."""
        for name, array in inputs.items():
            info = self._sources[name]
            if -1 in info.get("shape_signature", ()) and array.shape != tuple(info["shape"]):
                self._interpreter.resize_tensor_input(info["index"], array.shape, strict=True)
                self._interpreter.allocate_tensors()
            self._interpreter.set_tensor(info["index"], array)
        self._interpreter.invoke()
        return {
            name: self._interpreter.get_tensor(info["index"])
            for name, info in self._results.items()
        }
