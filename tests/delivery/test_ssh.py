import os
import signal
import socket
import subprocess
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit import EdgekitError
from edgekit.delivery.ssh import DEFAULT_ROOT, Ssh, SshAddress
from edgekit.targets.errors import ToolError


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ssh://pi", SshAddress("pi")),
        ("ssh://pi/", SshAddress("pi")),
        ("ssh://pi@rpi.local", SshAddress("rpi.local", "pi")),
        ("ssh://pi@rpi.local:22/srv/models/", SshAddress("rpi.local", "pi", 22, "/srv/models")),
        ("ssh://[fe80::1%eth0]:2222", SshAddress("fe80::1%eth0", None, 2222)),
        ("ssh://10.0.0.7/a b", SshAddress("10.0.0.7", root="/a b")),
    ],
)
def test_an_address_is_read(text, wanted):
    assert SshAddress.parse(text) == wanted
    assert SshAddress.parse(str(wanted)) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pi@host",
        "ssh://",
        "ssh://@host",
        "ssh://-oProxyCommand=sh",
        "ssh://-l@host",
        "ssh://host:0",
        "ssh://host:65536",
        "ssh://host:22x",
        "ssh://host:",
        "ssh://ho st",
        "ssh://host/a/../b",
        "ssh://host/a//b",
        "ssh://host/a\nb",
        "ssh://[::1",
        "ssh://a;b",
    ],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(EdgekitError, match=r"no address|no port|no absolute path"):
        SshAddress.parse(text)


@settings(deadline=None)
@given(st.text())
def test_any_text_is_an_address_or_refused(text):
    try:
        address = SshAddress.parse("ssh://" + text)
    except EdgekitError:
        return
    assert SshAddress.parse(str(address)) == address
    assert not address.host.startswith("-")
    assert address.root.startswith("/")


def test_commands_run_on_the_device(device):
    with Ssh(SshAddress.parse(device.url())) as ssh:
        assert ssh.address.root == DEFAULT_ROOT
        assert ssh.run("echo $((6 * 7))").text == "42\n"
        data = bytes(range(256)) * 5000
        assert ssh.run("cat", stdin=data).stdout == data
        done = ssh.run("echo out; echo err >&2; exit 7", check=False)
        assert (done.status, done.stdout, done.stderr) == (7, b"out\n", "err\n")
        with pytest.raises(ToolError, match=r"err \(status 7\)"):
            ssh.run("echo out; echo err >&2; exit 7")
        assert ssh.run("cat").stdout == b""


def test_a_file_is_sent_from_where_it_stands(device, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    ssh = Ssh(SshAddress.parse(device.url()))
    assert ssh.run("cat", stdin=file).stdout == b"0123456789"
    with file.open("rb") as opened:
        opened.seek(4)
        assert ssh.run("cat", stdin=opened).stdout == b"456789"


def test_one_connection_serves_many_commands(device):
    log = device.folder / "log"
    before = log.read_text().count("Accepted publickey")
    with Ssh(SshAddress.parse(device.url())) as ssh:
        for _ in range(3):
            ssh.run("true")
    assert log.read_text().count("Accepted publickey") == before + 1


def test_what_takes_too_long_is_given_up(device):
    with pytest.raises(ToolError, match=r"no end after 0.5 s: sleep 20"):
        Ssh(SshAddress.parse(device.url())).run("sleep 20", timeout_s=0.5)


def test_what_hinders_is_told_in_words(device, monkeypatch, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(ToolError, match=rf"^ssh://127.0.0.1:{port}: nothing listens there"):
            Ssh(SshAddress("127.0.0.1", None, port)).run("true")
    with pytest.raises(ToolError, match="no such host"):
        Ssh(SshAddress("no-such-host.invalid")).run("true")
    address = SshAddress.parse(device.url())
    nobody = device.options.replace(f"{device.folder}/known_hosts", "/dev/null")
    monkeypatch.setenv("EDGEKIT_SSH_OPTIONS", nobody)
    with pytest.raises(ToolError, match=r"host key is not known: connect once by `ssh \w+@127"):
        Ssh(address).run("true")
    stranger = tmp_path / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", stranger], check=True)
    monkeypatch.setenv(
        "EDGEKIT_SSH_OPTIONS", device.options.replace(f"{device.folder}/user", str(stranger))
    )
    with pytest.raises(ToolError, match="ssh-copy-id"):
        Ssh(address).run("true")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="apt install openssh-client"):
        Ssh(address).run("true")


@pytest.mark.slow
def test_a_link_that_breaks_is_told(device):
    with Ssh(SshAddress.parse(device.url())) as ssh:
        session = int(ssh.run("echo $PPID").text)

        def cut() -> None:
            time.sleep(0.5)
            os.kill(session, signal.SIGKILL)

        cutter = threading.Thread(target=cut)
        cutter.start()
        with pytest.raises(ToolError, match=r"link broke|closed the connection|without a word"):
            ssh.run("sleep 20", timeout_s=10)
        cutter.join()
