"""Servers and their client: the same answers as here, and clear errors for all that can go wrong between them."""

import os
import select
import socket
import stat
import struct
import threading
import time

import numpy as np
import pytest
from float_plans import X

import edgekit
from edgekit.serving.frames import FrameError, FrameHeader, FrameKind, Hello
from edgekit.serving.server import Server
from edgekit.targets.errors import EdgekitError, RemoteError


def open_raw(served) -> socket.socket:
    """Returns a connection that has read the server's HELLO."""
    host, port = served.address.removeprefix("tcp:").rsplit(":", 1)
    link = socket.create_connection((host, int(port)), 10)
    header = FrameHeader.unpack(read(link, 16))
    assert header.kind == FrameKind.HELLO
    Hello.unpack(read(link, header.length))
    return link


def read(link, count) -> bytes:
    data = b""
    while len(data) < count:
        part = link.recv(count - len(data))
        if not part:
            raise EOFError(data)
        data += part
    return data


def read_error(link) -> tuple[int, int, str]:
    """Returns request, number and words of an error that the server sends before it hangs up."""
    header = FrameHeader.unpack(read(link, 16))
    assert header.kind == FrameKind.ERROR
    payload = read(link, header.length)
    assert link.recv(1) == b""
    return header.request, int.from_bytes(payload[:4], "little"), payload[4:].decode()


REQUEST = FrameHeader(FrameKind.RUN, 32, 0, 7).pack() + bytes(32)


def test_answers_are_those_of_a_session_here(serve, sums, rows, is_python):
    here = edgekit.load(rows)
    with edgekit.connect(serve(rows, python=is_python).address) as there:
        assert there.inputs == here.inputs
        assert there.outputs == here.outputs
        assert there.sizes == here.sizes
        for count in (4, 1, 6, 9):
            x = np.random.default_rng(count).normal(size=(count, 5)).astype(np.float32)
            np.testing.assert_array_equal(there.run(x)["y"], here.run(x)["y"])
        with pytest.raises(EdgekitError, match=r"no size takes x \[4, 6\]: there are x \[4, 5\]"):
            there.run(np.zeros((4, 6), np.float32))


def test_states_are_kept_on_this_side(serve, sums, is_python):
    served = serve(sums, python=is_python)
    with edgekit.connect(served.address) as one, edgekit.connect(served.address) as other:
        assert dict(one.states) == {"state": "next"}
        for times in (1, 2, 3):
            np.testing.assert_array_equal(one.run({"x": X})["next"], times * X)
        np.testing.assert_array_equal(other.run(X)["twice"], 2 * X)
        one.close()  # A reconnect loses none.
        np.testing.assert_array_equal(one.run(X)["next"], 4 * X)
        one.reset()
        np.testing.assert_array_equal(one.run(X)["next"], X)


@pytest.mark.parametrize("name", ["path", "@edgekit-test"])
def test_unix_sockets(serve, sums, tmp_path, name, is_python):
    path = tmp_path / "s.sock" if name == "path" else f"{name}-{os.getpid()}-{is_python}"
    served = serve(sums, f"unix:{path}", python=is_python)
    assert served.address == f"unix:{path}"
    with edgekit.connect(f"unix:{path}") as session:
        np.testing.assert_array_equal(session.run(X)["next"], X)
    assert served.stop() == 0
    if name == "path":
        assert not path.exists()


def test_a_dead_servers_socket_is_replaced_and_nothing_else(serve, sums, tmp_path, is_python):
    path = tmp_path / "s.sock"
    process = is_python and "process"
    first = serve(sums, f"unix:{path}", python=process)
    with pytest.raises(AssertionError, match="another server listens there"):
        serve(sums, f"unix:{path}", python=is_python)
    first.stop(9)
    assert stat.S_ISSOCK(path.stat().st_mode)
    serve(sums, f"unix:{path}", python=is_python)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(AssertionError, match="exists and is no socket"):
        serve(sums, f"unix:{tmp_path / 'file'}", python=is_python)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("listen", "words"),
    [
        ("tcp:127.0.0.1:99999", "as in tcp:"),
        ("tcp:no.such.host:1", "as in tcp:|cannot listen"),
        ("http:127.0.0.1:1", "as in tcp:"),
        ("unix:" + 200 * "x", "1 to 107 bytes|too long"),
        ("tcp:192.0.2.1:0", "cannot listen there: Cannot assign"),
    ],
)
def test_what_is_no_place_to_listen_is_refused(serve, sums, listen, words):
    with pytest.raises(AssertionError, match=words):
        serve(sums, listen)


def test_a_port_that_is_taken_is_refused(serve, sums, is_python):
    first = serve(sums, python=is_python)
    with pytest.raises(AssertionError, match="cannot listen there: Address already in use"):
        serve(sums, first.address, python=is_python)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "not a frame|does not speak"),
        (bytes(16), "not a frame|does not speak"),
        (b"EKSV\x02" + REQUEST[5:], "version"),
        (FrameHeader(FrameKind.HELLO, 0).pack(), "kind RUN"),
        (FrameHeader(9, 32).pack(), "kind RUN"),
        (FrameHeader(FrameKind.RUN, 32, 1).pack(), "no size of that number"),
        (FrameHeader(FrameKind.RUN, 31).pack() + bytes(31), "the length is not"),
        (FrameHeader(FrameKind.RUN, 33).pack() + bytes(33), "the length is not"),
        (FrameHeader(FrameKind.RUN, 0).pack(), "the length is not"),
        (FrameHeader(FrameKind.RUN, 0xFFFFFFFF).pack() + bytes(1000), "the length is not"),
    ],
)
def test_what_is_no_request_is_told_and_hung_up_on(serve, sums, data, words, is_python):
    served = serve(sums, python=is_python)
    with open_raw(served) as link:
        link.sendall(data)
        _, code, said = read_error(link)
        assert code == FrameError.MALFORMED
        assert any(word in said for word in words.split("|"))
    with edgekit.connect(served.address) as session:
        np.testing.assert_array_equal(session.run(X)["next"], X)


@pytest.mark.parametrize("cut", [0, 1, 3, 4, 5, 6, 8, 12, 15, 16, 17, 24, 47])
def test_a_link_cut_anywhere_costs_that_request_alone(serve, sums, cut, is_python):
    served = serve(sums, python=is_python)
    with open_raw(served) as link:
        link.sendall(REQUEST[:cut])
    with edgekit.connect(served.address) as session:
        np.testing.assert_array_equal(session.run(X)["next"], X)


def test_requests_may_be_sent_ahead_and_in_pieces(serve, sums, is_python):
    with open_raw(serve(sums, python=is_python)) as link:
        data = b"".join(
            FrameHeader(FrameKind.RUN, 32, 0, n).pack() + struct.pack("<8f", n, *7 * [0])
            for n in range(5)
        )
        for byte in range(0, len(data), 11):
            link.sendall(data[byte : byte + 11])
        for n in range(5):
            header = FrameHeader.unpack(read(link, 16))
            assert (header.kind, header.request, header.length) == (FrameKind.RESULT, n, 32)
            assert struct.unpack("<8f", read(link, 32)) == (2 * n, 0, 0, 0, n, 0, 0, 0)


@pytest.mark.slow
def test_who_sends_too_slowly_is_told(serve, sums, is_python):
    served = serve(sums, "tcp:127.0.0.1:0", "--timeout", 1, python=is_python)
    with open_raw(served) as slow, edgekit.connect(served.address) as quick:
        for part in (REQUEST[:3], REQUEST[3:20]):
            slow.sendall(part)
            np.testing.assert_array_equal(quick.run(X)["next"][0, 0] > 0, True)
        begin = time.monotonic()
        request, code, _ = read_error(slow)
        assert (request, code) == (7, FrameError.TOO_SLOW)
        assert time.monotonic() - begin < 5


@pytest.mark.slow
def test_who_takes_no_results_is_hung_up_on(serve, sums):
    served = serve(sums, "tcp:127.0.0.1:0", "--timeout", 1)
    with open_raw(served) as deaf, edgekit.connect(served.address) as other:
        deaf.setblocking(False)
        end = time.monotonic() + 30
        hung_up = False
        while not hung_up and time.monotonic() < end:
            try:
                deaf.send(512 * REQUEST)
            except BlockingIOError:
                answer = other.run(X)
                np.testing.assert_array_equal(answer["twice"], 2 * answer["next"])
                time.sleep(0.1)
            except ConnectionError:
                hung_up = True
        assert hung_up


@pytest.mark.slow
def test_a_rest_between_requests_is_no_slowness(serve, sums, is_python):
    served = serve(sums, "tcp:127.0.0.1:0", "--timeout", 1, python=is_python)
    with open_raw(served) as link:
        time.sleep(1.5)
        link.sendall(REQUEST)
        assert FrameHeader.unpack(read(link, 16)).kind == FrameKind.RESULT


def test_more_clients_than_places_are_told(serve, sums, is_python):
    served = serve(sums, "tcp:127.0.0.1:0", "--clients", 2, python=is_python)
    with open_raw(served) as one, open_raw(served):
        with pytest.raises(RemoteError, match=r"refused \(busy\): all places are taken"):
            edgekit.connect(served.address)
        one.close()
        time.sleep(0.2)
        edgekit.connect(served.address).close()


@pytest.mark.slow
def test_a_connection_at_rest_gives_way_when_places_are_short(serve, sums, is_python):
    served = serve(sums, "tcp:127.0.0.1:0", "--clients", 1, "--timeout", 1, python=is_python)
    with open_raw(served) as forgotten:
        time.sleep(1.2)
        with edgekit.connect(served.address) as session:
            np.testing.assert_array_equal(session.run(X)["next"], X)
        assert forgotten.recv(1) == b""


@pytest.mark.slow
def test_a_server_that_stops_finishes_what_it_took(serve, sums, is_python):
    served = serve(sums, python=is_python)
    with edgekit.connect(served.address) as session, open_raw(served) as half:
        session.run(X)
        half.sendall(REQUEST[:20])
        time.sleep(0.1)
        assert served.stop() == 0
        with pytest.raises(RemoteError, match="cannot connect: Connection refused"):
            session.run(X)


def test_a_session_outlives_its_server(serve, sums, rows, is_python):
    first = serve(sums, python=is_python)
    with edgekit.connect(first.address) as session:
        session.run(X)
        first.stop(9)
        with pytest.raises(RemoteError, match="cannot connect"):
            session.run(X)
        second = serve(sums, first.address, python=is_python)
        np.testing.assert_array_equal(session.run(X)["next"], 2 * X)
        second.stop()
        serve(rows, first.address, python=is_python)
        with pytest.raises(RemoteError, match="serves another network now"):
            session.run(X)


@pytest.mark.slow
def test_the_service_manager_is_kept_informed(serve, sums, tmp_path):
    for name in (str(tmp_path / "notify"), f"\0edgekit-notify-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(name)
            manager.settimeout(10)
            env = {
                **os.environ,
                "NOTIFY_SOCKET": name.replace("\0", "@"),
                "WATCHDOG_USEC": "200000",
            }
            served = serve(sums, env=env)
            assert manager.recv(100) == b"READY=1"
            begin = time.monotonic()
            for _ in range(6):
                assert manager.recv(100) == b"WATCHDOG=1"
            assert 0.3 < time.monotonic() - begin < 2
            served.process.send_signal(19)  # A process that stands still is silent.
            manager.settimeout(0.5)
            with pytest.raises(TimeoutError):
                [manager.recv(100) for _ in range(100)]
            served.process.send_signal(18)
            assert served.stop() == 0
            told = {manager.recv(100) for _ in range(100) if select.select([manager], [], [], 0)[0]}
            assert told in ({b"STOPPING=1"}, {b"STOPPING=1", b"WATCHDOG=1"})


def test_nobody_listening_is_an_error_in_words(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(
        RemoteError, match=f"tcp:127.0.0.1:{port}: cannot connect: Connection refused"
    ):
        edgekit.connect(f"tcp://127.0.0.1:{port}")
    with pytest.raises(RemoteError, match="cannot connect: No such file"):
        edgekit.connect(f"unix:{tmp_path / 'none'}")
    with pytest.raises(EdgekitError, match="an address is tcp://host:port"):
        edgekit.connect("somewhere")
    with pytest.raises(EdgekitError, match="timeout_s must be"):
        edgekit.connect(f"tcp://127.0.0.1:{port}", timeout_s=0)


def test_a_server_that_says_nothing_times_out():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begin = time.monotonic()
        with pytest.raises(RemoteError, match=r"said nothing within 0\.3 s"):
            edgekit.connect(f"tcp://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.3)
        assert time.monotonic() - begin < 5


def test_an_open_size_is_refused(sums):
    session = edgekit.load(sums)
    session.sizes = []
    with pytest.raises(EdgekitError, match="leaves sizes open"):
        Server(session, "tcp://127.0.0.1:0")


def test_many_clients_at_once(serve, rows, is_python):
    served = serve(rows, python=is_python)
    here = edgekit.load(rows)
    wrong = []

    def work(seed):
        random = np.random.default_rng(seed)
        with edgekit.connect(served.address) as session:
            for _ in range(20):
                x = random.normal(size=(4, 5)).astype(np.float32)
                answers[seed].append((x, session.run(x)["y"]))

    answers = [[] for _ in range(6)]
    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for row in answers:
        assert len(row) == 20
        wrong += [1 for x, y in row if not np.array_equal(here.run(x)["y"], y)]
    assert not wrong
