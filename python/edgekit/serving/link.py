"""One connection that carries frames: TLS, deadlines, and lengths that are checked before anything is read."""

from __future__ import annotations

import socket
import ssl
import time

from edgekit.serving.address import ServerAddress
from edgekit.serving.frames import (
    HEADER_SIZE,
    MOST_ERROR,
    MOST_HELLO,
    MOST_HELLOS,
    FrameError,
    FrameHeader,
    FrameKind,
    Hello,
)
from edgekit.targets.errors import RemoteError


class LinkLostError(RemoteError):
    """The connection ended: another one may do better."""


class ServerRefusedError(RemoteError):
    """The server answered with an error.

    Attributes:
        code: A `FrameError`, or a number that this version does not know.
        request: The request that it answers.
    """

    def __init__(self, message: str, code: int, request: int) -> None:
        super().__init__(message)
        self.code = code
        self.request = request


class Deadline:
    """A moment that several waits share."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Returns the seconds that are left.

        Raises:
            TimeoutError: None are.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class FrameLink:
    """The client's end of a connection.

    Attributes:
        hellos: What the server said first; then what those said that its outputs go on to.
    """

    def __init__(
        self, address: ServerAddress, timeout_s: float, tls: ssl.SSLContext | None
    ) -> None:
        self._address = address
        deadline = Deadline(timeout_s)
        self._socket = address.connect(timeout_s)
        try:
            if tls is not None:
                self._socket.settimeout(deadline.left())
                self._socket = tls.wrap_socket(self._socket, server_hostname=address.host)
            self.hellos = self._receive_hellos(deadline)
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise RemoteError(
                f"{address}: its certificate is not accepted: {error.verify_message}"
            ) from error
        except TimeoutError as error:
            self.close()
            raise RemoteError(f"{address}: said nothing within {timeout_s:g} s") from error
        except ssl.SSLError as error:
            self.close()
            raise RemoteError(
                f"{address}: no TLS connection: {error.reason or error}: does the server speak TLS, and does it "
                "ask for a certificate?"
            ) from error
        except OSError as error:
            self.close()
            raise LinkLostError(
                f"{address}: the connection broke: {error.strerror or error}"
            ) from error
        except RemoteError as error:
            self.close()
            if isinstance(error, ServerRefusedError):
                raise
            raise type(error)(_prefix(address, error)) from error

    def _receive_hellos(self, deadline: Deadline) -> list[Hello]:
        hellos: list[Hello] = []
        more = 1
        while more:
            header = self._receive_header(deadline)
            more = header.size
            if (
                header.kind != FrameKind.HELLO
                or header.length > MOST_HELLO
                or more + len(hellos) >= MOST_HELLOS
            ):
                raise RemoteError("does not begin with a HELLO")
            hellos.append(Hello.unpack(self._receive(header.length, deadline)))
        return hellos

    def ask(self, payload: bytes, *, size: int, request: int, most: int, timeout_s: float) -> bytes:
        """Sends a request; returns the payload of its result.

        Args:
            payload: The inputs.
            size: Which of the network's sizes.
            request: A number that no earlier request on this link had.
            most: Bytes that the result must have.
            timeout_s: For all of it.

        Raises:
            LinkLostError: The connection ended.
            ServerRefusedError: The server sent an error.
            RemoteError: The answer took too long, or is none.
        """
        deadline = Deadline(timeout_s)
        try:
            try:
                self._send(FrameHeader(FrameKind.RUN, len(payload), size, request).pack(), deadline)
                self._send(payload, deadline)
            except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
                # The server may have said why before it hung up.
                pass
            header = self._receive_header(deadline)
            if (header.kind, header.request, header.size, header.length) != (
                FrameKind.RESULT,
                request,
                size,
                most,
            ):
                raise RemoteError(f"answered request {request} with something else")
            return self._receive(most, deadline)
        except TimeoutError as error:
            raise RemoteError(f"{self._address}: no answer within {timeout_s:g} s") from error
        except OSError as error:
            raise LinkLostError(
                f"{self._address}: the connection broke: {error.strerror or error}"
            ) from error
        except (LinkLostError, ServerRefusedError):
            raise
        except RemoteError as error:
            raise RemoteError(_prefix(self._address, error)) from error

    def _send(self, data: bytes, deadline: Deadline) -> None:
        # sendall()'s own timeout is one for the whole of it.
        self._socket.settimeout(deadline.left())
        self._socket.sendall(data)

    def _receive_header(self, deadline: Deadline) -> FrameHeader:
        header = FrameHeader.unpack(self._receive(HEADER_SIZE, deadline))
        if header.kind == FrameKind.ERROR:
            if not 4 <= header.length <= MOST_ERROR:
                raise RemoteError("sent an error that is none")
            payload = self._receive(header.length, deadline)
            code = int.from_bytes(payload[:4], "little")
            words = payload[4:].decode(errors="replace")
            kind = FrameError(code).name.lower() if code in list(FrameError) else str(code)
            raise ServerRefusedError(
                f"{self._address}: the server refused ({kind.replace('_', ' ')}): {words}",
                code,
                header.request,
            )
        return header

    def _receive(self, count: int, deadline: Deadline) -> bytes:
        data = bytearray(count)
        view = memoryview(data)
        done = 0
        while done < count:
            self._socket.settimeout(deadline.left())
            got = self._socket.recv_into(view[done:], min(count - done, 1 << 20))
            if got == 0:
                raise LinkLostError(
                    f"{self._address}: the server hung up"
                    + (" in the middle of a frame" if done else "")
                )
            done += got
        return bytes(data)

    def close(self) -> None:
        """Ends the connection."""
        try:
            self._socket.close()
        except OSError:
            return


def _prefix(address: ServerAddress, error: RemoteError) -> str:
    return str(error) if str(error).startswith(str(address)) else f"{address}: {error}"


def make_client_tls(
    *,
    ca: str | None = None,
    certificate: str | None = None,
    key: str | None = None,
) -> ssl.SSLContext:
    """Returns the TLS settings of a client: version 1.2 or newer, the server's certificate and name checked.

    Args:
        ca: A PEM file of the authorities that may sign the server's certificate; by default the system's.
        certificate: A PEM file with this client's own certificate, where the server asks for one.
        key: The PEM file of its private key, if that is another.

    Raises:
        RemoteError: A file cannot be read.
    """
    context = ssl.create_default_context(cafile=_check_file(ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, certificate, key)
    return context


def load_certificate(context: ssl.SSLContext, certificate: str | None, key: str | None) -> None:
    """Takes an own certificate, where there is one.

    Raises:
        RemoteError: A file cannot be read, or the key is not that of the certificate.
    """
    if certificate is None:
        if key is not None:
            raise RemoteError("a key without its certificate: give both")
        return
    _check_file(certificate)
    _check_file(key)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise RemoteError(
            f"{certificate}: no certificate with its key{'' if key is None else f' {key}'}: {error}"
        ) from error


def _check_file(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            if b"-----BEGIN" not in file.read(1 << 20):
                raise RemoteError(f"{path}: not a PEM file")
    except OSError as error:
        raise RemoteError(f"{path}: {error.strerror}") from error
    return path


def limit_keepalive(link: socket.socket) -> None:
    """Has the system find ends that are gone without a word."""
    if link.family != socket.AF_UNIX:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
