"""What the tests of resources share."""

from collections.abc import AsyncIterator

import pytest

from tests.foreign_host import ForeignHost


@pytest.fixture
async def host() -> AsyncIterator[ForeignHost]:
    """Return a server that answers as a test says, and knows what it was asked."""
    async with ForeignHost() as host:
        yield host
