"""Fixtures for your own tests. pytest finds this plugin by itself once healthmsg is installed.

`healthmsg_sandbox` is a started `healthmsg.sandbox.Sandbox`: the API on this machine, over a real
socket, with sample data, new for every test and gone after it.

    from healthmsg import Client

    async def test_my_reminders_arrive(healthmsg_sandbox):
        token = healthmsg_sandbox.issue_token()
        async with Client(token, environment=healthmsg_sandbox.environment) as client:
            ...
        assert healthmsg_sandbox.rejected == 0

`healthmsg_bot` starts a bot on a sandbox of its own, in virtual time; see `healthmsg.bot.testing`.

    @pytest.fixture
    async def bot_test(healthmsg_bot):
        return await healthmsg_bot(router, provide=[FakeEhr()])

    async def test_the_intake_asks_for_the_name(bot_test):
        an = bot_test.patient("An")
        await an.says("intake")
        await bot_test.kill_and_restart()
        await an.answers("An Visser")
        await bot_test.advance(hours=4)
        assert an.sees[-1].body == "Hebt u nog pijn?"

With `@pytest.mark.healthmsg_bot(restart_after_every_step=True)`, or that argument, the bot is killed and
started again after each commit, reply and event. At the end of a test no event may be parked, unless it has
`allow_parked=True`.

Both need pytest-asyncio, in auto or in strict mode, and live in the event loop of pytest-asyncio's
fixtures: with `asyncio_default_fixture_loop_scope = "session"`, let the tests run in the
session's loop too.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from healthmsg.bot.testing import BotTest, StartBot
    from healthmsg.sandbox import Sandbox


def pytest_configure(config: pytest.Config) -> None:
    """Add the fixture, once it is known whether pytest-asyncio is there to run it."""
    config.addinivalue_line(
        "markers",
        "healthmsg_bot(restart_after_every_step=True): kill the bot and start it again after each step",
    )
    with_asyncio = config.pluginmanager.hasplugin("asyncio")
    # pytest looks for fixtures in modules and classes only.
    fixtures = ModuleType("healthmsg_fixtures")
    if with_asyncio:
        vars(fixtures).update(healthmsg_sandbox=_async_fixture(), healthmsg_bot=_bot_fixture())
    else:
        vars(fixtures).update(
            {name: _refusing_fixture(name) for name in ("healthmsg_sandbox", "healthmsg_bot")}
        )
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


def _bot_fixture() -> object:
    import pytest_asyncio  # noqa: PLC0415 - as above

    @pytest_asyncio.fixture
    async def healthmsg_bot(request: pytest.FixtureRequest) -> "AsyncIterator[StartBot]":
        """Start a bot on a sandbox of its own, in virtual time: see healthmsg.bot.testing."""
        from healthmsg.bot.testing import BotTest, VirtualClock, bot_maker  # noqa: PLC0415 - only when used

        marker = request.node.get_closest_marker("healthmsg_bot")
        restarts = bool(marker and marker.kwargs.get("restart_after_every_step"))

        async with AsyncExitStack() as stack:

            async def begin(
                *parts: object,
                restart_after_every_step: bool | None = None,
                allow_parked: bool = False,
                now: datetime | None = None,
                **options: Any,
            ) -> "BotTest":
                if restart_after_every_step is None:
                    restart_after_every_step = restarts
                clock = VirtualClock() if now is None else VirtualClock(now.astimezone(UTC))
                test = BotTest(bot_maker(*parts, **options), restart_after_every_step, allow_parked, clock)
                return await stack.enter_async_context(test)

            yield begin

    return healthmsg_bot


def _refusing_fixture(name: str) -> object:
    @pytest.fixture(name=name)
    def refuse() -> None:
        """Refuse: it needs pytest-asyncio, which is not active."""
        raise pytest.UsageError(f"the fixture {name} needs pytest-asyncio: pip install pytest-asyncio")

    return refuse
