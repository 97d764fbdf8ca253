"""Whatever bytes come, a server goes on serving and a client raises one error."""

import os
import socket
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from float_plans import X
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_serving import open_raw

import edgekit
from edgekit.serving.frames import FrameHeader, FrameKind, Hello
from edgekit.serving.server import describe_session
from edgekit.targets.errors import EdgekitError, RemoteError

ROOT = Path(__file__).parents[2]
EXAMPLES = int(os.environ.get("EDGEKIT_FUZZ_EXAMPLES", "60"))
VALID = FrameHeader(FrameKind.RUN, 32, 0, 7).pack() + bytes(32)
FUZZ = settings(
    deadline=None,
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def bent(draw, whole: bytes):
    """Returns ``whole`` cut, with bytes changed, put in or twice, or no more than a header of it right."""
    data = bytearray(whole * draw(st.integers(1, 3)))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.integers(0, 3)):
            case 0:
                data[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                data[place:place] = draw(st.binary(max_size=20))
            case 2:
                del data[place : place + draw(st.integers(1, 20))]
            case 3:
                data[place : place + 4] = draw(
                    st.sampled_from([b"\xff" * 4, bytes(4), b"\x00\x00\x00\x80", b"\x20\0\0\0"])
                )
    return bytes(data)


BYTES = st.one_of(st.binary(max_size=200), bent(VALID))


@pytest.fixture(scope="module")
def sanitized():
    """The program under ASan and UBSan, where it was built: `make test-sanitize` does."""
    path = ROOT / "build/sanitize/csrc/runner/edgekit-run"
    if not path.is_file():
        pytest.skip(
            "no sanitized edgekit-run: cmake --preset sanitize && cmake --build build/sanitize"
        )
    return path


def send(served, data: bytes) -> None:
    with open_raw(served) as link:
        try:
            link.sendall(data)
            link.shutdown(socket.SHUT_WR)
            while link.recv(4096):
                pass
        except OSError:
            return


@pytest.mark.parametrize("kind", ["native", "python", "sanitized"])
def test_a_server_outlives_any_bytes(serve, sums, request, kind):
    program = [str(request.getfixturevalue("sanitized"))] if kind == "sanitized" else None
    served = serve(sums, python=kind == "python", program=program)

    @FUZZ
    @given(data=BYTES)
    def check(data):
        send(served, data)

    check()
    with edgekit.connect(served.address) as session:
        np.testing.assert_array_equal(session.run(X)["next"], X)
    assert served.stop() == 0
    if kind != "python":
        assert served.process.stderr.read() == ""


class Parrot:
    """Says the same bytes to each client."""

    def __init__(self) -> None:
        self.data = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            with link:
                try:
                    link.sendall(self.data)
                    link.shutdown(socket.SHUT_WR)
                    while link.recv(4096):
                        pass
                except OSError:
                    continue

    def close(self) -> None:
        self._listener.close()


@pytest.fixture(scope="module")
def parrot():
    parrot = Parrot()
    yield parrot
    parrot.close()


def speak(sums) -> tuple[bytes, bytes]:
    """Returns a right HELLO and a right RESULT of the first request."""
    hello = describe_session(edgekit.load(sums)).pack()
    return (
        FrameHeader(FrameKind.HELLO, len(hello)).pack() + hello,
        FrameHeader(FrameKind.RESULT, 32, 0, 1).pack() + bytes(32),
    )


def check_client(address: str) -> None:
    """Connects and runs: that gives an answer of the right shape or an error of ours."""
    try:
        with edgekit.connect(address, timeout_s=2) as session:
            answer = session.run({spec.name: X for spec in session.inputs[:1]})
            assert set(answer) == set(session.outputs)
    except EdgekitError:
        return


def test_a_client_outlives_any_bytes(sums, parrot):
    hello, result = speak(sums)

    @FUZZ
    @given(
        data=st.one_of(
            st.binary(max_size=100),
            bent(hello + result),
            bent(result).map(lambda tail: hello + tail),
            bent(hello).map(lambda head: head + result),
        )
    )
    def check(data):
        parrot.data = data
        check_client(parrot.address)

    check()


@FUZZ
@given(
    text=st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=5)
        | st.sampled_from(["float32", "int8"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["sizes", "inputs", "outputs", "states", "name", "dtype", "shape", "scale"]
                ),
                inner,
                max_size=6,
            )
        ),
        max_leaves=8,
    )
)
def test_a_hello_of_any_json_is_one_error(text):
    import json

    payload = b"0" * 64 + bytes(8) + json.dumps(text).encode()
    with pytest.raises(RemoteError, match="HELLO"):
        Hello.unpack(payload)


@pytest.mark.slow
def test_the_next_server_may_say_anything(sums, runner, parrot):
    """A native head whose tail is a parrot: it refuses to start, or answers with an error, and lives on."""
    hello, result = speak(sums)
    parrot.data = hello + result

    @settings(parent=FUZZ, max_examples=12)
    @given(data=st.one_of(st.binary(max_size=100), bent(hello + result)))
    def check(data):
        parrot.data = data
        words = [str(runner), str(sums), "--serve", "tcp:127.0.0.1:0", "--timeout", "1", "--next"]
        words.append(parrot.address.replace("tcp://", "tcp:"))
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = process.stdout.readline()
        if line.startswith("serving at "):
            check_client(line.removeprefix("serving at ").strip().replace("tcp:", "tcp://"))
            process.terminate()
        _, said = process.communicate(timeout=20)
        assert process.returncode in (0, 1), said
        assert process.returncode == 0 or said.startswith("edgekit-run: ")

    check()
