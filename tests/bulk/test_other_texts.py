"""A corrected text: who already got another one is reported, and what was replaced is not sent."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from healthmsg import Client, InvalidInputError, Outcome, Outgoing, PreviewReport, ProblemKind, SendResult
from healthmsg.bulk.intake import JournalIntake
from healthmsg.bulk.journal import Entry, InputIndex, State, open_journal
from healthmsg.errors import OtherTextError
from healthmsg.sandbox import CutBefore, Sandbox
from tests.bulk.journal_runs import fresh_client, lose, outcomes, sent
from tests.bulk.sources import bodies, chats

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")

OLD, NEW = "Uw afspraak is op 3 mei.", "Uw afspraak is op 4 mei."


def all_to(recipients: list[str], text: str) -> list[Outgoing]:
    return [Outgoing(to, text) for to in recipients]


async def half_sent(sandbox: Sandbox, target: Path | str) -> list[str]:
    """Have an old text delivered to two of four recipients; it waits for the others. Return the four."""
    recipients = chats(sandbox, 4)
    async with fresh_client(sandbox) as client:
        await sent(client, all_to(recipients[:2], OLD), journal=target)
    await enter_only(sandbox, target, all_to(recipients, OLD))
    return recipients


async def enter_only(sandbox: Sandbox, target: Path | str, messages: list[Outgoing]) -> None:
    """Enter messages as a run would that is killed before it sends the first."""
    async with fresh_client(sandbox) as client, open_journal(target) as journal:
        me = await client.me.get()
        await journal.set_owner(me.id, sandbox.environment.api_url)
        await journal.start_run()
        with InputIndex() as given:

            async def tell(result: SendResult) -> None:
                given.knows(result.key or "")

            intake = JournalIntake(
                client._api,
                journal,
                given,
                tell,
                lambda: None,
                retry_failed=False,
                other_text="send",
                on_other_texts=lambda: None,
                resumes=False,
            )
            await intake.take(messages)


async def looked_at(client: Client, messages: list[Outgoing] | None, **options: Any) -> PreviewReport:
    report = await client.preview_many(messages, **options).report()
    assert isinstance(report, PreviewReport)
    return report


# --- who got another text


async def test_a_dry_run_says_who_already_got_another_text(sandbox: Sandbox, target: str) -> None:
    recipients = await half_sent(sandbox, target)

    async with fresh_client(sandbox) as client:
        report = await looked_at(client, all_to(recipients, NEW), journal=target)
        skipping = await looked_at(client, all_to(recipients, NEW), journal=target, other_text="skip")

    assert (report.other_text, report.to_send) == (2, 4)
    assert [(one.index, one.kind, type(one.error)) for one in report.problems] == [
        (index, ProblemKind.OTHER_TEXT, OtherTextError) for index in (0, 1)
    ]
    assert (skipping.other_text, skipping.to_send, skipping.calls) == (2, 2, 2)
    assert NEW not in str(report.problems[0].error)


async def test_a_run_counts_those_who_get_both(
    sandbox: Sandbox, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipients = await half_sent(sandbox, file)

    async with fresh_client(sandbox) as client:
        report = await client.send_many(all_to(recipients, NEW), journal=file).report()

    assert (report.delivered, report.other_text) == (4, 2)
    assert [bodies(sandbox, to) for to in recipients] == [[OLD, NEW]] * 2 + [[NEW]] * 2
    assert "already got another text" in caplog.text


@pytest.mark.slow
async def test_those_who_got_another_text_can_be_skipped(sandbox: Sandbox, target: str) -> None:
    recipients = await half_sent(sandbox, target)

    async with fresh_client(sandbox) as client:
        results = await sent(client, all_to(recipients, NEW), journal=target, other_text="skip")
        again = await client.send_many(all_to(recipients, NEW), journal=target, other_text="skip").report()

    assert outcomes(results) == [Outcome.NOT_SENT] * 2 + [Outcome.DELIVERED] * 2
    assert all(isinstance(result.error, OtherTextError) and result.attempts == 0 for result in results[:2])
    assert [bodies(sandbox, to) for to in recipients] == [[OLD]] * 2 + [[NEW]] * 2
    assert (again.not_sent, again.delivered, again.other_text) == (2, 2, 2)


async def test_one_in_doubt_may_have_got_the_other_text(sandbox: Sandbox, file: Path) -> None:
    (to,) = chats(sandbox, 1)
    lose(sandbox, CutBefore())
    async with fresh_client(sandbox) as client:
        first = await sent(client, [Outgoing(to, OLD)], journal=file, on_unknown="report")
        report = await looked_at(client, [Outgoing(to, NEW)], journal=file)

    assert outcomes(first) == [Outcome.UNKNOWN]
    assert report.other_text == 1


async def test_what_one_run_was_given_together_is_no_other_text(sandbox: Sandbox, file: Path) -> None:
    (to,) = chats(sandbox, 1)
    both = [Outgoing(to, "Goedemorgen"), Outgoing(to, "Tot morgen")]
    async with fresh_client(sandbox) as client:
        await sent(client, both[:1], journal=file)
    await enter_only(sandbox, file, both)

    async with fresh_client(sandbox) as client:
        whole = await looked_at(client, both, journal=file, other_text="skip")
        rest = await looked_at(client, [*both, Outgoing(to, "Nog iets")], journal=file, other_text="skip")
        results = await sent(client, both, journal=file, other_text="skip")

    assert (whole.other_text, rest.other_text, rest.to_send) == (0, 0, 2)
    assert outcomes(results) == [Outcome.DELIVERED] * 2


async def test_the_rest_of_one_run_is_no_other_text(sandbox: Sandbox, target: str) -> None:
    (to,) = chats(sandbox, 1)
    both = [Outgoing(to, "Goedemorgen"), Outgoing(to, "Tot morgen")]
    await enter_only(sandbox, target, both)
    async with fresh_client(sandbox) as client:
        await sent(client, both[:1], journal=target)
        report = await client.send_many(both[1:], journal=target, other_text="skip").report()

    assert (report.delivered, report.other_text) == (1, 0)


async def test_a_text_in_the_journal_under_another_key_counts_too(sandbox: Sandbox, file: Path) -> None:
    (to,) = chats(sandbox, 1)
    async with fresh_client(sandbox) as client:
        await sent(client, [Outgoing(to, OLD, key="a")], journal=file)
        report = await looked_at(client, [Outgoing(to, OLD, key="b")], journal=file)

    assert report.other_text == 1


async def test_another_text_after_one_that_failed_is_just_sent(sandbox: Sandbox, file: Path) -> None:
    async with fresh_client(sandbox) as client:
        await sent(client, [Outgoing("conversations/nobody", OLD)], journal=file)
        report = await looked_at(client, [Outgoing("conversations/nobody", NEW)], journal=file)

    assert (report.other_text, report.to_send) == (0, 1)


# --- what was replaced


@pytest.mark.slow
async def test_replaced_texts_are_not_sent_by_going_on(sandbox: Sandbox, target: str) -> None:
    recipients = await half_sent(sandbox, target)
    async with fresh_client(sandbox) as client:
        await sent(client, all_to(recipients[2:], NEW), journal=target)
        looked = await looked_at(client, None, journal=target)
        report = await client.send_many(journal=target).report()

    assert (looked.to_send, looked.superseded) == (0, 2)
    assert (report.messages, report.superseded) == (0, 2)
    assert [bodies(sandbox, to) for to in recipients[2:]] == [[NEW], [NEW]]


@pytest.mark.slow
async def test_replaced_texts_are_sent_when_asked_for_by_name(sandbox: Sandbox, file: Path) -> None:
    recipients = await half_sent(sandbox, file)
    async with fresh_client(sandbox) as client:
        await sent(client, all_to(recipients[2:], NEW), journal=file)
        looked = await looked_at(client, None, journal=file, superseded=True)
        report = await client.send_many(journal=file, superseded=True).report()

    assert (looked.to_send, looked.superseded) == (2, 0)
    assert (report.delivered, report.superseded) == (2, 0)


@pytest.mark.slow
async def test_a_replaced_text_that_is_given_again_waits_again(sandbox: Sandbox, file: Path) -> None:
    recipients = await half_sent(sandbox, file)
    await enter_only(sandbox, file, all_to(recipients, NEW))
    await enter_only(sandbox, file, all_to(recipients, OLD))

    async with fresh_client(sandbox) as client:
        report = await client.send_many(journal=file).report()

    assert (report.delivered, report.superseded) == (2, 4)
    assert [bodies(sandbox, to) for to in recipients] == [[OLD]] * 4


@pytest.mark.slow
async def test_a_run_that_was_simply_interrupted_goes_on(sandbox: Sandbox, target: str) -> None:
    recipients = await half_sent(sandbox, target)
    await enter_only(sandbox, target, all_to(recipients, OLD))

    async with fresh_client(sandbox) as client:
        report = await client.send_many(journal=target).report()

    assert (report.delivered, report.superseded) == (2, 0)
    assert [bodies(sandbox, to) for to in recipients] == [[OLD]] * 4


@pytest.mark.slow
async def test_a_recipient_that_the_later_run_did_not_have_gets_its_text(
    sandbox: Sandbox, file: Path
) -> None:
    recipients = await half_sent(sandbox, file)
    async with fresh_client(sandbox) as client:
        await sent(client, all_to(recipients[2:3], NEW), journal=file)
        report = await client.send_many(journal=file).report()

    assert (report.delivered, report.superseded) == (1, 1)
    assert [bodies(sandbox, to) for to in recipients[2:]] == [[NEW], [OLD]]


@pytest.mark.slow
async def test_what_a_corrected_run_had_not_read_yet_is_not_sent_in_its_old_form(
    sandbox: Sandbox, file: Path
) -> None:
    recipients = await half_sent(sandbox, file)

    def corrected() -> Iterator[Outgoing]:
        yield Outgoing(recipients[2], NEW)
        raise KeyError

    async with fresh_client(sandbox) as client:
        with pytest.raises(KeyError):
            await sent(client, corrected(), journal=file)
        looked = await looked_at(client, None, journal=file)
        report = await client.send_many(journal=file).report()
        later = await client.send_many(all_to(recipients[2:], NEW), journal=file).report()

    assert (looked.to_send, looked.superseded) == (0, 2)
    assert (report.messages, report.superseded) == (0, 2)
    assert (later.delivered, later.other_text) == (2, 0)
    assert [bodies(sandbox, to) for to in recipients[2:]] == [[NEW], [NEW]]


@pytest.mark.slow
async def test_a_skipped_recipient_does_not_get_the_rest_of_the_old_texts(
    sandbox: Sandbox, file: Path
) -> None:
    (to,) = chats(sandbox, 1)
    await enter_only(sandbox, file, [Outgoing(to, OLD), Outgoing(to, "Neem uw pas mee.")])
    async with fresh_client(sandbox) as client:
        await sent(client, [Outgoing(to, OLD)], journal=file)
        await sent(client, [Outgoing(to, NEW)], journal=file, other_text="skip")
        report = await client.send_many(journal=file).report()

    assert (report.messages, report.superseded) == (0, 1)
    assert bodies(sandbox, to) == [OLD]


@pytest.mark.slow
async def test_a_replaced_text_that_failed_is_not_tried_again(sandbox: Sandbox, file: Path) -> None:
    async with fresh_client(sandbox) as client:
        await sent(client, [Outgoing("conversations/nobody", OLD)], journal=file)
        await sent(client, [Outgoing("conversations/nobody", NEW)], journal=file)
        report = await client.send_many(journal=file, retry_failed=True).report()

    assert (report.messages, report.not_sent, report.superseded) == (1, 1, 1)


@pytest.mark.slow
async def test_a_replaced_text_in_doubt_is_not_sent_once_it_is_found_missing(
    sandbox: Sandbox, file: Path
) -> None:
    first, second = chats(sandbox, 2)
    async with open_journal(file) as journal, fresh_client(sandbox) as client:
        await journal.set_owner((await client.me.get()).id, sandbox.environment.api_url)
        await journal.start_run()
        await journal.enter([Entry("a", first, OLD), Entry("b", second, "Dag")])
        for claim in await journal.claim(2):
            await journal.begin(claim, journal.now(), claim.chat)
            if claim.key == "b":
                message = await client.conversations(second.removeprefix("conversations/")).send("Dag")
                await journal.finish(claim, Outcome.DELIVERED, message_id=message.id)
    await enter_only(sandbox, file, [Outgoing(first, NEW, key="c")])

    async with fresh_client(sandbox) as client:
        results = await sent(client, None, journal=file)

    assert [(result.key, result.outcome) for result in results] == [("c", Outcome.DELIVERED)]
    assert bodies(sandbox, first) == [NEW]
    async with open_journal(file, is_reading=True) as journal:
        (row,) = [row async for row in journal.rows(State.PARKED)]
    assert (row.key, row.is_superseded) == ("a", True)


@pytest.mark.parametrize(
    ("messages", "options"),
    [
        ([], {"superseded": True, "journal": "x.db"}),
        ([], {"other_text": "skip"}),
        (None, {"other_text": "skip", "journal": "x.db"}),
        ([], {"other_text": "both", "journal": "x.db"}),
        (None, {"superseded": 1, "journal": "x.db"}),
    ],
)
async def test_options_that_cannot_be_right_are_refused(
    client: Client, messages: list[Outgoing] | None, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError):
        client.send_many(messages, **options)
