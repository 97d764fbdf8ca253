"""A TCP link of the tests' own, which breaks after so many bytes, or carries only so many a second."""

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_PIECE = 16384


@dataclass
class CutLink:
    """A port of this machine from where bytes go on to another one.

    Attributes:
        to: The other port.
        after: How many bytes a connection carries there before it breaks, without a word; None: any number.
        bytes_a_second: The most that a connection carries; None: any number.
        carried: What all connections have carried there.
    """

    to: int
    after: int | None = None
    bytes_a_second: int | None = None
    carried: int = 0
    _listener: socket.socket = field(default_factory=socket.socket)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def listen(self) -> None:
        """Takes connections until `close`."""
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Takes no connection any more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(near, self.after), daemon=True).start()

    def _carry(self, near: socket.socket, left: int | None) -> None:
        with near, socket.create_connection(("127.0.0.1", self.to)) as far:
            while left is None or left > 0:
                ready, _, _ = select.select([near, far], [], [])
                if far in ready:
                    piece = far.recv(_PIECE)
                    near.sendall(piece)
                else:
                    piece = near.recv(_PIECE if left is None else min(_PIECE, left))
                    far.sendall(piece)
                    self.carried += len(piece)
                    left = None if left is None else left - len(piece)
                    if self.bytes_a_second is not None:
                        time.sleep(len(piece) / self.bytes_a_second)
                if not piece:
                    return


@contextmanager
def cut_link(to: int) -> Iterator[CutLink]:
    """Makes a link to a port."""
    link = CutLink(to)
    link.listen()
    try:
        yield link
    finally:
        link.close()
