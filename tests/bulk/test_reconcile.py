"""What became of a message of which that is not known: in fake time, over chats that lie in memory."""

import asyncio
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from attrs import define, evolve, field
from hypothesis import given, settings
from hypothesis import strategies as st

from healthmsg.bulk.reconcile import Evidence, Reconciled, Reconciler
from healthmsg.delivery.aliases import Aliases
from healthmsg.delivery.ledger import Delivered, Deliveries
from healthmsg.delivery.proof import Attempt
from healthmsg.ids import ChatAddress
from healthmsg.models import Attachment, ConversationInfo, Message, Outcome, User
from healthmsg.paging import Pager

pytestmark = pytest.mark.looptime

CHAT, OTHER = ChatAddress.parse("conversations/c1"), ChatAddress.parse("conversations/c2")
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
TEXT = "Uw afspraak is bevestigd."
SETTLE = 90.0
UNKNOWN, NOT_SENT = Reconciled(Outcome.UNKNOWN), Reconciled(Outcome.NOT_SENT)


def at(seconds: float) -> datetime:
    """Return a moment, in seconds after the attempt began."""
    return NOON + timedelta(seconds=seconds)


def message(number: int, seconds: float = 1.0, body: str | None = TEXT, **more: Any) -> Message:
    return evolve(Message(f"m{number}", body, user_id="me", created_at=at(seconds)), **more)


ATTEMPT = Attempt(CHAT, TEXT, departed_at=at(0), ended_at=at(10))
# What is found proves that the search works.
PROOF = message(1000, -3600, "Iets anders")


def known(chat: ChatAddress = CHAT, message_id: str = PROOF.id, body: str = "Iets anders") -> Delivered:
    return Delivered(chat, message_id, at(-3601), at(-3599.5), body.__eq__, body)


class Clock:
    """Fake time, of which the service's clock is not ahead."""

    def __init__(self) -> None:
        self.started = asyncio.get_running_loop().time()

    def now(self) -> float:
        return asyncio.get_running_loop().time() - self.started

    def moment(self, seconds: float | None = None) -> datetime:
        return at(10 + (self.now() if seconds is None else seconds))

    def offset(self) -> tuple[timedelta, timedelta]:
        return timedelta(), timedelta()

    def was_set_since(self, _: float) -> bool:
        return False

    def last_set_at(self) -> float:
        return -math.inf


@define
class Service:
    """Chats in memory, and a clock."""

    chats: dict[ChatAddress, list[Message]] = field(factory=lambda: {CHAT: [PROOF]})
    """The newest first."""
    known: Delivered | None = field(factory=known)
    claimed: set[str] = field(factory=set)
    page_size: int = 100
    page_takes: float = 0.0
    pages_read: int = 0
    after_first_page: Callable[[], None] = lambda: None
    deliveries: Any = field(factory=lambda: Deliveries(cast(Any, Clock())))

    @property
    def waited(self) -> float:
        waited: float = self.deliveries.clock.now()
        return waited

    def pages(self, *_: object, **__: object) -> Pager[Message]:
        chat = _[2]
        assert isinstance(chat, ChatAddress)

        async def fetch(page: int, _: int) -> tuple[Message, ...]:
            self.pages_read += 1
            await asyncio.sleep(self.page_takes)
            start = page * self.page_size
            found = tuple(self.chats[chat][start : start + self.page_size])
            if chat == CHAT and page == 0:
                self.after_first_page()
            return found

        return Pager(fetch, asyncio.create_task)

    async def claim(self, _: Attempt, message_id: str) -> bool:
        if message_id in self.claimed:
            return False
        self.claimed.add(message_id)
        return True

    async def is_claimed(self, message_id: str) -> bool:
        return message_id in self.claimed

    async def witnesses(self, _: Attempt) -> Sequence[Delivered]:
        return [self.known] if self.known is not None else []

    async def wait(self) -> bool:
        return False

    async def find_out(self, attempt: Attempt = ATTEMPT) -> Reconciled:
        api: Any = self
        return await Reconciler(api, "me", timedelta(seconds=SETTLE), cast(Evidence, self)).find_out(
            attempt, 0.0
        )


def with_messages(*messages: Message) -> Service:
    return Service({CHAT: [*messages, PROOF]})


# --- what is there


@pytest.mark.parametrize("seconds", [0, 5, 10, 99])
async def test_a_message_of_the_attempts_time_was_delivered(seconds: float) -> None:
    service = with_messages(message(1, seconds))
    assert await service.find_out() == Reconciled(Outcome.DELIVERED, "m1")
    assert service.waited == 0


async def test_the_service_may_tell_the_sender_whole() -> None:
    service = with_messages(message(1, user_id=None, user=User("me")))
    assert await service.find_out() == Reconciled(Outcome.DELIVERED, "m1")


@pytest.mark.parametrize("body", [f" {TEXT}\r\n", TEXT.replace(" ", "  "), TEXT.replace(" ", "\u00a0")])
async def test_a_text_that_the_service_has_tidied_is_the_same(body: str) -> None:
    assert (await with_messages(message(1, body=body)).find_out()).message_id == "m1"


async def test_letters_can_be_written_in_two_ways() -> None:
    service = with_messages(message(1, body="Cafe\u0301"))
    assert (await service.find_out(evolve(ATTEMPT, body="Café"))).message_id == "m1"


async def test_a_message_that_comes_while_it_is_waited_for_was_delivered() -> None:
    service = Service()

    async def comes_late() -> None:
        await asyncio.sleep(60)
        service.chats[CHAT].insert(0, message(1, 70))

    async with asyncio.TaskGroup() as group:
        group.create_task(comes_late())
        verdict = group.create_task(service.find_out())
    assert verdict.result() == Reconciled(Outcome.DELIVERED, "m1")
    assert service.waited == pytest.approx(SETTLE, abs=0.1)


async def test_what_another_sending_has_claimed_is_not_found_again() -> None:
    service = with_messages(message(2, 3), message(1, 2))
    service.claimed = {"m1"}
    assert (await service.find_out()).message_id == "m2"
    assert await service.find_out() == NOT_SENT


async def test_of_two_that_fit_the_older_one_is_taken() -> None:
    assert (await with_messages(message(2, 3), message(1, 2)).find_out()).message_id == "m1"


# --- what is not there


async def test_what_is_absent_when_it_cannot_come_any_more_was_not_sent() -> None:
    service = Service()
    assert await service.find_out() == NOT_SENT
    assert service.waited == pytest.approx(SETTLE, abs=0.1)


async def test_absence_that_is_old_enough_needs_no_wait() -> None:
    service = Service()
    await asyncio.sleep(SETTLE)
    assert await service.find_out() == NOT_SENT
    assert service.waited == SETTLE


@pytest.mark.parametrize(
    "there",
    [
        message(1, -9),
        message(1, -86400),
        message(1, user_id="somebody else"),
        message(1, body="Een andere tekst"),
        message(1, 10 + SETTLE + 9),
    ],
)
async def test_what_is_something_else_does_not_count(there: Message) -> None:
    assert await with_messages(there).find_out() == NOT_SENT


@pytest.mark.parametrize("known", [None, known(OTHER, "m7", TEXT)])
async def test_absence_proves_nothing_when_nothing_is_known_to_be_found(known: Delivered | None) -> None:
    service = Service({CHAT: [PROOF], OTHER: [message(8)]}, known=known)
    assert await service.find_out() == UNKNOWN


@pytest.mark.parametrize("changed", [{"body": "Iets anders!"}, {"body": None}, {"user_id": "you"}])
async def test_absence_proves_nothing_when_what_is_known_is_not_found_as_it_was_sent(
    changed: dict[str, Any],
) -> None:
    assert await Service({CHAT: [evolve(PROOF, **changed)]}).find_out() == UNKNOWN


@define
class Busy(Service):
    """A service to which an equal text leaves for another chat whenever a message is claimed."""

    aliases: Aliases = field(factory=Aliases)

    def __attrs_post_init__(self) -> None:
        self.deliveries = Deliveries(cast(Any, Clock()), self.aliases)

    async def read(self, *_: object) -> ConversationInfo:
        return ConversationInfo(CHAT.id, user=User("u1"))

    async def claim(self, attempt: Attempt, message_id: str) -> bool:
        sent = self.deliveries.track(OTHER, TEXT)
        asyncio.get_running_loop().call_later(1.0, self.deliveries.untrack, OTHER, sent)
        found: bool = self.deliveries.claim(attempt, message_id)
        return found


async def test_an_equal_text_that_leaves_for_another_chat_meanwhile_leaves_nothing_unknown() -> None:
    service = Busy({CHAT: [message(1), PROOF]})
    assert await service.find_out() == Reconciled(Outcome.DELIVERED, "m1")
    assert service.waited == 0


@define
class Lagging(Service):
    """A service that lists messages `lag` seconds late, to one who sends another message every second."""

    lag: float = SETTLE - 1
    first_at: float = 10

    def _sent(self) -> list[Delivered]:
        times = range(int(self.first_at), int(10 + self.waited))
        return [Delivered(OTHER, f"o{time}", at(time), at(time + 0.1), "Dag".__eq__, "Dag") for time in times]

    async def witnesses(self, _: Attempt) -> Sequence[Delivered]:
        return self._sent()[-1:]

    def pages(self, *_: object, **__: object) -> Pager[Message]:
        until = 10 + self.waited - self.lag
        self.chats[OTHER] = [
            Message(one.message_id, "Dag", user_id="me", created_at=one.departed_at)
            for one in reversed(self._sent())
            if one.departed_at <= at(until)
        ]
        return Service.pages(self, *_, **__)


async def test_a_known_message_that_was_too_new_when_its_list_was_read_disproves_nothing() -> None:
    service = Lagging(page_takes=2.0, first_at=-100)
    assert await service.find_out() == NOT_SENT


async def test_where_all_that_is_known_is_too_new_it_is_waited_until_one_is_not() -> None:
    service = Lagging(first_at=50)
    assert await service.find_out() == NOT_SENT
    assert service.waited < 3 * SETTLE


async def test_it_is_not_waited_for_ever_for_lists_that_lag_too_far() -> None:
    service = Lagging(first_at=50, lag=10 * SETTLE)
    assert await service.find_out() == UNKNOWN
    assert service.waited < 3 * SETTLE


async def test_the_search_may_be_proven_in_another_chat() -> None:
    service = Service({CHAT: [], OTHER: [PROOF]}, known=known(OTHER))
    assert await service.find_out() == NOT_SENT


# --- what cannot be found out


@pytest.mark.parametrize(
    "there",
    [
        message(1, created_at=None),
        message(1, user_id=None),
        message(1, -4),
        message(1, 10 + SETTLE + 4),
        message(1, body=""),
        message(1, body=None),
        message(1, body=f"{TEXT} &amp; meer"),
        message(1, attachments=(Attachment("a1", "scan.png", 3),)),
    ],
    ids=[
        "no date",
        "no sender",
        "just before",
        "just after",
        "empty",
        "no text",
        "other form",
        "with a file",
    ],
)
async def test_what_may_be_it_and_may_not_leaves_it_unknown(there: Message) -> None:
    service = with_messages(there)
    assert await service.find_out() == UNKNOWN
    service.claimed = {"m1"}
    assert await service.find_out() == NOT_SENT


@pytest.mark.slow
async def test_a_chat_without_end_says_nothing() -> None:
    service = with_messages(*(message(number, 500, "Iets") for number in range(20_001)))
    service.chats[OTHER] = [PROOF]
    service.known = known(OTHER)
    assert await service.find_out() == UNKNOWN


# --- files


ONE, TWO = Attachment("a1", "scan.png", 3), Attachment("a2", "uitslag.pdf", 5)


@pytest.mark.parametrize(
    ("there", "is_it"),
    [
        ((ONE, TWO), True),
        ((TWO, ONE), True),
        ((ONE, evolve(TWO, size=None)), True),
        ((ONE, evolve(TWO, size=6)), False),
        ((ONE, evolve(TWO, name="uitslag2.pdf")), False),
        ((ONE,), False),
        ((ONE, TWO, TWO), False),
        ((), False),
    ],
)
async def test_the_files_must_be_the_same(there: Sequence[Attachment], is_it: bool) -> None:
    attempt = evolve(ATTEMPT, files=(("scan.png", 3), ("uitslag.pdf", 5)))
    verdict = await with_messages(message(1, attachments=tuple(there))).find_out(attempt)
    assert (verdict.message_id == "m1") is is_it


# --- how it reads


async def test_one_file_does_not_stand_for_two() -> None:
    attempt = evolve(ATTEMPT, files=(("scan.png", 3), ("scan.png", 3)))
    assert await with_messages(message(1, attachments=(ONE, TWO))).find_out(attempt) == UNKNOWN
    assert (await with_messages(message(1, attachments=(ONE, ONE))).find_out(attempt)).message_id == "m1"


async def test_what_was_read_first_must_have_been_read_late_enough() -> None:
    service = Service({CHAT: [message(number, 500 - number, "Iets") for number in range(2, 9)] + [PROOF]})
    service.page_size, service.page_takes = 2, 50

    async def comes_late() -> None:
        await asyncio.sleep(60)  # when the first page has been read already
        service.chats[CHAT].insert(0, message(1, 50))

    async with asyncio.TaskGroup() as group:
        group.create_task(comes_late())
        verdict = group.create_task(service.find_out())
    assert verdict.result().message_id == "m1"


async def test_what_is_older_than_the_attempt_is_not_read() -> None:
    older = [message(number, -4000 - number, "Iets") for number in range(2, 1000)]
    service = with_messages(message(1, 500, "Iets"), *older)
    service.chats[OTHER], service.known = [PROOF], known(OTHER)
    await service.find_out()
    # One page and one ahead of it, and those of the known message: both twice.
    assert service.pages_read <= 8


async def test_a_list_in_another_order_is_read_to_its_end() -> None:
    older = [message(number, number - 2000, "Iets") for number in range(2, 1000)]
    service = Service({CHAT: [PROOF, *older, message(1)]})
    assert (await service.find_out()).message_id == "m1"


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    others=st.lists(
        st.tuples(st.floats(-20, 120), st.sampled_from(["me", "you", None]), st.sampled_from([TEXT, "Iets"])),
        max_size=8,
    ),
    delivered_at=st.none() | st.floats(0, 100),
    claimed=st.sets(st.integers(0, 7)),
)
async def test_no_message_is_ever_held_for_absent_that_is_there(
    others: list[tuple[float, str | None, str]], delivered_at: float | None, claimed: set[int]
) -> None:
    there = [message(number, at_, body, user_id=by) for number, (at_, by, body) in enumerate(others)]
    if delivered_at is not None:
        there.append(message(99, delivered_at))
    there.sort(key=lambda one: one.created_at or NOON, reverse=True)
    service = with_messages(*there)
    service.claimed = {f"m{number}" for number in claimed}

    verdict = await service.find_out()

    assert verdict.message_id not in {f"m{number}" for number in claimed}
    if delivered_at is not None:
        assert verdict.outcome is not Outcome.NOT_SENT
    if verdict.outcome is Outcome.DELIVERED:
        [found] = [one for one in there if one.id == verdict.message_id]
        assert (found.body, found.user_id) == (TEXT, "me")


async def test_a_message_that_slips_past_a_page_border_is_found() -> None:
    newer = [message(number, 500, "Iets", user_id="you") for number in range(2, 102)]
    service = Service({CHAT: [*newer, message(1, 50)], OTHER: [PROOF]}, known=known(OTHER))
    await asyncio.sleep(SETTLE)

    def vanish() -> None:
        if newer[0] in service.chats[CHAT]:
            service.chats[CHAT].remove(newer[0])

    service.after_first_page = vanish
    assert (await service.find_out()).message_id == "m1"
