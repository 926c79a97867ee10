"""`healthmsg journal unknown` and `healthmsg journal decide`."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from healthmsg import Client
from healthmsg.bulk.journal import Entry, JournalMessage, State, open_journal
from healthmsg.errors import Outcome
from healthmsg.sandbox import Sandbox
from tests.cli.command_line import Done, invoke, run

TEXT = "Beste mevrouw Jansen"
WHY = "DeliveryUnknownError: the line broke"
NO_ACCOUNT = {"HEALTHMSG_TOKEN": None, "HEALTHMSG_API_URL": None, "HEALTHMSG_ENVIRONMENT": None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recall.db"


async def unknown_one(
    path: Path,
    chat: str,
    owner: tuple[str, str] | None = None,
    at: datetime | None = None,
    *,
    is_final: bool = True,
) -> None:
    async with open_journal(path) as journal:
        if owner is not None:
            await journal.set_owner(*owner)
        await journal.enter([Entry("k1", chat, TEXT), Entry("k2", chat, "Tot morgen")])
        (claim,) = await journal.claim(1)
        await journal.begin(claim, at or datetime.now(UTC), claim.chat)
        await journal.finish(claim, Outcome.UNKNOWN, error=WHY, is_final=is_final)


async def row_of(path: Path, key: str = "k1") -> JournalMessage:
    async with open_journal(path, is_reading=True) as journal:
        (row,) = [row async for row in journal.rows() if row.key == key]
    return row


async def shown(sandbox: Sandbox, path: Path, *options: str) -> Done:
    done = await run(sandbox, "journal", "unknown", path, *options)
    assert done.code == 0, done
    return done


async def my_chat(sandbox: Sandbox, *said: str) -> tuple[str, str, list[str]]:
    """Return a chat, my own id, and the ids of the messages that I wrote there."""
    chat = sandbox.add_conversation()
    async with Client(sandbox.issue_token(), environment=sandbox.environment) as client:
        ids = [(await client.conversations(chat).send(body)).id for body in said]
        return f"conversations/{chat}", (await client.me.get()).id, ids


# --- unknown


async def test_it_shows_what_the_journal_and_the_chat_know(sandbox: Sandbox, path: Path) -> None:
    chat, me, (same, other) = await my_chat(sandbox, TEXT, "Iets anders")
    await unknown_one(path, chat, (me, sandbox.environment.api_url))

    done = await shown(sandbox, path)

    for expected in ("k1", f"to {chat}", "call 1", "why: the line broke", "within 10 minutes of that:"):
        assert expected in done.out
    assert f"message {same}, not one that the journal knows, the same text" in done.out
    assert f"message {other}, not one that the journal knows, another text" in done.out
    assert "k2" not in done.out
    for private in (TEXT, "Iets anders"):
        assert private not in done.out + done.err


async def test_texts_are_shown_when_asked_for(sandbox: Sandbox, path: Path) -> None:
    chat, me, _ = await my_chat(sandbox, "Iets anders")
    await unknown_one(path, chat, (me, sandbox.environment.api_url))

    done = await shown(sandbox, path, "--texts")

    assert f"text: {TEXT}" in done.out
    assert "Iets anders" in done.out


async def test_messages_of_the_journal_are_marked_as_such(sandbox: Sandbox, path: Path) -> None:
    chat, me, (message_id,) = await my_chat(sandbox, TEXT)
    await unknown_one(path, chat, (me, sandbox.environment.api_url))
    async with open_journal(path) as journal:
        (claim,) = await journal.claim(1)
        await journal.begin(claim, datetime.now(UTC), claim.chat)
        await journal.finish(claim, Outcome.DELIVERED, message_id=message_id)

    done = await shown(sandbox, path)

    assert f"message {message_id}, another of this journal's" in done.out


async def test_what_others_wrote_is_left_out(sandbox: Sandbox, path: Path) -> None:
    chat, me, _ = await my_chat(sandbox)
    other = sandbox._person(sandbox.add_user("An", "Visser"))
    sandbox.store.post(sandbox._chat(chat), other, "Dank u wel")
    await unknown_one(path, chat, (me, sandbox.environment.api_url))

    done = await shown(sandbox, path)

    assert "nothing of yours in the chat within 10 minutes of that" in done.out


async def test_the_nearest_are_shown_when_there_is_nothing_around_that_time(
    sandbox: Sandbox, path: Path
) -> None:
    chat, me, (message_id,) = await my_chat(sandbox, TEXT)
    await unknown_one(path, chat, (me, sandbox.environment.api_url), datetime.now(UTC) - timedelta(hours=2))

    done = await shown(sandbox, path)

    assert "nothing of yours in the chat within 10 minutes of that" in done.out
    assert "the nearest of yours" in done.out
    assert f"message {message_id}, " in done.out


async def test_a_chat_that_cannot_be_read_keeps_none_from_being_shown(sandbox: Sandbox, path: Path) -> None:
    await unknown_one(path, "conversations/missing")

    done = await shown(sandbox, path)

    assert "the chat could not be read: GET conversations/{id}/messages: answered 404" in done.out
    assert "why: the line broke" in done.out
    assert "Error" not in done.out


async def test_another_account_is_refused(sandbox: Sandbox, path: Path) -> None:
    await unknown_one(path, "conversations/c1", ("another", sandbox.environment.api_url))

    done = await run(sandbox, "journal", "unknown", path)

    assert done.code == 1
    assert "belongs to another account" in done.err


@pytest.mark.parametrize("options", [("--offline",), ()])
async def test_without_the_service_the_journal_says_what_it_knows(
    path: Path, options: tuple[str, ...]
) -> None:
    await unknown_one(path, "conversations/c1", is_final=False)

    done = await asyncio.to_thread(invoke, "journal", "unknown", path, *options, env=NO_ACCOUNT)

    assert done.code == 0, done
    assert "why: the line broke" in done.out
    assert "the next run with this journal tries to find out by itself" in done.out
    assert ("HEALTHMSG_TOKEN is not set" in done.out) is not bool(options)
    assert TEXT not in done.out


async def test_it_says_when_nothing_is_unknown(sandbox: Sandbox, path: Path) -> None:
    async with open_journal(path):
        pass

    assert "Nothing is unknown." in (await shown(sandbox, path)).out


# --- decide


async def decided(path: Path, *arguments: str) -> Done:
    return await asyncio.to_thread(invoke, "journal", "decide", path, *arguments)


@pytest.mark.parametrize(
    ("word", "state", "outcome"),
    [
        ("delivered", State.DELIVERED, Outcome.DELIVERED),
        ("not-sent", State.PARKED, Outcome.NOT_SENT),
    ],
)
async def test_a_persons_word_is_kept_with_the_name(
    path: Path, word: str, state: State, outcome: Outcome
) -> None:
    await unknown_one(path, "conversations/c1")

    done = await decided(path, "k1", word, "--yes", "--by", "An Visser")

    assert done.code == 0, done
    row = await row_of(path)
    assert row.state is state
    assert row.decision is not None
    assert (row.decision.by, row.decision.outcome) == ("An Visser", outcome)


async def test_the_login_name_and_the_id_of_the_message_are_noted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await unknown_one(path, "conversations/c1")
    monkeypatch.setattr("healthmsg.cli.journal.getuser", lambda: "avisser")

    await decided(path, "k1", "delivered", "--yes", "--message-id", "m7")

    row = await row_of(path)
    assert row.message_id == "m7"
    assert row.decision is not None
    assert row.decision.by == "avisser"


async def test_without_a_login_name_one_is_to_be_given(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> str:
        raise OSError

    await unknown_one(path, "conversations/c1")
    monkeypatch.setattr("healthmsg.cli.journal.getuser", unknown)

    done = await decided(path, "k1", "delivered", "--yes")

    assert done.code == 2
    assert "--by" in done.err
    assert (await row_of(path)).state is State.UNKNOWN


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (("k1", "delivered"), 2, "give --yes"),
        (("k2", "delivered", "--yes"), 2, "This message is waiting, not unknown"),
        (("k3", "not-sent", "--yes"), 2, "has no message with this key"),
        (("k1", "not-sent", "--yes", "--message-id", "m7"), 2, "only a message that was delivered has an id"),
        (("k1", "perhaps", "--yes"), 2, "perhaps"),
    ],
)
async def test_what_cannot_be_decided_changes_nothing(
    path: Path, arguments: tuple[str, ...], code: int, problem: str
) -> None:
    await unknown_one(path, "conversations/c1")

    done = await decided(path, *arguments)

    assert done.code == code, done
    assert problem in done.err
    assert (await row_of(path)).state is State.UNKNOWN


async def test_nothing_is_decided_beside_a_run(path: Path) -> None:
    await unknown_one(path, "conversations/c1")

    async with open_journal(path):
        done = await decided(path, "k1", "delivered", "--yes")

    assert done.code == 1
    assert "Another process" in done.err


async def test_a_journal_that_is_not_there_is_not_made(path: Path) -> None:
    done = await decided(path, "k1", "delivered", "--yes")

    assert done.code == 2
    assert "there is no such journal" in done.err


async def test_show_and_export_say_what_was_decided(sandbox: Sandbox, path: Path) -> None:
    await unknown_one(path, "conversations/c1")
    await decided(path, "k1", "delivered", "--yes", "--by", "An Visser")

    count = await run(sandbox, "journal", "show", path)
    export = path.with_name("out.csv")
    await run(sandbox, "journal", "export", path, "--to", export)

    assert "1  of them decided by a person" in count.out
    assert "An Visser" not in count.out
    header, first, second = _read(export)
    assert header[-4:] == ["superseded", "decided", "decided_by", "decided_at"]
    assert first[-4:-1] == ["", "delivered", "An Visser"]
    assert datetime.fromisoformat(first[-1]).tzinfo is not None
    assert second[-4:] == ["", "", "", ""]


def _read(path: Path) -> list[list[str]]:
    return [line.split(",") for line in path.read_text(encoding="utf-8-sig").splitlines()]


async def test_the_next_run_goes_on_from_that(sandbox: Sandbox, path: Path) -> None:
    chat, me, _ = await my_chat(sandbox)
    await unknown_one(path, chat, (me, sandbox.environment.api_url))
    await decided(path, "k1", "not-sent", "--yes")

    done = await run(sandbox, "send-many", "--resume", "--yes", "--journal", path)

    assert done.code == 0, done
    assert [message.body for message in sandbox.messages(chat)] == [TEXT, "Tot morgen"]


async def test_the_journal_of_the_variable_is_taken(path: Path) -> None:
    await unknown_one(path, "conversations/c1")
    own = {"HEALTHMSG_JOURNAL": str(path)}

    done = await asyncio.to_thread(invoke, "journal", "decide", "k1", "delivered", "--yes", env=own)

    assert done.code == 0, done
    assert (await row_of(path)).state is State.DELIVERED
    missing = await asyncio.to_thread(invoke, "journal", "decide", "k2", "--yes", env=own)
    assert missing.code == 2
