"""A network that runs elsewhere, used as one that runs here."""

from __future__ import annotations

import os
import ssl
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.data import InputSpec
from edgekit.pad import describe_sizes, fits
from edgekit.serving.address import ServerAddress
from edgekit.serving.frames import Hello, SizeSpec, pack_tensors, payload_size, unpack_tensors
from edgekit.serving.link import FrameLink, LinkLostError, make_client_tls
from edgekit.session import Session, join_shapes
from edgekit.targets.errors import EdgekitError, RemoteError

_REQUESTS = 1 << 32


class RemoteSession(Session):
    """Runs a network on a server, over the protocol of docs/serving.md.

    A call whose connection turns out to be broken makes a new one and asks again, once: requests have no effects but
    their answers. The server must then serve the same network as before. States are kept here.

    Attributes:
        address: The server's.
        hello: What the server said of its network.
        last_hello: What the last server of a chain said, whose outputs these are; ``hello`` without one.
        timeout_s: Seconds that connecting may take, and an answer.
    """

    def __init__(
        self, address: ServerAddress, *, timeout_s: float, tls: ssl.SSLContext | None
    ) -> None:
        self.address = address
        self.path = Path(str(address))
        self.threads = 1
        self.timeout_s = timeout_s
        self._tls = tls
        self._request = 0
        self._link: FrameLink | None = FrameLink(address, timeout_s, tls)
        self._hellos = self._link.hellos
        self.hello, self.last_hello = self._hellos[0], self._hellos[-1]
        check_chain(self._hellos)
        sizes = self.hello.sizes
        self.sizes = [{spec.name: spec.shape for spec in size.inputs} for size in sizes]
        is_batch = all(
            len({shape[0] for shape in size.values() if shape}) == 1 for size in self.sizes
        )
        self.inputs = [
            InputSpec(
                spec.name,
                join_shapes([size.inputs[index].shape for size in sizes], is_batch),
                spec.dtype,
            )
            for index, spec in enumerate(sizes[0].inputs)
        ]
        self.outputs = [spec.name for spec in self.last_hello.sizes[0].outputs]
        self.states = self.hello.states
        self._kept: dict[str, npt.NDArray[Any]] = {}
        self.reset()

    def reset(self) -> None:
        """Makes all states zeros."""
        self._kept = {
            spec.name: np.zeros(spec.shape, spec.dtype)
            for spec in self.hello.sizes[0].inputs
            if spec.name in self.states
        }

    def close(self) -> None:
        """Ends the connection; the next run makes a new one."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def __enter__(self) -> RemoteSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, inputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        index, batch = self._choose(inputs)
        size, last = self.hello.sizes[index], self.last_hello.sizes[index]
        count = 1 if batch is None else len(next(iter(inputs.values())))
        kept = self._kept
        results: list[dict[str, npt.NDArray[Any]]] = []
        for start in range(0, count, batch or 1):
            parts = {
                name: array if batch is None else array[start : start + batch]
                for name, array in inputs.items()
            }
            arrays = [_fill({**kept, **parts}[spec.name], spec.shape) for spec in size.inputs]
            values = unpack_tensors(
                last.outputs, self._ask(pack_tensors(size.inputs, arrays), index, last)
            )
            results.append(dict(zip(self.outputs, values, strict=True)))
            kept = {name: results[-1][output] for name, output in self.states.items()}
        self._kept = kept
        if batch is None:
            return results[0]
        return {
            name: np.concatenate([result[name] for result in results])[:count]
            for name in self.outputs
        }

    def _choose(self, inputs: dict[str, npt.NDArray[Any]]) -> tuple[int, int | None]:
        """Returns the size that takes the inputs in the fewest runs, and its batch, None where it takes them whole."""
        able: list[tuple[int, int, int | None]] = []
        counts = {len(array) if array.ndim else 0 for array in inputs.values()}
        for index, size in enumerate(self.sizes):
            batches = {size[name][0] if size[name] else 0 for name in inputs}
            if all(array.shape == size[name] for name, array in inputs.items()):
                able.append((1, index, None))
            elif fits(inputs, size) and len(counts) == len(batches) == 1 and 0 not in counts:
                able.append((-(-min(counts) // min(batches)), index, min(batches)))
        if not able:
            shapes = describe_sizes([{name: array.shape for name, array in inputs.items()}])
            raise EdgekitError(
                f"{self.address}: no size takes {shapes}: there are {describe_sizes(self.sizes)}"
            )
        _, index, batch = min(able, key=lambda row: row[:2])
        return index, batch

    def _ask(self, payload: bytes, index: int, last: SizeSpec) -> bytes:
        old = self._link
        try:
            if old is not None:
                try:
                    return self._ask_once(old, payload, index, last)
                except LinkLostError:
                    self.close()
            return self._ask_once(self._connect(), payload, index, last)
        except RemoteError:
            # What may still come on this link belongs to no later request.
            self.close()
            raise

    def _ask_once(self, link: FrameLink, payload: bytes, index: int, last: SizeSpec) -> bytes:
        self._request = (self._request + 1) % _REQUESTS
        return link.ask(
            payload,
            size=index,
            request=self._request,
            most=payload_size(last.outputs),
            timeout_s=self.timeout_s,
        )

    def _connect(self) -> FrameLink:
        link = FrameLink(self.address, self.timeout_s, self._tls)
        if link.hellos != self._hellos:
            link.close()
            raise RemoteError(
                f"{self.address}: serves another network now than when this session was made: connect anew"
            )
        self._link = link
        return link


def check_chain(hellos: list[Hello]) -> None:
    """Checks that what one server computes is what the next one takes.

    Raises:
        RemoteError: It is not.
    """
    for first, second in pairwise(hellos):
        given = [[(one.dtype, one.shape) for one in size.outputs] for size in first.sizes]
        taken = [[(one.dtype, one.shape) for one in size.inputs] for size in second.sizes]
        if given != taken:
            raise RemoteError("the next server takes other tensors than this one computes")


def _fill(array: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Returns an array of ``shape``, of which the last sample may stand for missing ones."""
    if array.shape == shape:
        return array
    return np.concatenate([array, np.repeat(array[-1:], shape[0] - len(array), axis=0)])


def connect(
    address: str,
    *,
    timeout_s: float = 10.0,
    ca: str | os.PathLike[str] | None = None,
    certificate: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
) -> RemoteSession:
    """Makes a session of the network that a server serves.

    Args:
        address: ``tcp://host:port``, ``tls://host:port`` or ``unix:/path``.
        timeout_s: Seconds that connecting may take, and each answer.
        ca: Of ``tls://``: a PEM file of the authorities that may sign the server's certificate; by default the
            system's.
        certificate: Of ``tls://``: a PEM file with this client's certificate, where the server asks for one.
        key: The PEM file of its private key, where that is another.

    Raises:
        RemoteError: Nobody answers there, or not as docs/serving.md says, or the certificate is not accepted.
        EdgekitError: The address is none.
    """
    where = ServerAddress.parse(address)
    if not isinstance(timeout_s, (int, float)) or not 0 < timeout_s <= 86400:
        raise EdgekitError(f"timeout_s must be seconds above 0, at most a day, not {timeout_s!r}")
    files = {
        name: None if path is None else os.fspath(path)
        for name, path in (("ca", ca), ("certificate", certificate), ("key", key))
    }
    if not where.is_encrypted and any(files.values()):
        raise EdgekitError(
            f"{address}: certificates are for tls://, which this address does not ask for"
        )
    tls = make_client_tls(**files) if where.is_encrypted else None
    return RemoteSession(where, timeout_s=float(timeout_s), tls=tls)
