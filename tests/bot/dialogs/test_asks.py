"""The engine with questions as they are: verifications, which are events of their own, and groups."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from healthmsg.bot.dialogs.dialog import Dialog
from healthmsg.bot.dialogs.questions import ConfirmQuestion
from healthmsg.bot.dialogs.registration import register
from healthmsg.errors import ConfigurationError
from healthmsg.events import VerificationAccepted, VerificationRejected
from healthmsg.models import IdentityProvider, Verification
from tests.bot.dialogs.world import CHAT, GROUP, MODES, Mode, World

modes = pytest.mark.parametrize("mode", MODES)


@register()
async def verify(d: Dialog) -> None:
    result = await d.verification(body="Wie bent u?", timeout=timedelta(days=1))
    await d.say("Geverifieerd." if result else "Niet geverifieerd.")


async def can_be(_: str) -> tuple[Sequence[IdentityProvider], Sequence[Verification]]:
    return [IdentityProvider("7", "idin")], []


async def is_already(_: str) -> tuple[Sequence[IdentityProvider], Sequence[Verification]]:
    return [], [Verification("idin")]


async def cannot_be(_: str) -> tuple[Sequence[IdentityProvider], Sequence[Verification]]:
    return [], []


@modes
@pytest.mark.parametrize(
    ("kind", "said"),
    [(VerificationAccepted, "Geverifieerd."), (VerificationRejected, "Niet geverifieerd.")],
)
async def test_a_verification_is_requested_once_and_its_event_is_the_answer(
    mode: Mode, kind: type[VerificationAccepted], said: str
) -> None:
    world = World([verify], mode, options={"identities": can_be})
    await world.says("start")
    await world.says("hoezo?")

    (key,) = world.outbox.requests
    assert world.outbox.requests[key] == (CHAT, "an", "7")
    await world.takes(
        kind(id="verified/1", chat=CHAT, received_at=world.clock.now(), message_id=world.outbox.id_of(key))
    )

    assert world.sees == ["Wie bent u?", "Bevestig eerst wie u bent, met de knop hierboven.", said]
    assert not world.store.timers


@pytest.mark.parametrize(
    ("found", "said"), [(is_already, "Geverifieerd."), (cannot_be, "Niet geverifieerd.")]
)
async def test_a_user_who_is_verified_or_cannot_be_is_not_asked(found: Any, said: str) -> None:
    world = World([verify], options={"identities": found})
    await world.says("start")

    assert world.sees == [said]
    assert not world.outbox.requests


async def test_without_a_way_to_find_providers_a_verification_is_refused() -> None:
    world = World([verify])
    await world.says("start")

    assert isinstance(world.errors[0], ConfigurationError)


async def test_in_a_group_chat_the_buttons_are_for_the_dialog_s_user() -> None:
    @register()
    async def asking(d: Dialog) -> None:
        await d.say(f"{await d.confirm('Goed?')}")

    world = World([asking])
    await world.says("start", chat=GROUP)
    await world.says("start", user="bea")

    questions = [content.question for _, content in world.outbox.sent.values()]
    assert [question.users for question in questions if question] == [("an",), ()]
    await world.presses("ja", chat=GROUP, user="cor")
    await world.says("[mention=abc] Ja", chat=GROUP)
    assert world.sees[-1] == "True"
    assert world.sees.count("True") == 1


@register()
async def agreement(d: Dialog) -> None:
    found = await d.mention("Wie?")
    answers = await d.ask_all(
        [*found, d.user_id],
        ConfirmQuestion("Akkoord?"),
        stop_on=False,
        summary=True,
    )
    await d.say(f"{answers}")


@modes
async def test_several_are_asked_with_a_running_summary_and_a_break(mode: Mode) -> None:
    world = World([agreement], mode, options={"me": "bot"})
    bea, cor = "0" * 8, "1" * 8
    await world.says("start", chat=GROUP)
    await world.says(f"[mention={bea}] [mention={cor}]", chat=GROUP)
    await world.says("ja", user=bea, chat=GROUP)
    await world.kill_and_restart()
    await world.says("nee", user=cor, chat=GROUP)

    assert world.sees[:2] == ["Wie?", "Akkoord?"]
    assert world.sees[2].startswith("Antwoorden: 1 van 3.")
    assert world.sees[3] == str({bea: True, cor: False})
    assert not world.is_open()


@modes
async def test_two_dialogs_of_a_group_may_ask_the_same_user(mode: Mode) -> None:
    @register()
    async def who_comes(d: Dialog) -> None:
        await d.say(f"{await d.ask_all([d.user_id, 'bo'], ConfirmQuestion('Komt u?'))}")

    world = World([who_comes], mode)
    await world.says("start", chat=GROUP)
    await world.says("start", user="cees", chat=GROUP)
    await world.says("stop", user="cees", chat=GROUP)
    await world.says("ja", chat=GROUP)
    await world.says("ja", user="bo", chat=GROUP)

    assert world.sees[-1] == "{'an': True, 'bo': True}"
    assert not world.unhandled
    assert not world.is_open()
