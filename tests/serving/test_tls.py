"""TLS: who is not who the other side asked for is refused, in words, and nothing else answers."""

import socket
import ssl
import warnings

import numpy as np
import pytest
from float_plans import X

import edgekit
from edgekit.serving.server import ServerTls
from edgekit.serving.server import serve as make_server
from edgekit.targets.errors import EdgekitError, RemoteError

certificates = pytest.importorskip("certificates", reason="needs cryptography: the extra sign")


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return certificates.Authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    return certificates.Authority(tmp_path_factory.mktemp("theirs"), "theirs")


@pytest.fixture
def tls_server(serve, sums):
    def start(certificate, key, ca=None):
        tls = ServerTls(str(certificate), str(key), None if ca is None else str(ca))
        return serve(sums, "tcp:127.0.0.1:0", "--tls", tls, python=True).address

    return start


def test_a_session_over_tls(tls_server, ours):
    address = tls_server(*ours.issue("server"))
    assert address.startswith("tls:")
    with edgekit.connect(address, ca=ours.path) as session:
        np.testing.assert_array_equal(session.run(X)["next"], X)
        session.close()
        np.testing.assert_array_equal(session.run(X)["next"], 2 * X)


def test_both_sides_may_show_certificates(tls_server, ours, theirs):
    address = tls_server(*ours.issue("server"), ours.path)
    certificate, key = ours.issue("device")
    with edgekit.connect(address, ca=ours.path, certificate=certificate, key=key) as session:
        np.testing.assert_array_equal(session.run(X)["next"], X)
    with pytest.raises(RemoteError):
        edgekit.connect(address, ca=ours.path)
    certificate, key = theirs.issue("stranger")
    with pytest.raises(RemoteError):
        edgekit.connect(address, ca=ours.path, certificate=certificate, key=key)


@pytest.mark.parametrize("fault", ["authority", "host", "expired"])
def test_a_wrong_certificate_is_refused(tls_server, ours, theirs, fault):
    if fault == "authority":
        address = tls_server(*theirs.issue("server"))
    elif fault == "host":
        address = tls_server(*ours.issue("other", host="192.0.2.7"))
    else:
        address = tls_server(*ours.issue("old", days=-1))
    with pytest.raises(RemoteError, match="its certificate is not accepted"):
        edgekit.connect(address, ca=ours.path)


@pytest.mark.slow
def test_one_side_without_tls_is_an_error(tls_server, serve, sums, ours):
    with pytest.raises(RemoteError, match=r"said nothing|hung up|does not speak"):
        edgekit.connect(tls_server(*ours.issue("server")).replace("tls:", "tcp:"), timeout_s=1)
    plain = serve(sums).address
    with pytest.raises(RemoteError, match="no TLS connection"):
        edgekit.connect(plain.replace("tcp:", "tls:"), ca=ours.path, timeout_s=2)


def test_old_tls_is_refused(tls_server, ours):
    address = tls_server(*ours.issue("server"))
    context = ssl.create_default_context(cafile=str(ours.path))
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with warnings.catch_warnings(action="ignore"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    # So that it is the server who refuses.
    context.set_ciphers("ALL:@SECLEVEL=0")
    port = int(address.rsplit(":", 1)[1])
    with (
        socket.create_connection(("127.0.0.1", port)) as link,
        pytest.raises(ssl.SSLError, match=r"(?i)version|protocol"),
    ):
        context.wrap_socket(link, server_hostname="127.0.0.1")


def test_files_that_are_none_are_named(sums, ours, tmp_path):
    certificate, key = ours.issue("server")
    with pytest.raises(RemoteError, match=r"none\.pem: No such file"):
        edgekit.connect("tls://127.0.0.1:1", ca=tmp_path / "none.pem")
    (tmp_path / "text.pem").write_text("hello")
    with pytest.raises(RemoteError, match=r"text\.pem: not a PEM file"):
        edgekit.connect("tls://127.0.0.1:1", ca=tmp_path / "text.pem")
    with pytest.raises(RemoteError, match="a key without its certificate"):
        edgekit.connect("tls://127.0.0.1:1", key=key)
    with pytest.raises(EdgekitError, match="certificates are for tls://"):
        edgekit.connect("tcp://127.0.0.1:1", ca=ours.path)
    other_key = ours.issue("other")[1]
    with pytest.raises(RemoteError, match="no certificate with its key"):
        make_server(sums, "tcp://127.0.0.1:0", tls=ServerTls(str(certificate), str(other_key)))
    with pytest.raises(EdgekitError, match="TLS needs a certificate"):
        make_server(sums, "tls://127.0.0.1:0")


def test_the_command_serves_over_tls(serve, sums, ours):
    certificate, key = ours.issue("server")
    words = ("--certificate", certificate, "--key", key, "--ca", ours.path)
    served = serve(sums, "tcp:127.0.0.1:0", *words, python="process")
    device, device_key = ours.issue("device")
    with edgekit.connect(
        served.address, ca=ours.path, certificate=device, key=device_key
    ) as session:
        np.testing.assert_array_equal(session.run(X)["next"], X)
    assert served.stop() == 0
