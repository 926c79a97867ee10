"""Every Python example in docs/bots.md runs, as a bot under test."""

import ast
import re
from collections.abc import Awaitable, Callable
from datetime import date
from pathlib import Path
from types import CodeType
from typing import Any, Final
from uuid import UUID

import pytest

import healthmsg.bot as bots
from healthmsg.bot import Dialogs, IncomingMessage, Router, command
from healthmsg.bot.testing import BotTest, StartBot, bot_maker

ROOT: Final = Path(__file__).parent.parent
GUIDE: Final = (ROOT / "docs/bots.md").read_text(encoding="utf-8")
EXAMPLES: Final = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
MIDDLEWARE, INTAKE, GIVE_BACK, VERSIONS, A_TEST = range(5)


class EhrDown(Exception):  # noqa: N818 - as the example calls it
    """The record system does not answer."""


class Ehr:
    """A record system that knows a registration by its number."""

    def __init__(self, failures: int = 0) -> None:
        self.known: dict[UUID, tuple[str, date]] = {}
        self.failures = failures

    async def register(self, name: str, born: date, number: UUID) -> int:
        if self.failures:
            self.failures -= 1
            raise EhrDown
        self.known[number] = name, born
        return len(self.known)


def scope_of(*examples: int) -> dict[str, Any]:
    """Return what these examples define, with a command that starts the intake."""
    router = Router()
    scope: dict[str, Any] = {"__name__": __name__, **vars(bots), "router": router}
    scope.update(Ehr=Ehr, EhrDown=EhrDown)
    for number in examples:
        exec(_compiled(EXAMPLES[number]), scope)  # noqa: S102 - our own guide

    @router.message(command("intake"))
    async def begin(message: IncomingMessage, dialogs: Dialogs) -> None:
        await dialogs.start(scope["intake"], message)

    return scope


def _compiled(example: str) -> CodeType:
    return compile(ast.parse(example), "docs/bots.md", "exec")


def test_all_examples_are_known_here() -> None:
    assert len(EXAMPLES) == 5


async def test_a_dialog_is_handed_over_and_given_back_as_shown() -> None:
    scope, ehr = scope_of(INTAKE, GIVE_BACK), Ehr(failures=1)
    async with BotTest(bot_maker(scope["router"], provide=[ehr])) as bot_test:
        an, bo = bot_test.patient("An"), bot_test.colleague("Bo")
        team = bot_test.group("Team", bo)
        for said in ("intake", "An", "1 februari 1980"):
            await an.says(said)
        await an.says("Bent u daar?")
        assert [seen.body for seen in an.sees] == ["Wat is uw naam?", "Wat is uw geboortedatum?"]

        await bo.says(f"terug {an.address} {an.id}", group=team)

        assert team.sees[-1].body == "Ik ga daar verder."
        assert an.sees[-1].body == "Dank u. Uw nummer is 1."
        assert [*ehr.known.values()] == [("An", date(1980, 2, 1))]


async def test_a_middleware_sees_each_event_as_shown(healthmsg_bot: StartBot) -> None:
    scope = scope_of()
    scope["seen"] = list[str]()
    exec(_compiled(EXAMPLES[MIDDLEWARE]), scope)  # noqa: S102 - our own guide
    bot_test = await healthmsg_bot(scope["router"])
    await bot_test.patient("An").says("hallo")
    assert "message_created" in scope["seen"]


async def test_versions_are_kept_as_shown() -> None:
    prick = scope_of(VERSIONS)["prick"]

    assert prick.newest == 2
    assert prick.code_of(1).function.__name__ == "prick_1"
    assert prick.code_of(2).function.__name__ == "prick"


@pytest.mark.slow
async def test_the_example_of_a_test_passes_as_it_is_written(healthmsg_bot: StartBot) -> None:
    scope = scope_of(INTAKE, A_TEST)
    shown: Callable[[StartBot], Awaitable[None]] = scope["test_the_intake_survives_everything"]

    await shown(healthmsg_bot)


def test_every_question_is_in_the_guide() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", GUIDE, re.MULTILINE))
    shared = {"ask", "say", "once"}

    assert rows == {name for name in vars(bots.Dialog.__mro__[1]) if not name.startswith("_")} - shared
