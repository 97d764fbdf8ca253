from collections.abc import Iterator

import pytest
from local_sshd import LocalSshd, run_sshd


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSshd]:
    """A server that all tests of a worker share."""
    with run_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def device(sshd: LocalSshd, monkeypatch: pytest.MonkeyPatch) -> LocalSshd:
    """The same, with EDGEKIT_SSH_OPTIONS set so that edgekit reaches it."""
    monkeypatch.setenv("EDGEKIT_SSH_OPTIONS", sshd.options)
    return sshd
