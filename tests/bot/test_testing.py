"""A bot in a test: people act and see, time goes by, the bot dies and comes back."""

import asyncio
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copyfile

import pytest

from healthmsg.bot.people import Patient
from healthmsg.bot.store.records import ParkedEvent
from healthmsg.bot.testing import BotTest, VirtualClock, _copy_as_it_is
from healthmsg.events import Event, MessageCreated, QuestionAnswered, VerificationAccepted
from healthmsg.files import UploadFile
from healthmsg.models import Option
from tests.bot.fake_bot import FakeBot, maker


async def echo(bot: FakeBot, event: Event) -> None:
    if isinstance(event, MessageCreated):
        await bot.reply(event, f"U zei: {event.message.body}")


async def test_what_a_patient_says_is_answered_when_the_call_returns() -> None:
    began = time.perf_counter()
    async with BotTest(maker(echo)) as bot_test:
        an, bo = bot_test.patient("An"), bot_test.patient("Bo")
        await an.says("hallo")
        await bo.says("hoi")
        await an.answers("dag")

        assert [message.body for message in an.sees] == ["U zei: hallo", "U zei: dag"]
        assert [message.body for message in bo.sees] == ["U zei: hoi"]
        assert bot_test.sandbox.rejected == 0
    assert time.perf_counter() - began < 5  # a few tenths, on a machine with nothing else to do


async def test_buttons_are_seen_and_pressed_by_label_or_name() -> None:
    pressed = []

    async def ask(bot: FakeBot, event: Event) -> None:
        if isinstance(event, MessageCreated):
            options = [Option("Ja, graag", name="yes"), Option("Nee", name="no")]
            await bot.client.conversations(event.chat.id).ask("Komt u?", options=options)
        elif isinstance(event, QuestionAnswered):
            pressed.append(event.options)

    async with BotTest(maker(ask)) as bot_test:
        an = bot_test.patient("An")
        await an.says("vraag")
        await an.presses("Ja, graag")
        await an.presses("no", of="Komt u?")

        assert an.sees[0].options == ("Ja, graag", "Nee")
        assert pressed == [("yes",), ("no",)]
        with pytest.raises(AssertionError, match="Misschien"):
            await an.presses("Misschien")


async def test_files_go_both_ways(tmp_path: Path) -> None:
    photo = tmp_path / "foto.png"
    photo.write_bytes(b"\x89PNG")

    async def swap(bot: FakeBot, event: Event) -> None:
        if isinstance(event, MessageCreated):
            names = [file.name for file in event.message.attachments]
            await bot.client.conversations(event.chat.id).upload(UploadFile(b"dank", name=f"{names}.txt"))

    async with BotTest(maker(swap)) as bot_test:
        an = bot_test.patient("An")
        await an.sends(photo, ("brief.pdf", b"%PDF"))

        (file,) = an.sees[-1].files
        assert (file.name, file.content) == ("['foto.png', 'brief.pdf'].txt", b"dank")


async def test_a_patient_verifies_when_asked_to() -> None:
    verified = []

    async def ask(bot: FakeBot, event: Event) -> None:
        if isinstance(event, MessageCreated) and event.user_id is not None:
            first, *_ = await bot.client.users.providers(event.user_id)
            chat = bot.client.conversations(event.chat.id)
            await chat.request_verification(user_id=event.user_id, provider_id=first)
        elif isinstance(event, VerificationAccepted):
            verified.append(event.user_id)

    async with BotTest(maker(ask)) as bot_test:
        an = bot_test.patient("An")
        with pytest.raises(AssertionError, match="not asked"):
            await an.verifies()
        await an.says("verify")
        await an.verifies()

        assert verified == [an.id]


async def test_in_a_group_the_text_arrives_and_members_see_the_reply() -> None:
    async def answer(bot: FakeBot, event: Event) -> None:
        if isinstance(event, MessageCreated) and bot_test.mention in (event.message.body or ""):
            await bot.client.groupchats(event.chat.id).send("Dienst: Jansen")

    async with BotTest(maker(answer)) as bot_test:
        an, jan = bot_test.patient("An"), bot_test.colleague("Jan")
        group = bot_test.group("Wijk 3", an, jan)
        await jan.says("wie?", group=group)
        await an.says(f"{bot_test.mention} wie heeft dienst?", group=group)

        assert [message.body for message in group.sees] == ["Dienst: Jansen"]
        assert an.sees == []


async def test_time_stands_still_and_what_is_due_happens_at_its_moment_when_it_goes_by() -> None:
    reminded = []
    talks, heard = list[Patient](), asyncio.Event()

    async def remind(bot: FakeBot, event: Event) -> None:
        if isinstance(event, MessageCreated):
            began = bot.now()
            heard.set()
            for hours in (1, 3):
                await bot.wait_until(began + timedelta(hours=hours))
                reminded.append(bot.now())

    clock = VirtualClock(datetime(2026, 3, 29, 0, 30, tzinfo=UTC))
    waiting = clock.now()

    async def idle_but_for_waits(_: FakeBot) -> None:
        if any(one.talk.messages for one in talks):
            await heard.wait()
        for _turn in range(20):  # those of the event loop in which the handler goes on
            await asyncio.sleep(0)

    class Bot(FakeBot):
        idle = idle_but_for_waits

    def make(client: object, store: object, seams: object) -> FakeBot:
        return Bot(client=client, store=store, seams=seams, handle=remind, memory={})  # type: ignore[arg-type]

    async with BotTest(make, clock=clock) as bot_test:
        an = bot_test.patient("An")
        talks.append(an)
        await an.says("herinner mij")
        assert (clock.now(), reminded) == (waiting, [])

        await bot_test.advance(hours=4)

        assert reminded == [waiting + timedelta(hours=1), waiting + timedelta(hours=3)]
        assert clock.now() == waiting + timedelta(hours=4)
        assert bot_test.sandbox.say(an.id, an.address, "later").created_at == clock.now()


async def test_a_bot_that_is_killed_in_a_handler_handles_the_event_again() -> None:
    attempts = []

    async def handle(bot: FakeBot, event: Event) -> None:
        if isinstance(event, MessageCreated):
            attempts.append(event.attempt)
            if len(attempts) == 1:
                bot_test.kill()
                await asyncio.sleep(10)
            await bot.reply(event, "eindelijk")

    async with BotTest(maker(handle)) as bot_test:
        an = bot_test.patient("An")
        await an.says("hallo")

        assert attempts == [1, 2]
        assert [message.body for message in an.sees] == ["eindelijk"]
        assert bot_test.restarts == 1


async def test_a_bot_that_was_killed_has_no_effect_any_more() -> None:
    async def handle(bot: FakeBot, event: Event) -> None:
        if isinstance(event, MessageCreated) and event.attempt == 1:
            bot_test.kill()
            try:
                await bot.reply(event, "van een dode")
            finally:
                await bot.reply(event, "ook in zijn laatste woorden")

    async with BotTest(maker(handle)) as bot_test:
        an = bot_test.patient("An")
        await an.says("hallo")
        await bot_test.idle()

        assert an.sees == []


async def test_kill_and_restart_loses_nothing_that_was_said_meanwhile() -> None:
    async with BotTest(maker(echo)) as bot_test:
        an = bot_test.patient("An")
        await an.says("een")
        bot_test.kill()
        bot_test.sandbox.say(an.id, an.address, "twee")
        await bot_test.kill_and_restart()
        await an.says("drie")

        assert [message.body for message in an.sees] == ["U zei: een", "U zei: twee", "U zei: drie"]


async def test_a_restart_after_every_step_leaves_the_transcript_as_it_is() -> None:
    async def twice(bot: FakeBot, event: Event) -> None:
        if isinstance(event, MessageCreated):
            await bot.reply(event, f"een {event.message.body}")
            await bot.reply(event, f"twee {event.message.body}")

    transcripts = []
    for restarts in (False, True):
        async with BotTest(maker(twice), restart_after_every_step=restarts) as bot_test:
            an = bot_test.patient("An")
            await an.says("a")
            await an.says("b")
            transcripts.append([message.body for message in an.sees])
    assert transcripts[0] == transcripts[1] == ["een a", "twee a", "een b", "twee b"]
    assert bot_test.restarts >= 6  # two replies and one event, twice


async def test_what_a_bot_fails_with_is_raised_where_the_test_waits_for_it() -> None:
    async def fail(bot: FakeBot, event: Event) -> None:
        if isinstance(event, MessageCreated):
            raise ZeroDivisionError

    bot_test = BotTest(maker(fail))
    with pytest.raises(ZeroDivisionError):
        async with bot_test:
            await bot_test.patient("An").says("hallo")


@pytest.mark.parametrize("is_allowed", [False, True])
async def test_a_parked_event_fails_the_test_unless_that_is_allowed(is_allowed: bool) -> None:
    async def park(bot: FakeBot, event: Event) -> None:
        if isinstance(event, MessageCreated):
            from healthmsg.bot.surface import Handled

            for watcher in bot.watchers:
                watcher(
                    Handled(bot.now(), event.id, event.kind, event.chat, "f", 0.0, "parked", 1, "KeyError")
                )

    async def talk() -> None:
        async with BotTest(maker(park), allow_parked=is_allowed) as bot_test:
            await bot_test.patient("An").says("hallo")

    if is_allowed:
        await talk()
    else:
        with pytest.raises(AssertionError, match=r"1 parked: message_created by f \(KeyError\)"):
            await talk()


async def test_one_that_was_parked_after_its_handler_was_done_fails_the_test() -> None:
    async def park(bot: FakeBot, event: Event) -> None:
        if isinstance(event, MessageCreated):
            bot.parked_events = [ParkedEvent(1, event, "it was refused", bot.now())]

    with pytest.raises(AssertionError, match=r"1 parked: message_created \(it was refused\)"):
        async with BotTest(maker(park)) as bot_test:
            await bot_test.patient("An").says("hallo")


async def test_a_bot_that_is_never_idle_is_named_with_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(bot: FakeBot, event: Event) -> None:
        if isinstance(event, MessageCreated):
            await asyncio.Event().wait()

    async with BotTest(maker(hang)) as bot_test:
        monkeypatch.setattr("healthmsg.bot.testing._PATIENCE", 0.2)
        with pytest.raises(AssertionError, match="not idle within"):
            await bot_test.patient("An").says("hallo")


def test_what_is_awaited_is_known_and_forgotten() -> None:
    async def wait() -> None:
        clock = VirtualClock()
        changed = asyncio.Event()
        due = clock.now() + timedelta(minutes=5)
        waits = [asyncio.ensure_future(clock.wait(until, changed)) for until in (due, None)]
        await asyncio.sleep(0)
        assert clock.next_awaited() == due
        clock.move_to(due)
        await waits[0]
        assert (clock.next_awaited(), waits[1].done()) == (None, False)
        changed.set()
        await waits[1]

    asyncio.run(wait())


def test_a_store_is_copied_whole_though_it_is_written_and_checkpointed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, copied = tmp_path / "bot.db", tmp_path / "copy.db"
    with closing(sqlite3.connect(store, isolation_level=None, timeout=0)) as connection:
        for pragma in ("journal_mode = WAL", "wal_autocheckpoint = 0"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("CREATE TABLE notes (number INTEGER)")

        def write(first: int) -> None:
            for number in range(first, first + 20):
                connection.execute("INSERT INTO notes VALUES (?)", (number,))

        def copy_and_write(source: Path, to: Path) -> None:
            copyfile(source, to)
            # What was in the `-wal` file goes into the file that was copied, and others take its place.
            connection.execute("PRAGMA wal_checkpoint(RESTART)")
            write(20)

        write(0)
        monkeypatch.setattr("healthmsg.bot.testing.copyfile", copy_and_write)
        _copy_as_it_is(store, copied)

    with closing(sqlite3.connect(copied)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        numbers = [row[0] for row in connection.execute("SELECT number FROM notes ORDER BY rowid")]
    assert numbers[:20] == [*range(20)]
