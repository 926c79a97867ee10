"""Killing a bot while patients write to it, and finding out what they have got from it."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from attrs import field, frozen

from healthmsg.bot.store.store import BotStore
from healthmsg.database.states import State
from healthmsg.sandbox import CutAfter, CutBefore, Sandbox
from tests.bot import killed_bot
from tests.bot.killed_bot import BEGIN, QUESTIONS, Kind, answer_to
from tests.gateway.killing import BEFORE, IN_EACH, Killing, prepared
from tests.waiting import until

CUT: Final = 0.03
"""The share of the calls that the service carries out and does not answer; as many do not reach it."""
SLOWEST: Final = 5.0
"""Replies a second: a bot that is slower than that on the whole is stuck, although some still come."""
PATIENCE: Final = 60.0
"""Seconds without a reply after which none is waited for."""
_LOOK: Final = 0.02


@frozen
class BotAftermath:
    """What was found at the end. All but `kills` and what is below `failed` is to be none."""

    kills: int
    unanswered: int = 0
    """Messages without the reply that they were to have, or dialogs that did not end."""
    twice: int = 0
    """Replies that are there more than once."""
    out_of_order: int = 0
    """Chats whose replies are not in the order of what they answer."""
    parked: int = 0
    unknown: int = 0
    """Replies of which the bot says that they may have arrived."""
    failed: tuple[str, ...] = ()
    seconds: float = field(default=0.0, eq=False)


def is_of(expected: Sequence[str], got: Sequence[str]) -> tuple[int, int, bool]:
    """Return how many are missing, how many are there too often, and whether their order is another one."""
    wanted, found = Counter(expected), Counter(got)
    first = list(dict.fromkeys(got))
    in_order = [body for body in expected if body in found]
    return (wanted - found).total(), (found - wanted).total(), first != in_order


async def answered_though_killed(
    store: str,
    folder: Path,
    *,
    kills: int,
    seed: int,
    dropped: float = 0.06,
    kind: Kind = Kind.ANSWERS,
    in_each: int = IN_EACH,
) -> BotAftermath:
    """Kill a bot that answers so many messages in each of 40 chats, and let it answer all at last."""
    started = time.perf_counter()
    async with prepared(
        store,
        folder,
        seed=seed,
        dropped=dropped,
        program=killed_bot.__name__,
        does=kind.value,
        in_each=in_each,
    ) as killing:
        _let_fail(killing.sandbox, seed)
        async with asyncio.TaskGroup() as group:
            for left in range(kills, 0, -1):
                bot = await killing.start()
                if left == kills:
                    await until(killing.sandbox.gateway.connected)
                group.create_task(killing.send_share(left + 1))
                await killing.kill_at_random(bot, len(killing.chats) * in_each * 3 // (kills + 1))
            last = await killing.start()
            await killing.send_share(1)
            await _settle(killing, lambda: _replies(killing) >= len(killing.sent), len(killing.sent))
            if await last.end() != 0:
                killing.failed.append(last.stderr())
        found = [
            is_of([answer_to(body) for body in of_others], own)
            for of_others, own in (_said(killing, chat) for chat in killing.chats)
        ]
        return await _aftermath(killing, kills, found, started)


async def held_though_killed(
    store: str, folder: Path, *, dialogs: int, kills: int, seed: int, dropped: float = 0.06
) -> BotAftermath:
    """Kill a bot in dialogs of twenty questions; the users' side must see what it would have seen without."""
    started = time.perf_counter()
    async with prepared(
        store,
        folder,
        seed=seed,
        dropped=dropped,
        program=killed_bot.__name__,
        does=Kind.DIALOGS.value,
        conversations=dialogs,
    ) as killing:
        sandbox, chats = killing.sandbox, killing.chats
        _let_fail(sandbox, seed)
        bot = await killing.start()
        await until(sandbox.gateway.connected)
        users = asyncio.create_task(_answer_all(sandbox, chats))
        try:
            for _ in range(kills):
                await killing.kill_at_random(bot, 40)
                bot = await killing.start()
            said = len(chats) * len(transcript())
            await _settle(killing, lambda: all(_has_ended(sandbox, chat) for chat in chats), said)
        finally:
            users.cancel()
            await asyncio.wait([users])
        if await bot.end() != 0:
            killing.failed.append(bot.stderr())
        found = [is_of(transcript(), _said(killing, chat)[1]) for chat in chats]
        return await _aftermath(killing, kills, found, started)


def transcript() -> list[str]:
    """Return what the bot says in a dialog that nothing happens to."""
    said = []
    for number in range(QUESTIONS):
        said.append(f"Vraag {number}?")
        if number % 5 == 4:
            said.append(f"{number + 1} van {QUESTIONS}")
    return [*said, f"Klaar: {QUESTIONS} antwoorden."]


def _let_fail(sandbox: Sandbox, seed: int) -> None:
    for kind in (CutAfter(), CutBefore()):
        sandbox.faults.add(
            kind=kind,
            method="POST",
            template="conversations/{id}/messages",
            times=None,
            probability=CUT,
            seed=seed,
        )


def _said(killing: Killing, chat: str) -> tuple[list[str], list[str]]:
    """Return what the others and what the bot has said in a chat."""
    me = killing.sandbox.user_id
    messages = killing.sandbox.messages(chat)[len(BEFORE) :]
    others = [message.body or "" for message in messages if message.sender_id != me]
    return others, [message.body or "" for message in messages if message.sender_id == me]


def _replies(killing: Killing) -> int:
    return sum(len(_said(killing, chat)[1]) for chat in killing.chats)


def _has_ended(sandbox: Sandbox, chat: str) -> bool:
    return (sandbox.messages(chat)[-1].body or "").startswith("Klaar")


async def _answer_all(sandbox: Sandbox, chats: Sequence[str]) -> None:
    """Answer each question once, as soon as it is there."""
    answered = dict.fromkeys(chats, -1)
    for chat in chats:
        sandbox.say(None, chat, BEGIN)
    while True:
        for chat in chats:
            last = sandbox.messages(chat)[-1].body or ""
            if not (last.startswith("Vraag ") and last.endswith("?")):
                continue
            number = int(last.removeprefix("Vraag ").removesuffix("?"))
            if number > answered[chat]:
                answered[chat] = number
                sandbox.say(None, chat, f"antwoord {number}")
        await asyncio.sleep(_LOOK)


async def _settle(killing: Killing, is_done: Callable[[], bool], replies: int) -> None:
    """Wait until all is done, and what should not come has had time to come."""
    end, seen, last_at = time.monotonic() + PATIENCE + replies / SLOWEST, -1, time.monotonic()
    while not is_done() and time.monotonic() < min(end, last_at + PATIENCE):
        if (count := _replies(killing)) != seen:
            seen, last_at = count, time.monotonic()
        await asyncio.sleep(0.1)
    await asyncio.sleep(2 * killing.settle)


async def _aftermath(
    killing: Killing, kills: int, found: Sequence[tuple[int, int, bool]], started: float
) -> BotAftermath:
    async with BotStore.open(killing.store, is_reading=True) as store:
        parked = len(await store.parked())
        unknown = len([row async for row in store.journal.rows(State.UNKNOWN)])
    return BotAftermath(
        kills=sum(consumer.is_killed for consumer in killing.consumers),
        unanswered=sum(missing for missing, _, _ in found),
        twice=sum(extra for _, extra, _ in found),
        out_of_order=sum(is_wrong for *_, is_wrong in found),
        parked=parked,
        unknown=unknown,
        failed=tuple(killing.failed),
        seconds=time.perf_counter() - started,
    )
