"""Random operations, compared with a model so plain that it can be seen to be right."""

import asyncio
from contextlib import AbstractAsyncContextManager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from healthmsg.bulk.journal import Claim, Entry, State, open_journal, transactions
from healthmsg.bulk.journal.store import SqlJournal
from healthmsg.errors import ClaimLostError, Outcome
from tests.bulk.journal.journals import NOW

pytestmark = pytest.mark.slow

KEYS = [f"k{number}" for number in range(8)]
ADDRESSES = ["conversations/c0", "users/c0", "conversations/c1", "aux/conversations/c2"]
CHATS = {key: ADDRESSES[number % 4] for number, key in enumerate(KEYS)}
PLAIN = {address: address.replace("users", "conversations") for address in ADDRESSES}
_NUMBERS = count()

one_key = st.sampled_from(KEYS)
operations = st.one_of(
    st.tuples(st.just("enter"), st.lists(one_key, max_size=4), st.booleans()),
    st.tuples(st.just("claim"), st.integers(1, 4)),
    st.tuples(st.just("begin"), one_key, st.booleans()),
    st.tuples(st.just("finish"), one_key, st.booleans(), st.sampled_from(Outcome), st.booleans()),
    st.tuples(st.just("requeue"), one_key, st.booleans()),
    st.tuples(st.just("in_doubt")),
    st.tuples(st.just("learn"), st.permutations(ADDRESSES).map(lambda drawn: drawn[:2])),
    st.tuples(st.just("restart")),
)


@define
class Message:
    key: str
    state: State = State.WAITING
    is_final: bool = False
    is_held: bool = False
    is_apart: bool = False
    attempts: int = 0
    claims: list[Claim] = field(factory=list)


@define
class Model:
    messages: dict[str, Message] = field(factory=dict)
    recipients: dict[str, str] = field(factory=lambda: {plain: plain for plain in PLAIN.values()})

    def recipient(self, message: Message) -> str:
        """Return who is behind its chat; one that is left to its end has its own."""
        return message.key if message.is_apart else self.recipients[PLAIN[CHATS[message.key]]]

    def learn(self, one: str, other: str) -> None:
        """Let two addresses be one recipient's; an auxiliary id comes alone, it may have moved."""
        after, before = self.recipients[PLAIN[one]], self.recipients[PLAIN[other]]
        with_it = [address for address, known in self.recipients.items() if known == before]
        moved = [other] if other.startswith("aux/") else with_it
        is_open = [m for m in self.messages.values() if not m.is_final and PLAIN[CHATS[m.key]] in moved]
        groups_with_messages = [m for m in self.messages.values() if self.recipient(m) in (after, before)]
        self.recipients |= dict.fromkeys(moved, after)
        if after == before or not is_open:
            return
        seen = set()
        for message in groups_with_messages:
            if message.state is State.WAITING:
                message.is_held = False
            elif not message.is_final:
                message.is_apart = self.recipient(message) in seen
                seen.add(self.recipient(message))

    def next_ones(self, *wanted: State) -> list[str]:
        """Return what may be taken: to each recipient what is being sent or in doubt, or else the first."""
        found = []
        for recipient in sorted({self.recipient(message) for message in self.messages.values()}):
            of_this = [m for m in self.messages.values() if self.recipient(m) == recipient]
            still_open = [m for m in of_this if not m.is_final]
            busy = [m for m in still_open if m.is_held or m.state is not State.WAITING]
            assert len(busy) <= 1
            found += [m.key for m in (busy or still_open)[:1] if m.state in wanted and not m.is_held]
        order = list(self.messages)
        return sorted(found, key=order.index)


class Run:
    """Does the same to both."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.model = Model()
        self.journal: SqlJournal
        self._opening: AbstractAsyncContextManager[SqlJournal]

    async def check(self) -> None:
        rows = {row.key: row async for row in self.journal.rows()}
        assert list(rows) == list(self.model.messages)
        for key, message in self.model.messages.items():
            row = rows[key]
            assert (row.state, row.is_final, row.attempts) == (
                *(message.state, message.is_final),
                message.attempts,
            )
            assert (row.body is None) == (message.state is State.DELIVERED)

    async def enter(self, keys: list[str], retry: bool) -> None:
        statuses = await self.journal.enter(
            [Entry(key, CHATS[key], f"text {key}") for key in keys], retry_failed=retry
        )
        seen_new = set()
        for key, status in zip(keys, statuses, strict=True):
            assert status.is_new == (key not in self.model.messages and key not in seen_new)
            seen_new.add(key)
        for key in keys:
            message = self.model.messages.setdefault(key, Message(key))
            if retry and message.state is State.NOT_SENT:
                message.state, message.is_final, message.is_apart = State.WAITING, False, False

    async def claim(self, most: int) -> None:
        expected = self.model.next_ones(State.WAITING)[:most]
        self.take(await self.journal.claim(most), expected)

    async def learn(self, addresses: list[str]) -> None:
        self.model.learn(*addresses)
        await self.journal.do(lambda connection: transactions.learn(connection, [addresses]))

    async def in_doubt(self) -> None:
        expected = self.model.next_ones(State.SENDING, State.UNKNOWN)
        self.take(await self.journal.claim_in_doubt(), expected)

    def take(self, claims: list[Claim], expected: list[str]) -> None:
        assert [claim.key for claim in claims] == expected
        for claim in claims:
            message = self.model.messages[claim.key]
            assert claim.state is message.state
            message.claims.append(claim)
            message.is_held = True

    async def begin(self, key: str, is_stale: bool) -> None:
        async def on(claim: Claim) -> None:
            await self.journal.begin(claim, NOW, claim.chat)

        if await self.does(key, is_stale, on, State.WAITING):
            message = self.model.messages[key]
            message.state, message.attempts = State.SENDING, message.attempts + 1

    async def finish(self, key: str, is_stale: bool, outcome: Outcome, is_final: bool) -> None:
        async def on(claim: Claim) -> None:
            await self.journal.finish(claim, outcome, message_id=f"m-{key}", is_final=is_final)

        fitting: tuple[State, ...] = (State.SENDING, State.UNKNOWN)
        if outcome is Outcome.NOT_SENT or (outcome is Outcome.UNKNOWN and is_final):
            fitting = (*fitting, State.WAITING)
        if await self.does(key, is_stale, on, *fitting):
            message = self.model.messages[key]
            message.state = State(outcome.value)
            message.is_final = is_final or outcome is not Outcome.UNKNOWN
            message.is_held = not message.is_final

    async def requeue(self, key: str, is_stale: bool) -> None:
        if await self.does(key, is_stale, self.journal.requeue, State.WAITING, State.SENDING, State.UNKNOWN):
            message = self.model.messages[key]
            message.state, message.is_held = State.WAITING, False

    async def does(self, key: str, is_stale: bool, work: Any, *fitting: State) -> bool:
        """Do something with a claim, the latest or an earlier one, and tell whether it was to be done."""
        message = self.model.messages.get(key)
        if message is None or len(message.claims) < 1 + is_stale:
            return False
        is_expected = message.is_held and not is_stale and message.state in fitting
        try:
            await work(message.claims[-2 if is_stale else -1])
        except ClaimLostError:
            assert not is_expected
            return False
        assert is_expected
        return True

    async def restart(self) -> None:
        await self._opening.__aexit__(None, None, None)
        for message in self.model.messages.values():
            message.is_held = False
        self._opening = open_journal(self.target)
        self.journal = await self._opening.__aenter__()

    async def carry_out(self, drawn: list[tuple[Any, ...]]) -> None:
        self._opening = open_journal(self.target)
        self.journal = await self._opening.__aenter__()
        try:
            for table in ("messages", "recipients"):
                delete = text(f"DELETE FROM healthmsg_{table}")  # noqa: S608 - our own
                await self.journal.do(partial(Connection.execute, statement=delete))
            for name, *arguments in drawn:
                await getattr(self, name)(*arguments)
                await self.check()
        finally:
            await self._opening.__aexit__(None, None, None)


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(st.lists(operations, max_size=40))
def test_any_operations_on_sqlite_do_what_the_model_does(tmp_path: Path, drawn: list[Any]) -> None:
    asyncio.run(Run(str(tmp_path / f"{next(_NUMBERS)}.db")).carry_out(drawn))


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(drawn=st.lists(operations, max_size=40))
def test_any_operations_on_postgresql_do_what_the_model_does(model_database: str, drawn: list[Any]) -> None:
    asyncio.run(Run(model_database).carry_out(drawn))


@pytest.fixture
def model_database(postgresql: str) -> str:
    # The maintenance database: hypothesis runs without an event loop, and nothing else uses it.
    return f"postgresql+asyncpg://postgres@/postgres?host={postgresql}"
