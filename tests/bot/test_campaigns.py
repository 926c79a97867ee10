"""Answers to what a campaign has sent: found by message id in journals that others write."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from healthmsg import Client, Outgoing
from healthmsg.bot import campaigns as module
from healthmsg.bot.campaigns import CampaignMessage, Campaigns
from healthmsg.bot.sending import NotKnownYet
from healthmsg.bulk.journal import Entry, open_journal
from healthmsg.bulk.journal.base import Claim
from healthmsg.bulk.journal.lookup import look_up
from healthmsg.bulk.journal.store import SqlJournal
from healthmsg.database.target import Target
from healthmsg.errors import (
    ConfigurationError,
    InvalidInputError,
    JournalError,
    JournalMismatchError,
    Outcome,
)
from healthmsg.events import QuestionAnswered
from healthmsg.gateway.stream import EventsState
from healthmsg.ids import ChatAddress
from healthmsg.models import Message, Option, Question, QuestionOption, QuestionPayload
from healthmsg.sandbox import Sandbox
from tests.bulk.journal_runs import sent
from tests.bulk.sources import chats
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")

CHAT = ChatAddress.parse("conversations/c1")
VISIT = Question((Option("Ja"), Option("Nee, liever niet", name="no")))


def asking(*addresses: str, label: str | None = None) -> list[Outgoing]:
    return [
        Outgoing(to, f"Komt u, nummer {n}?", key=f"afspraak {n}", question=VISIT, label=label)
        for n, to in enumerate(addresses)
    ]


@asynccontextmanager
async def knowing(*journals: tuple[str, Path | str]) -> AsyncIterator[Campaigns]:
    """Return the campaigns of a bot; its pauses do not take any time, and are noted."""
    found = Campaigns(pause=lambda _: asyncio.sleep(0))
    for name, journal in journals:
        found.add(name, journal)
    try:
        yield found
    finally:
        await found.close()


async def test_an_answer_is_known_with_campaign_key_and_label(
    sandbox: Sandbox, client: Client, target: str
) -> None:
    first, second = chats(sandbox, 2)
    results = await sent(client, asking(first, second, label="visit"), journal=target)
    ids = [result.message_id or "" for result in results]

    async with knowing(("recall", target)) as found:
        messages = [await found.message_of(one) for one in ids]
        assert await found.message_of("another") is None

    assert messages == [CampaignMessage("recall", f"afspraak {n}", "visit") for n in range(2)]
    assert [one and one.names for one in messages] == [("visit", "recall")] * 2
    assert "afspraak" not in repr(messages)


async def test_a_campaigns_name_is_no_label_of_another_one(
    sandbox: Sandbox, client: Client, file: Path, tmp_path: Path
) -> None:
    one, other, third = chats(sandbox, 3)
    visits, recalls = tmp_path / "visit.db", tmp_path / "recall.db"
    (asked,) = await sent(client, asking(one, label="visit"), journal=visits)
    labelled = await sent(
        client, relabelled(asking(other, label="visit") + asking(third, label="flu")), journal=recalls
    )

    async with knowing(("visit", visits), ("recall", recalls)) as found:
        messages = [await found.message_of(one.message_id or "") for one in (asked, *labelled)]

    assert [one and one.names for one in messages] == [("visit", "visit"), ("recall",), ("flu", "recall")]


@pytest.mark.slow
async def test_the_event_of_the_answer_leads_to_the_message(
    sandbox: Sandbox, client: Client, file: Path
) -> None:
    (chat,) = chats(sandbox, 1)
    (result,) = await sent(client, asking(chat), journal=file)
    async with client.events(settle=0.1) as events, knowing(("visit", file)) as found:
        # A new stream begins with what happens once it is in place: an earlier answer is none of its events.
        await until(lambda: events.state is EventsState.LIVE)
        sandbox.answer(None, result.message_id or "", "no")
        async for event in events:
            if isinstance(event, QuestionAnswered):
                assert event.options == ("no",)
                message = await found.message_of(event.message_id)
                break

    assert message == CampaignMessage("visit", "afspraak 0")
    assert message.names == ("visit",)


async def test_what_the_command_line_sent_has_the_questions_name_and_not_the_line(
    sandbox: Sandbox, client: Client, file: Path
) -> None:
    one, other = chats(sandbox, 2)
    labels = asking(one, label="line 2,visit") + asking(other, label="line 3,")[:1]
    ids = [result.message_id or "" for result in await sent(client, relabelled(labels), journal=file)]

    async with knowing(("recall", file)) as found:
        messages = [await found.message_of(one) for one in ids]

    assert [one and one.label for one in messages] == ["visit", None]


def relabelled(messages: list[Outgoing]) -> list[Outgoing]:
    return [
        Outgoing(one.to, one.body, key=f"k{n}", question=one.question, label=one.label)
        for n, one in enumerate(messages)
    ]


@pytest.mark.slow
async def test_it_is_found_while_another_one_sends_with_the_journal(
    sandbox: Sandbox, client: Client, target: str
) -> None:
    addresses = chats(sandbox, 30)
    run = client.send_many(asking(*addresses), journal=target, settle=0.1)
    async with knowing(("visit", target)) as found, run:
        async for result in run:
            assert result.message_id is not None
            message = await found.message_of(result.message_id)
            assert message == CampaignMessage("visit", result.key or "")


async def test_an_answer_before_the_id_was_noted_is_waited_for(file: Path) -> None:
    async with open_journal(file) as journal:
        claim = await begun(journal)
        pauses = list[float]()

        async def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 2:
                await journal.finish(claim, Outcome.DELIVERED, message_id="m1")

        found = Campaigns(pause=pause)
        found.add("visit", file)
        assert await found.message_of("m1", CHAT) == CampaignMessage("visit", "afspraak 0")
        assert len(pauses) == 2
        assert await found.message_of("m2", CHAT) is None
        assert len(pauses) == 2


async def test_it_is_not_waited_for_longer_than_five_seconds_nor_for_what_a_dead_run_left(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_journal(file) as journal:
        await begun(journal)
    pauses = list[float]()

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    found = Campaigns(pause=pause)
    found.add("visit", file)
    with pytest.raises(NotKnownYet, match="'visit'"):
        await found.message_of("m1", CHAT)
    assert sum(pauses) == pytest.approx(5)
    assert await found.message_of("m1", ChatAddress.parse("conversations/c2"), "u2") is None

    before = sum(pauses)
    monkeypatch.setattr("healthmsg.bulk.journal.lookup._ON_ITS_WAY", -timedelta(seconds=1))
    with pytest.raises(NotKnownYet, match="'visit'"):
        await found.message_of("m1", CHAT)
    assert sum(pauses) == before


async def begun(journal: SqlJournal, chat: str = CHAT.text, **content: Any) -> Claim:
    """Begin to ask in a chat."""
    await journal.start_run()
    await journal.enter([Entry("afspraak 0", chat, "Komt u?", **{"question": {"options": []}, **content})])
    (claim,) = await journal.claim(1)
    await journal.begin(claim, datetime.now(UTC), claim.chat)
    return claim


@pytest.mark.parametrize(
    ("to", "answered_in", "may_be"),
    [
        ("conversations/c1", "conversations/c1", True),
        ("conversations/u1", "conversations/c1", True),
        ("users/u1", "conversations/c1", True),
        ("aux/conversations/patient 7", "conversations/c1", True),  # it may lead anywhere
        ("conversations/c2", "conversations/c1", False),
        ("users/u2", "conversations/c1", False),
        ("groupchats/u1", "conversations/c1", False),
        ("aux/groupchats/team", "conversations/c1", False),
        ("groupchats/g1", "groupchats/g1", True),
        ("conversations/u1", "groupchats/g1", False),
        ("aux/groupchats/team", "groupchats/g1", True),
        ("aux/conversations/patient 7", "groupchats/g1", False),
    ],
)
async def test_a_question_in_doubt_is_in_question_for_answers_of_its_chat(
    target: str, to: str, answered_in: str, may_be: bool
) -> None:
    async with open_journal(target) as journal:
        await begun(journal, to)
    assert await may_be_of(target, ChatAddress.parse(answered_in)) is may_be


async def may_be_of(target: str, chat: ChatAddress = CHAT) -> bool:
    async with knowing(("visit", target)) as found:
        try:
            assert await found.message_of("m1", chat, "u1") is None
        except NotKnownYet as one:
            doubt = one
        else:
            return False
    now = datetime.now(UTC)
    asked = [Message("m1", created_at=moment) for moment in (now, None, now - timedelta(days=1))]
    assert [doubt.may_be(message) for message in asked] == [True, True, False]
    return True


@pytest.mark.parametrize(
    ("address", "may_be"), [("conversations/c1", True), ("conversations/u1", True), ("users/u2", False)]
)
async def test_an_auxiliary_id_is_in_question_where_the_journal_knows_that_it_leads(
    target: str, address: str, may_be: bool
) -> None:
    async with open_journal(target) as journal:
        claim = await begun(journal, "aux/conversations/patient 7")
        await journal.learn_same([[address, claim.chat]])
        await journal.finish(claim, Outcome.UNKNOWN, is_final=True)
    assert await may_be_of(target) is may_be


@pytest.mark.parametrize("is_decided", [False, True])
async def test_an_auxiliary_id_of_which_nothing_is_known_stays_in_question_when_its_sending_has_ended(
    target: str, is_decided: bool
) -> None:
    async with open_journal(target) as journal:
        claim = await begun(journal, "aux/conversations/patient 7")
        await journal.finish(claim, Outcome.UNKNOWN, is_final=True)
        if is_decided:
            await journal.decide("afspraak 0", Outcome.DELIVERED, by="Jansen", at=datetime.now(UTC))
    assert await may_be_of(target)
    assert not await may_be_of(target, ChatAddress.parse("groupchats/g1"))


@pytest.mark.parametrize(
    ("names", "may_be"), [(("ja", "no"), True), (("no", "ja"), True), ((), True), (("ja",), False)]
)
async def test_a_question_with_other_buttons_is_not_the_one_in_doubt(
    file: Path, names: tuple[str, ...], may_be: bool
) -> None:
    async with open_journal(file) as journal:
        await begun(
            journal, question={"options": [{"name": "ja", "label": "Ja"}, {"name": "no", "label": "Nee"}]}
        )
    async with knowing(("visit", file)) as found:
        with pytest.raises(NotKnownYet) as doubt:
            await found.message_of("m1", CHAT, "u1")
    asked = QuestionPayload(options=tuple(QuestionOption(name=name) for name in names))
    assert doubt.value.may_be(Message("m1", payload=asked)) is may_be
    assert doubt.value.may_be(Message("m1"))


async def test_what_cannot_be_answered_is_not_in_question_and_what_a_person_says_was_delivered_is(
    target: str,
) -> None:
    async with open_journal(target) as journal:
        claim = await begun(journal, question=None)
        assert not await may_be_of(target)
        await journal.finish(claim, Outcome.UNKNOWN, is_final=True)
        await journal.decide("afspraak 0", Outcome.DELIVERED, by="Jansen", at=datetime.now(UTC))
        assert await may_be_of(target)


async def test_a_journal_that_does_not_answer_keeps_no_answer_for_longer_than_ten_seconds(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ANSWERS_WITHIN", 0.01)
    monkeypatch.setattr("healthmsg.bulk.journal.lookup.look_up", lambda *_: asyncio.sleep(60))
    async with knowing(("visit", file)) as found:
        with pytest.raises(NotKnownYet, match="did not answer") as doubt:
            await found.message_of("m1", CHAT)
        assert found.unreadable == 1
    waits = [doubt.value.retry.wait(attempt, lambda: 1.0) for attempt in range(1, 9)]
    assert waits[-1] is None
    assert sum(filter(None, waits), timedelta()) == timedelta(seconds=635)


async def test_a_journal_that_does_not_exist_yet_is_named_and_found_when_it_does(
    sandbox: Sandbox, client: Client, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with knowing(("visit", target)) as found:
        await found.check(sandbox.environment.api_url, "me")
        assert "the journal of the campaign 'visit' is not there" in caplog.text
        with pytest.raises(NotKnownYet, match="'visit' is not there"):
            await found.message_of("m1")
        (result,) = await sent(client, asking(*chats(sandbox, 1)), journal=target)

        assert await found.message_of(result.message_id or "") == CampaignMessage("visit", "afspraak 0")


async def test_next_weeks_journal_in_the_same_place_is_read_and_last_weeks_answers_are_still_known(
    sandbox: Sandbox, client: Client, file: Path
) -> None:
    addresses = chats(sandbox, 2)
    async with knowing(("visit", file)) as found:
        (last_week,) = await sent(client, asking(addresses[0]), journal=file)
        assert await found.message_of(last_week.message_id or "") is not None
        file.rename(file.with_name("last week.db"))  # noqa: ASYNC240 - at once
        (this_week,) = await sent(client, asking(addresses[1]), journal=file)

        assert await found.message_of(this_week.message_id or "") is not None
        assert await found.message_of(last_week.message_id or "") is not None
        found.add("visit", file.with_name("last week.db"))
        async with knowing(("visit", file), ("visit", file.with_name("last week.db"))) as fresh:
            assert await fresh.message_of(last_week.message_id or "") is not None


async def test_what_cannot_be_read_hides_no_other_campaign_and_is_no_answer_of_none(
    sandbox: Sandbox, client: Client, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.db", tmp_path / "bad.db"
    bad.write_bytes(b"no database" * 100)
    (result,) = await sent(client, asking(*chats(sandbox, 1)), journal=good)

    async with knowing(("broken", bad), ("visit", good)) as found:
        assert await found.message_of(result.message_id or "") == CampaignMessage("visit", "afspraak 0")
        with pytest.raises(NotKnownYet, match="The campaign 'broken'") as refused:
            await found.message_of("another")
        assert found.unreadable == 1
        with pytest.raises(JournalError, match="The campaign 'broken'"):
            await found.check(sandbox.environment.api_url, "me")

    assert refused.value.__context__ is None


async def test_a_journal_of_another_account_is_refused_at_the_start(
    sandbox: Sandbox, client: Client, file: Path
) -> None:
    await sent(client, asking(*chats(sandbox, 1)), journal=file)

    me = (await client.me.get()).id
    api_url = sandbox.environment.api_url

    async with knowing(("visit", file)) as found:
        await found.check(api_url, me)
        with pytest.raises(JournalMismatchError, match="'visit' belongs to another account"):
            await found.check(api_url, "another")
        with pytest.raises(JournalMismatchError):
            await found.check("https://example.org/v1", me)


async def test_many_at_the_same_time_are_looked_up_together(
    sandbox: Sandbox, client: Client, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = chats(sandbox, 20)
    ids = [result.message_id or "" for result in await sent(client, asking(*addresses), journal=file)]
    openings = list[int]()

    async def counted(target: Target, wanted: Mapping[str, frozenset[str]]) -> object:
        openings.append(len(wanted))
        return await look_up(target, wanted)

    monkeypatch.setattr("healthmsg.bulk.journal.lookup.look_up", counted)
    async with knowing(("visit", file)) as found:
        messages = await asyncio.gather(*map(found.message_of, ids))
        await asyncio.gather(*map(found.message_of, ids))

    assert [one and one.key for one in messages] == [f"afspraak {n}" for n in range(20)]
    assert openings == [20]


async def test_only_so_many_are_kept(
    sandbox: Sandbox, client: Client, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_KEPT", 2)
    ids = [one.message_id or "" for one in await sent(client, asking(*chats(sandbox, 4)), journal=file)]
    async with knowing(("visit", file)) as found:
        for one in [*ids, *ids]:
            assert await found.message_of(one) is not None
        file.unlink()  # noqa: ASYNC240 - at once

        for one in ids[:2]:
            with pytest.raises(NotKnownYet):
                await found.message_of(one)
        assert [await found.message_of(one) is not None for one in ids[2:]] == [True, True]


async def test_one_who_stops_waiting_leaves_the_others_their_answer(
    sandbox: Sandbox, client: Client, file: Path
) -> None:
    (result,) = await sent(client, asking(*chats(sandbox, 1)), journal=file)
    async with knowing(("visit", file)) as found:
        one, other = (asyncio.ensure_future(found.message_of(result.message_id or "")) for _ in range(2))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        one.cancel()

        assert await other == CampaignMessage("visit", "afspraak 0")
        with pytest.raises(asyncio.CancelledError):
            await one


@pytest.mark.parametrize(
    ("name", "journal", "error"),
    [
        ("", "a.db", InvalidInputError),
        ("a\nb", "a.db", InvalidInputError),
        ("visit", "mysql://u:s3cret@h/d", ConfigurationError),
        ("visit", ":memory:", ConfigurationError),
    ],
)
def test_what_cannot_be_a_campaign_is_refused_at_once(
    name: str, journal: str, error: type[Exception]
) -> None:
    with pytest.raises(error) as refused:
        Campaigns().add(name, journal)

    assert "s3cret" not in str(refused.value)
