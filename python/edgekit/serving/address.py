"""Where a server listens: ``tcp://host:port``, ``tls://host:port`` or ``unix:/path``."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

from edgekit.targets.errors import EdgekitError, RemoteError

_TCP = re.compile(r"(?P<scheme>tcp|tls):(//)?(?P<host>\[[^\]]+\]|[^:/\[\]]+):(?P<port>\d{1,5})")


@dataclass(frozen=True)
class ServerAddress:
    """An address of a server.

    Attributes:
        host: Name or number, "" for a unix socket; an IPv6 one has no brackets.
        port: In [0, 65535].
        path: Of a unix socket; one that begins with "@" is in Linux's abstract name space. "" for any other.
        is_encrypted: Whether frames go through TLS.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    is_encrypted: bool = False

    @classmethod
    def parse(cls, text: str) -> ServerAddress:
        """Reads an address; ``tcp:host:port`` is taken too.

        Raises:
            EdgekitError: It is none.

        >>> str(ServerAddress.parse("tcp://[::1]:7070"))
        'tcp:[::1]:7070'
        """
        if text.startswith("unix:"):
            path = text.removeprefix("unix://") if text.startswith("unix://") else text[5:]
            if path and "\0" not in path:
                return cls(path=path)
        match = _TCP.fullmatch(text)
        if match is None or int(match["port"]) > 65535:
            raise EdgekitError(
                f"{text!r}: an address is tcp://host:port, tls://host:port or unix:/path, as in tcp://192.168.1.7:7070"
            )
        host = match["host"].strip("[]")
        return cls(host, int(match["port"]), is_encrypted=match["scheme"] == "tls")

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.is_encrypted else 'tcp'}:{host}:{self.port}"

    @property
    def _unix_name(self) -> str:
        return "\0" + self.path[1:] if self.path.startswith("@") else self.path

    def connect(self, timeout_s: float) -> socket.socket:
        """Returns a connection.

        Raises:
            RemoteError: Nobody answers there.
        """
        try:
            if not self.path:
                link = socket.create_connection((self.host, self.port), timeout_s)
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return link
            link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                link.settimeout(timeout_s)
                link.connect(self._unix_name)
            except BaseException:
                link.close()
                raise
            return link
        except OSError as error:
            raise RemoteError(f"{self}: cannot connect: {_describe(error)}") from error

    def listen(self) -> socket.socket:
        """Returns a socket that listens; the socket that an ended server left behind is replaced.

        Raises:
            EdgekitError: It is taken, or not an address of this machine.
        """
        if self.path:
            return self._listen_at_path()
        host = "" if self.host == "*" else self.host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            return socket.create_server((host, self.port), family=family, backlog=64)
        except OSError as error:
            raise EdgekitError(f"{self}: cannot listen there: {_describe(error)}") from error

    def _listen_at_path(self) -> socket.socket:
        from pathlib import Path

        path = Path(self.path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if not self.path.startswith("@") and path.is_socket():
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                    if probe.connect_ex(self.path) == 0:
                        raise EdgekitError(f"{self}: another server listens there")
                path.unlink()
            elif not self.path.startswith("@") and path.exists():
                raise EdgekitError(
                    f"{self}: exists and is no socket: choose another path, or remove it"
                )
            listener.bind(self._unix_name)
            listener.listen(64)
        except OSError as error:
            listener.close()
            raise EdgekitError(f"{self}: cannot listen there: {_describe(error)}") from error
        except EdgekitError:
            listener.close()
            raise
        return listener


def _describe(error: OSError) -> str:
    return error.strerror or str(error) or "timed out"
