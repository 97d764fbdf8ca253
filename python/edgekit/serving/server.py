"""A server of networks in Python: the protocol of docs/serving.md, over TLS where it is asked for.

On a board `edgekit-run --serve` does this without Python; this one is for machines that have it, where frames cross a
network that is not trusted, and for networks that are ONNX or TFLite files.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit import __version__, _native
from edgekit.serving.address import ServerAddress
from edgekit.serving.frames import (
    DTYPES,
    HEADER_SIZE,
    MOST_ERROR,
    MOST_PAYLOAD,
    FrameError,
    FrameHeader,
    FrameKind,
    Hello,
    SizeSpec,
    TensorSpec,
    pack_tensors,
    payload_size,
    unpack_tensors,
)
from edgekit.serving.link import Deadline, limit_keepalive, load_certificate
from edgekit.session import NativeSession, Session, load
from edgekit.targets.errors import EdgekitError, RemoteError

_MOST_CLIENTS = 1024
# How long a client that was told of an error may go on sending before the connection is reset.
_DRAIN_S = 1.0


@dataclass(frozen=True)
class ServerTls:
    """Certificates of a server.

    Attributes:
        certificate: PEM file with its certificate and those between it and the authority.
        key: PEM file with the private key, None where it is in the same file.
        ca: PEM file of the authorities that clients' certificates must come from; None: clients need none.
    """

    certificate: str
    key: str | None = None
    ca: str | None = None

    def make_context(self) -> ssl.SSLContext:
        """Returns the settings: TLS 1.2 or newer.

        Raises:
            RemoteError: A file cannot be read.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        load_certificate(context, self.certificate, self.key)
        if self.ca is not None:
            try:
                context.load_verify_locations(self.ca)
            except (OSError, ssl.SSLError) as error:
                raise RemoteError(f"{self.ca}: no certificates of authorities: {error}") from error
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class _RefusedError(Exception):
    """What a client sent is refused, and its connection ends."""

    def __init__(self, code: FrameError, words: str, request: int = 0) -> None:
        super().__init__(words)
        self.code = code
        self.request = request


class Server:
    """Serves a session: one inference at a time, a bounded number of clients, each in a thread of its own.

    Attributes:
        address: Where it listens, with the port that it got for 0.
        hello: What it tells clients.
    """

    def __init__(
        self,
        session: Session,
        listen: str,
        *,
        timeout_s: float = 10.0,
        clients: int = 8,
        tls: ServerTls | None = None,
    ) -> None:
        """Runs the network on zeros in every size, then listens.

        Args:
            session: The network; nobody else may use it while it is served.
            listen: ``tcp://host:port`` or ``unix:/path``.
            timeout_s: Seconds for a client to send a request, and to take its result.
            clients: Connections at a time.
            tls: Certificates; None serves without TLS.

        Raises:
            EdgekitError: The address is taken, or the network leaves sizes open.
            RemoteError: A certificate cannot be read.
        """
        if not 1 <= clients <= _MOST_CLIENTS:
            raise EdgekitError(f"clients must be from 1 to {_MOST_CLIENTS}, not {clients}")
        if not 0 < timeout_s <= 86400:
            raise EdgekitError(f"timeout_s must be seconds above 0, at most a day, not {timeout_s}")
        self._session = session
        self._timeout_s = timeout_s
        self._tls = None if tls is None else tls.make_context()
        self.hello = describe_session(session)
        asked = ServerAddress.parse(listen)
        if asked.is_encrypted and tls is None:
            raise EdgekitError(f"{listen}: TLS needs a certificate, and its key")
        self._listener = asked.listen()
        port = asked.port if asked.path else self._listener.getsockname()[1]
        self.address = ServerAddress(asked.host, port, asked.path, tls is not None)
        self._places = threading.BoundedSemaphore(clients)
        self._turn = threading.Lock()
        self._links: set[socket.socket] = set()
        # Since when a connection has asked for nothing.
        self._resting: dict[socket.socket, float] = {}
        self._closing = threading.Event()

    def serve_forever(self) -> None:
        """Takes clients until `close` is called, from another thread or a signal's handler."""
        while not self._closing.is_set():
            try:
                link, _ = self._listener.accept()
            except OSError:
                if self._closing.is_set():
                    return
                raise
            if not self._places.acquire(blocking=False) and not self._make_place():
                self._turn_away(link)
                continue
            self._links.add(link)
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def close(self) -> None:
        """Stops listening and ends all connections."""
        self._closing.set()
        with contextlib.suppress(OSError):
            # Wakes accept(), which close() alone does not.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self.address.path and not self.address.path.startswith("@"):
            Path(self.address.path).unlink(missing_ok=True)
        for link in list(self._links):
            try:
                link.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def _make_place(self) -> bool:
        """Ends the connection that has asked for nothing the longest, if for as long as a request may take."""
        since = time.monotonic() - self._timeout_s
        resting = [(begin, link) for link, begin in list(self._resting.items()) if begin < since]
        if not resting:
            return False
        with contextlib.suppress(OSError):
            min(resting, key=lambda row: row[0])[1].shutdown(socket.SHUT_RDWR)
        return self._places.acquire(timeout=_DRAIN_S)

    def _turn_away(self, link: socket.socket) -> None:
        # Without TLS's handshake, which would take time: a TLS client hears of a broken connection.
        with link:
            link.settimeout(0.1)
            try:
                link.sendall(_pack_error(FrameError.BUSY, "all places are taken: try again later"))
            except OSError:
                return

    def _serve(self, link: socket.socket) -> None:
        raw = link
        try:
            limit_keepalive(link)
            if self._tls is not None:
                link.settimeout(self._timeout_s)
                link = self._tls.wrap_socket(link, server_side=True)
            self._send(link, FrameKind.HELLO, self.hello.pack())
            while not self._closing.is_set():
                self._resting[raw] = time.monotonic()
                self._answer(link, raw)
        except _RefusedError as refused:
            self._refuse(link, refused)
        except (OSError, EOFError):
            return
        finally:
            self._links.discard(raw)
            self._resting.pop(raw, None)
            link.close()
            self._places.release()

    def _answer(self, link: socket.socket, raw: socket.socket) -> None:
        """Takes one request and sends its result; ``raw`` is the connection beneath TLS."""
        header = self._receive_header(link, raw)
        size = self._check(header)
        deadline = Deadline(self._timeout_s)
        try:
            payload = _receive(link, header.length, deadline)
        except TimeoutError:
            raise _RefusedError(
                FrameError.TOO_SLOW, "the request took too long to arrive", header.request
            ) from None
        inputs = dict(
            zip(
                (spec.name for spec in size.inputs),
                unpack_tensors(size.inputs, payload),
                strict=True,
            )
        )
        try:
            with self._turn:
                outputs = self._session.run(inputs)
            arrays = [_check_output(outputs[spec.name], spec) for spec in size.outputs]
        except EdgekitError as error:
            raise _RefusedError(FrameError.NETWORK, str(error), header.request) from error
        self._send(
            link,
            FrameKind.RESULT,
            pack_tensors(size.outputs, arrays),
            header.size,
            header.request,
        )

    def _receive_header(self, link: socket.socket, raw: socket.socket) -> FrameHeader:
        # A connection may rest between two requests; a request that has begun may not.
        link.settimeout(None)
        first = link.recv(1)
        self._resting.pop(raw, None)
        if not first:
            raise EOFError
        try:
            rest = _receive(link, HEADER_SIZE - 1, Deadline(self._timeout_s))
        except TimeoutError:
            raise _RefusedError(
                FrameError.TOO_SLOW, "the request took too long to arrive"
            ) from None
        try:
            return FrameHeader.unpack(first + rest)
        except RemoteError as error:
            raise _RefusedError(FrameError.MALFORMED, str(error)) from error

    def _check(self, header: FrameHeader) -> SizeSpec:
        if header.kind != FrameKind.RUN:
            raise _RefusedError(
                FrameError.MALFORMED, "a server takes frames of the kind RUN", header.request
            )
        if header.size >= len(self.hello.sizes):
            raise _RefusedError(
                FrameError.MALFORMED, "the network has no size of that number", header.request
            )
        size = self.hello.sizes[header.size]
        if header.length != payload_size(size.inputs):
            raise _RefusedError(
                FrameError.MALFORMED,
                "the length is not that of the inputs: compare HELLO",
                header.request,
            )
        return size

    def _refuse(self, link: socket.socket, refused: _RefusedError) -> None:
        try:
            link.settimeout(self._timeout_s)
            link.sendall(_pack_error(refused.code, str(refused), refused.request))
            if not isinstance(link, ssl.SSLSocket):
                # Unread bytes would have the end of the connection reset, and the error lost.
                link.shutdown(socket.SHUT_WR)
            deadline = Deadline(_DRAIN_S)
            while True:
                link.settimeout(deadline.left())
                if not link.recv(1 << 16):
                    return
        except OSError:
            return

    def _send(
        self, link: socket.socket, kind: FrameKind, payload: bytes, size: int = 0, request: int = 0
    ) -> None:
        link.settimeout(self._timeout_s)
        link.sendall(FrameHeader(kind, len(payload), size, request).pack() + payload)


def _receive(link: socket.socket, count: int, deadline: Deadline) -> bytes:
    data = bytearray(count)
    view = memoryview(data)
    done = 0
    while done < count:
        link.settimeout(deadline.left())
        got = link.recv_into(view[done:])
        if got == 0:
            raise EOFError
        done += got
    return bytes(data)


def _pack_error(code: FrameError, words: str, request: int = 0) -> bytes:
    payload = int(code).to_bytes(4, "little") + words.encode()[: MOST_ERROR - 4]
    return FrameHeader(FrameKind.ERROR, len(payload), 0, request).pack() + payload


def _check_output(array: npt.NDArray[Any], spec: TensorSpec) -> npt.NDArray[Any]:
    if array.shape != spec.shape or array.dtype.name != spec.dtype:
        raise EdgekitError(
            f"output '{spec.name}' was {spec.dtype} {list(spec.shape)} and is {array.dtype} {list(array.shape)} now"
        )
    return array


def describe_session(session: Session) -> Hello:
    """Returns what a server says of a session; runs it once on zeros in each size.

    Raises:
        EdgekitError: It leaves sizes open, or takes or gives what frames do not hold.
    """
    if not session.sizes:
        raise EdgekitError(
            f"{session.path}: leaves sizes open, and a server's requests have fixed ones: deploy it with shapes"
        )
    sizes = []
    for shapes in session.sizes:
        inputs = tuple(
            _describe(
                spec.name, np.dtype(spec.dtype) if spec.dtype in DTYPES else None, shapes[spec.name]
            )
            for spec in session.inputs
        )
        session.reset()
        outputs = session.run({spec.name: np.zeros(spec.shape, spec.dtype) for spec in inputs})
        sizes.append(
            SizeSpec(
                inputs,
                tuple(_describe(name, array.dtype, array.shape) for name, array in outputs.items()),
            )
        )
    most = max(max(payload_size(size.inputs), payload_size(size.outputs)) for size in sizes)
    if most > MOST_PAYLOAD:
        raise EdgekitError(f"{session.path}: inputs or outputs are too large for a frame")
    facts = {"version": __version__}
    if isinstance(session, NativeSession):
        facts |= {"isa": session.plan.isa, "target": session.plan.target}
        sizes = [_add_grids(size, session.plan.sizes[index]) for index, size in enumerate(sizes)]
    digest = hashlib.sha256(session.path.read_bytes()).hexdigest()
    return Hello(digest, tuple(sizes), dict(session.states), facts=facts)


def _add_grids(size: SizeSpec, plan: _native.Plan) -> SizeSpec:
    """Returns ``size`` with the grids of tensors that hold codes."""

    def add(
        specs: tuple[TensorSpec, ...], infos: list[_native.TensorInfo]
    ) -> tuple[TensorSpec, ...]:
        return tuple(
            replace(spec, scale=info.scale, zero_point=info.zero_point)
            if spec.dtype == "int8"
            else spec
            for spec, info in zip(specs, infos, strict=True)
        )

    return SizeSpec(add(size.inputs, plan.inputs), add(size.outputs, plan.outputs))


def _describe(name: str, dtype: np.dtype[Any] | None, shape: tuple[int | None, ...]) -> TensorSpec:
    if dtype is None or dtype.name not in DTYPES or None in shape:
        raise EdgekitError(f"'{name}' has a type or shape that frames do not hold")
    return TensorSpec(name, dtype.name, tuple(int(dim or 0) for dim in shape))


def serve(
    path: str | Path,
    listen: str,
    *,
    threads: int = 1,
    timeout_s: float = 10.0,
    clients: int = 8,
    tls: ServerTls | None = None,
) -> Server:
    """Makes a server of a plan, a bundle, an ONNX or a TFLite file; `Server.serve_forever` runs it.

    Raises:
        EdgekitError: As `edgekit.load` and `Server`.
    """
    return Server(
        load(path, threads=threads), listen, timeout_s=timeout_s, clients=clients, tls=tls
    )
