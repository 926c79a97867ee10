"""The fixture `healthmsg_bot`: what it makes of routers, and its mode that restarts after every step."""

import sys
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import pytest

from healthmsg.bot.testing import StartBot
from healthmsg.events import Event, MessageCreated
from tests.bot.fake_bot import FakeBot


class Made(FakeBot):
    """What stands in the place of `healthmsg.bot.bot.Bot`."""

    def __init__(self, client: Any, *, store: Any, seams: Any, **options: Any) -> None:
        super().__init__(client=client, store=store, seams=seams, handle=self.answer, memory=MEMORY)
        self.made_of: list[object] = [options]
        MADE.append(self)

    def include(self, *routers: object) -> None:
        self.made_of.extend(routers)

    def provide(self, *values: object) -> None:
        self.made_of.append(("provided", *values))

    @staticmethod
    async def answer(bot: FakeBot, event: Event) -> None:
        if isinstance(event, MessageCreated):
            await bot.reply(event, "Hallo")


MADE: list[Made] = []
MEMORY: dict[str, object] = {}


class Router:
    def include(self, *routers: object) -> None:
        raise AssertionError(f"a router is included as it is, and not asked for {routers}")


@pytest.fixture(autouse=True)
def _bot_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("healthmsg.bot.bot")
    vars(module)["Bot"] = Made
    monkeypatch.setitem(sys.modules, "healthmsg.bot.bot", module)
    MADE.clear()
    MEMORY.clear()


async def test_each_start_makes_a_bot_of_the_same_routers_values_and_options(healthmsg_bot: StartBot) -> None:
    router, ehr = Router(), object()
    bot_test = await healthmsg_bot(router, lambda bot: bot.include("set up"), provide=[ehr], texts="nl")
    await bot_test.kill_and_restart()

    assert len(MADE) == 2
    assert MADE[0].made_of == MADE[1].made_of == [{"texts": "nl"}, ("provided", ehr), router, "set up"]


async def test_two_bots_in_one_test_are_apart(healthmsg_bot: StartBot) -> None:
    moment = datetime(2026, 7, 1, 12, tzinfo=UTC)
    first, second = await healthmsg_bot(), await healthmsg_bot(now=moment)
    an = first.patient("An")
    await an.says("hallo")

    assert [message.body for message in an.sees] == ["Hallo"]
    assert second.handled == []
    assert second.clock.now() == moment


@pytest.mark.healthmsg_bot(restart_after_every_step=True)
async def test_the_mark_restarts_after_every_step(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot()
    an = bot_test.patient("An")
    await an.says("hallo")

    assert [message.body for message in an.sees] == ["Hallo"]
    assert bot_test.restarts == 3  # after the reply, and after the events of the chat and the message


async def test_without_the_mark_nothing_is_restarted(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot()
    await bot_test.patient("An").says("hallo")
    assert bot_test.restarts == 0
