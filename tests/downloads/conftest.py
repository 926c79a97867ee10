"""What the tests of downloads share."""

from collections.abc import AsyncIterator

import pytest

from healthmsg import Client, RateLimit, Retries
from healthmsg.sandbox import Sandbox
from tests.foreign_host import ForeignHost


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[Client]:
    """Return a client that tries nothing again and waits for no limit."""
    async with Client(
        sandbox.issue_token(),
        environment=sandbox.environment,
        rate_limit=RateLimit(calls=1000),
        retries=Retries.none(),
    ) as client:
        yield client


@pytest.fixture
async def foreign() -> AsyncIterator[ForeignHost]:
    """Return a host that is not the service's own."""
    async with ForeignHost() as host:
        yield host
