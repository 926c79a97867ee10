"""What goes to the database and comes back as JSON: texts, moments and numbers."""

import asyncio
import logging
from datetime import UTC, timedelta, timezone
from logging.config import dictConfig

import pytest
from sqlalchemy import text as sql

from healthmsg.bulk.journal import Entry, JournalFile, open_journal
from healthmsg.errors import Outcome
from tests.bulk.journal.journals import NOW, entry, holding, keys, only


@pytest.mark.parametrize(
    "text",
    [
        *('"', "\\", "\\u0000", "\x01\x1f\x7f", "\n\r\t", "\u2028\ufeff\ufffd", "👩‍⚕️", "Zoë", "Zoe\u0308"),
        *('["a", 1]', '{"a": null}', "null", "true", "12", "1e400", "-0.0", " ", "'; --", "%s :a $1 ?"),
        *("k" * 500, "x"),
    ],
)
async def test_a_text_comes_out_as_it_went_in(target: str, text: str) -> None:
    file = JournalFile(f"/{text}", text, 1, text)
    entered = Entry(text, f"conversations/{text}", text * 2, (file,), {text: [text]})
    async with open_journal(target) as journal:
        await journal.enter([entry("first"), entered, entry("last")])
        _, claim, _ = await journal.claim(3)
        assert (claim.key, claim.chat, claim.body) == (text, entered.chat, entered.body)
        assert (claim.files, claim.question) == ((file,), {text: [text]})
        await journal.begin(claim, NOW, entered.chat)
        await journal.finish(claim, Outcome.UNKNOWN, error=text)
        assert await journal.conversation_with(entered.chat) == entered.chat
        (status,) = await journal.statuses([text])
        assert (status.key, status.error) == (text, text)
        await journal.finish(claim, Outcome.DELIVERED, message_id=text)
        assert await journal.is_claimed_id(text, "first")


async def test_what_sqlalchemy_logs_shows_no_row_and_no_value(
    target: str, caplog: pytest.LogCaptureFixture
) -> None:
    # After dictConfig, which takes the levels of loggers below away.
    async with holding(target, entry("k-canary", "patient-canary", "Beste mevrouw Jansen")) as journal:
        await journal.counts()
    dictConfig(
        {"version": 1, "loggers": {"sqlalchemy": {"level": "DEBUG"}}, "disable_existing_loggers": False}
    )
    try:
        async with open_journal(target) as journal:
            claim = only(await journal.claim(1))
            await journal.begin(claim, NOW, claim.chat)
            await journal.finish(claim, Outcome.DELIVERED, message_id="m-canary")
            assert [row.message_id async for row in journal.rows()] == ["m-canary"]
            assert claim.body == "Beste mevrouw Jansen"
    finally:
        logging.getLogger("sqlalchemy").setLevel(logging.NOTSET)
    assert "SELECT" in caplog.text
    assert not [text for text in ("Jansen", "-canary") if text in caplog.text]


async def test_each_attempt_has_its_own_beginning_to_the_microsecond(target: str) -> None:
    moments = [
        NOW,
        NOW + timedelta(minutes=10, microseconds=7),
        NOW.astimezone(timezone(timedelta(hours=-3))),
    ]
    async with holding(target, *(entry(key) for key in "abc")) as journal:
        claims = await journal.claim(3)
        await asyncio.gather(
            *(journal.begin(claim, moment, claim.chat) for claim, moment in zip(claims, moments, strict=True))
        )
        rows = [row.started_at async for row in journal.rows()]

    async with open_journal(target) as journal:
        in_doubt = [claim.started_at for claim in await journal.claim_in_doubt()]

    assert rows == in_doubt == moments
    assert all(moment is not None and moment.tzinfo is UTC for moment in rows + in_doubt)


async def test_there_is_room_for_more_messages_than_32_bits_count(target: str) -> None:
    async with holding(target, entry("a")) as journal:
        last = sql("UPDATE healthmsg_messages SET position = 2147483647")
        await journal.do(lambda connection: connection.execute(last))
        await journal.enter([entry("b"), entry("c")])
        assert keys(await journal.claim(9)) == ["a", "b", "c"]
