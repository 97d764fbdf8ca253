"""`edgekit split`, both bundles, and the pipeline over a link that fails in every way."""

import json
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from small_networks import random_network
from typer.testing import CliRunner

import edgekit
from edgekit.bundles.verify import verify
from edgekit.cli import app
from edgekit.targets.errors import EdgekitError, ModelError, PlanError, RemoteError

STEPS = [
    ("conv", 0, 0),
    ("HardSwish", 1, 0),
    ("conv", 2, 0),
    ("depthwise", 2, 0),
    ("add", 3, 4),
    ("concat", 5, 1),
    ("pool", 6, 0),
]


@pytest.fixture(scope="session")
def images():
    return np.random.default_rng(5).normal(0, 1, (8, 4, 8, 8)).astype(np.float32)


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """A network that branches and joins."""
    import onnx

    path = tmp_path_factory.mktemp("network") / "branches.onnx"
    onnx.save(random_network(STEPS, 2), path)
    return path


@pytest.fixture(scope="session")
def whole(network, images, tmp_path_factory):
    """The one-device deployment."""
    return edgekit.deploy(
        network,
        calibration=images,
        precision="int8",
        output=tmp_path_factory.mktemp("whole") / "dist",
    )


@pytest.fixture(scope="session")
def halves(network, images, tmp_path_factory):
    """The same network for two devices, both this machine."""
    return edgekit.split(
        network,
        between=("host", "host"),
        link="10Mbit/s",
        latency="1ms",
        calibration=images,
        precision="int8",
        output=tmp_path_factory.mktemp("halves") / "split",
    )


def check_equal(session, whole, images):
    here = whole.load()
    for image in images:
        answer, expected = session.run(image[None]), here.run(image[None])
        assert answer.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(answer[name], value)


def test_both_bundles_verify_and_name_each_other(halves):
    for part in (halves.head, halves.tail):
        assert verify(part.path).ok
    split = halves.head.origin["split"]
    assert split["part"] == "head"
    assert split["tail_plan"] == halves.tail.files["model.plan"]
    assert halves.tail.origin["split"]["part"] == "tail"
    summary = json.loads((halves.path / "split.json").read_text())
    assert summary["chosen"]["cut"] == split["cut"]
    names = [row["cut"] for row in summary["options"]]
    assert {"all on the first", "all on the second"} <= set(names)
    totals = [row["total_us"] for row in summary["options"]]
    assert totals == sorted(totals)


@pytest.mark.slow
@pytest.mark.parametrize("at", ["n0", "n2", "n3", "n5c", "n5", "n6"])
def test_a_cut_can_be_asked_for(network, images, whole, serve, tmp_path, at):
    halves = edgekit.split(
        network,
        between=("host", "host"),
        link="1Mbit/s",
        calibration=images,
        precision="int8",
        output=tmp_path / "split",
        at=at,
    )
    with edgekit.load_split(halves.path, serve(halves.tail.path / "model.plan").address) as both:
        check_equal(both, whole, images[:3])


def test_the_device_needs_no_python(halves, whole, images, serve):
    tail = serve(halves.tail.path / "model.plan")
    head = serve(halves.head.path / "model.plan", "tcp:127.0.0.1:0", "--next", tail.address)
    with edgekit.connect(head.address) as both:
        check_equal(both, whole, images)
        tail.stop(9)
        with pytest.raises(
            RemoteError, match=r"refused \(next\): cannot connect to the next|hung up"
        ):
            both.run(images[:1])
        serve(halves.tail.path / "model.plan", tail.address)
        check_equal(both, whole, images)


def test_a_board_may_send_on_to_pythons_server(halves, whole, images, serve):
    tail = serve(halves.tail.path / "model.plan", python=True)
    head = serve(halves.head.path / "model.plan", "tcp:127.0.0.1:0", "--next", tail.address)
    with edgekit.connect(head.address) as both:
        assert len(both._hellos) == 2
        check_equal(both, whole, images[:2])


def test_a_tail_that_restarts_is_found_again(halves, whole, images, serve):
    plan = halves.tail.path / "model.plan"
    first = serve(plan)
    with edgekit.load_split(halves.path, first.address, timeout_s=5) as both:
        check_equal(both, whole, images[:2])
        first.stop(9)
        with pytest.raises(RemoteError, match="cannot connect: Connection refused"):
            both.run(images[:1])
        serve(plan, first.address)
        check_equal(both, whole, images[:2])


@pytest.mark.slow
def test_another_peer_is_refused(halves, whole, serve, tmp_path):
    other = serve(whole.path / "model.plan")
    with pytest.raises(RemoteError, match="was cut from the tail"):
        edgekit.load_split(halves.path, other.address)
    with pytest.raises(AssertionError, match="serves a plan that this one was not made for"):
        serve(
            halves.head.path / "model.plan",
            "tcp:127.0.0.1:0",
            "--timeout",
            1,
            "--next",
            other.address,
        )
    with pytest.raises(AssertionError, match=r"cannot connect to the next server|hung up"):
        serve(
            halves.head.path / "model.plan",
            "tcp:127.0.0.1:0",
            "--timeout",
            1,
            "--next",
            f"unix:{tmp_path / 'none'}",
        )
    with pytest.raises(PlanError, match="no head of a split network"):
        edgekit.load_split(halves.tail.path, other.address)


class Gate:
    """A link that passes so many bytes of answers, then breaks or falls silent."""

    def __init__(self, address: str, most: int, *, silent: bool = False) -> None:
        host, port = address.removeprefix("tcp:").rsplit(":", 1)
        self._far = (host, int(port))
        self._most, self._silent = most, silent
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._far)
            self._open += [near, far]
            threading.Thread(target=self._pass, args=(near, far, 1 << 40), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, self._most), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, most: int) -> None:
        try:
            while most > 0 and (data := source.recv(min(4096, most))):
                sink.sendall(data)
                most -= len(data)
            if not (self._silent and most == 0):
                sink.shutdown(socket.SHUT_RDWR)
                source.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def close(self) -> None:
        for link in (self._listener, *self._open):
            link.close()


@pytest.fixture(scope="session")
def lengths(halves):
    """Bytes of the tail's HELLO, and of an answer."""
    from edgekit.serving.server import describe_session

    hello = describe_session(edgekit.load(halves.tail.path))
    size = hello.sizes[0]
    return 16 + len(hello.pack()), 16 + sum(spec.nbytes for spec in size.outputs)


@pytest.mark.slow
@pytest.mark.parametrize("cut", [0, 1, 4, 5, 8, 12, 15, 16, 17, 64, -1])
@pytest.mark.parametrize("silent", [False, True])
def test_an_answer_cut_off_is_an_error_and_no_answer(halves, images, serve, lengths, cut, silent):
    served = serve(halves.tail.path / "model.plan", python=True)
    hello, answer = lengths
    gate = Gate(served.address, hello + (answer - 1 if cut < 0 else cut), silent=silent)
    try:
        both = edgekit.load_split(halves.path, gate.address)
        both.tail.timeout_s = 0.5 if silent else 10
        with pytest.raises(RemoteError, match=r"no answer within|hung up|broke"):
            both.run(images[:1])
        both.close()
    finally:
        gate.close()


@pytest.mark.parametrize("cut", [0, 1, 5, 15, 16, 40, 79, 80, 200])
def test_a_hello_cut_off_is_an_error(halves, serve, cut):
    served = serve(halves.tail.path / "model.plan", python=True)
    gate = Gate(served.address, cut)
    try:
        with pytest.raises(RemoteError, match=r"hung up|broke"):
            edgekit.load_split(halves.path, gate.address, timeout_s=2)
    finally:
        gate.close()


def test_a_killed_server_is_noticed_at_once(halves, images, serve):
    served = serve(halves.tail.path / "model.plan")
    both = edgekit.load_split(halves.path, served.address, timeout_s=30)
    both.run(images[:1])
    served.stop(9)
    begin = time.monotonic()
    with pytest.raises(RemoteError):
        both.run(images[:1])
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"link": "fast"}, EdgekitError, "is no speed of a link"),
        ({"latency": "soon"}, EdgekitError, "is no time"),
        ({"between": ("host",)}, EdgekitError, "names two devices"),
        ({"between": ("host", "nowhere")}, EdgekitError, "nowhere"),
        ({"most_tensors": 0}, EdgekitError, "most_tensors must be"),
        ({"at": "nothing"}, ModelError, "no operator or tensor is called 'nothing'"),
        ({"states": {"a": "b"}}, EdgekitError, "states: not to be given"),
        ({"shapes": [{}, {}]}, EdgekitError, "has one size"),
    ],
)
def test_a_mistake_is_one_error(network, images, tmp_path, arguments, error, words):
    given = {
        "between": ("host", "host"),
        "link": "1Mbit/s",
        "calibration": images,
        "precision": "int8",
        "output": tmp_path / "out",
    }
    with pytest.raises(error, match=words):
        edgekit.split(network, **{**given, **arguments})
    assert not (tmp_path / "out").exists()


def test_nothing_else_is_overwritten(network, images, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("kept")
    with pytest.raises(EdgekitError, match="holds something else than a split network"):
        edgekit.split(
            network,
            between=("host", "host"),
            link="1Mbit/s",
            calibration=images,
            output=tmp_path / "out",
        )
    assert (tmp_path / "out/mine").read_text() == "kept"


@pytest.mark.slow
def test_the_command_prints_the_table(network, images, tmp_path):
    np.savez(tmp_path / "samples.npz", x=images)
    words = ["split", str(network), "--between", "host", "host", "--link", "10Mbit/s"]
    words += ["--latency", "2ms", "--calibration", str(tmp_path / "samples.npz"), "--precision"]
    words += ["int8", "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "all on the first" in result.output
    assert "* after" in result.output
    again = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    assert json.loads(again.output)["latency_ms"] == 2


def test_running_both_parts_imports_nothing_that_deploys():
    heavy = {"edgekit.deployment", "edgekit.report", "onnx", "onnx_ir", "onnxruntime"}
    code = f"import edgekit, sys; edgekit.load_split; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
