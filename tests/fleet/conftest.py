from pathlib import Path

import pytest
from fleet_bundles import make_real_bundle
from signed_bundles import KEY


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Releases 1 and 2 of a small real network; not to be changed."""
    folder = tmp_path_factory.mktemp("bundles")
    return {number: make_real_bundle(folder / f"r{number}", release=number) for number in (1, 2)}


@pytest.fixture(scope="session")
def public_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The public key of who signed them."""
    path = tmp_path_factory.mktemp("key") / "team.pub"
    path.write_text(KEY.public.to_text())
    return path
