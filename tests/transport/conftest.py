"""What the tests of the transport share."""

import pytest

from tests.transport.hospital import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return an authority that only the house vouches for, with a certificate for this machine."""
    return Authority.found(tmp_path_factory.mktemp("authority"))
