"""Fixtures for your own tests. pytest finds this plugin by itself once healthmsg is installed.

`healthmsg_sandbox` is a started `healthmsg.sandbox.Sandbox`: the API on this machine, over a real
socket, with sample data, new for every test and gone after it.

    from healthmsg import Client

    async def test_my_reminders_arrive(healthmsg_sandbox):
        token = healthmsg_sandbox.issue_token()
        async with Client(token, environment=healthmsg_sandbox.environment) as client:
            ...
        assert healthmsg_sandbox.rejected == 0

It needs pytest-asyncio, in auto or in strict mode, and lives in the event loop of pytest-asyncio's
fixtures: with `asyncio_default_fixture_loop_scope = "session"`, let the tests run in the
session's loop too.
"""

from collections.abc import AsyncIterator
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from healthmsg.sandbox import Sandbox


def pytest_configure(config: pytest.Config) -> None:
    """Add the fixture, once it is known whether pytest-asyncio is there to run it."""
    with_asyncio = config.pluginmanager.hasplugin("asyncio")
    fixture = _async_fixture() if with_asyncio else _refusing_fixture()
    # pytest looks for fixtures in modules and classes only.
    fixtures = ModuleType("healthmsg_fixtures")
    vars(fixtures)["healthmsg_sandbox"] = fixture
    config.pluginmanager.register(fixtures, fixtures.__name__)


def _async_fixture() -> object:
    # Here, so that nothing but pytest is imported where pytest-asyncio is not used.
    import pytest_asyncio  # noqa: PLC0415 - see above

    @pytest_asyncio.fixture
    async def healthmsg_sandbox() -> "AsyncIterator[Sandbox]":
        """Start the KPN Healthcare Messenger API on this machine: a healthmsg.sandbox.Sandbox."""
        from healthmsg.sandbox import Sandbox  # noqa: PLC0415 - aiohttp's server is loaded only when used

        async with Sandbox() as sandbox:
            yield sandbox

    return healthmsg_sandbox


def _refusing_fixture() -> object:
    @pytest.fixture
    def healthmsg_sandbox() -> None:
        """Refuse: the sandbox needs pytest-asyncio, which is not active."""
        raise pytest.UsageError(
            "the fixture healthmsg_sandbox needs pytest-asyncio: pip install pytest-asyncio"
        )

    return healthmsg_sandbox
