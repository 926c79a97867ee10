"""`healthmsg campaign`: what is entered, shown and steered, with a file as the journal."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from healthmsg import Outgoing, open_campaigns
from healthmsg.bulk.journal import State, open_journal
from healthmsg.bulk.journal.campaigns import CampaignTables
from healthmsg.errors import Outcome
from tests.cli.command_line import Done, invoke

TEMPLATE = ("--template", "Beste {naam}, uw arts belt u.")


@pytest.fixture
def recipients(tmp_path: Path) -> Path:
    path = tmp_path / "recipients.csv"
    path.write_text("aux_id,naam\nP1,Zoë\nP2,Jan\nP3,Piet\n", encoding="utf-8")
    return path


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def campaign(*arguments: str | Path, journal: Path) -> Done:
    return invoke("campaign", *arguments, "--journal", journal)


def add(recipients: Path, journal: Path, *options: str) -> Done:
    return campaign("add", "recall", recipients, *TEMPLATE, "--yes", *options, journal=journal)


def shown(journal: Path, *options: str) -> dict[str, Any]:
    done = campaign("show", "recall", "--json", *options, journal=journal)
    assert done.code == 0, done
    document: dict[str, Any] = json.loads(done.out)
    return document


def test_what_is_added_is_shown_and_adding_it_again_enters_nothing(recipients: Path, journal: Path) -> None:
    first = add(recipients, journal, "--weight", "3")
    again = add(recipients, journal)

    assert (first.code, again.code) == (0, 0), (first, again)
    assert "3 messages are entered." in first.out
    assert "0 messages are entered, 3 were there already." in again.out
    assert (shown(journal)["counts"]["waiting"], shown(journal)["weight"]) == (3, 3)
    assert "Zoë" not in first.out + first.err


def test_a_campaign_is_paused_weighed_resumed_and_cancelled(recipients: Path, journal: Path) -> None:
    assert add(recipients, journal, "--paused").code == 0
    assert (shown(journal)["state"], shown(journal)["counts"]["held"]) == ("paused", 3)

    assert campaign("resume", "recall", journal=journal).code == 0
    assert campaign("weight", "recall", "7", journal=journal).code == 0
    assert (shown(journal)["state"], shown(journal)["weight"]) == ("running", 7)
    assert campaign("pause", "recall", journal=journal).code == 0
    refused = campaign("cancel", "recall", journal=journal)
    assert (refused.code, shown(journal)["state"]) == (2, "paused")
    assert "there is no terminal to ask at" in refused.err

    cancelled = campaign("cancel", "recall", "--yes", "--json", journal=journal)
    assert json.loads(cancelled.out)["counts"]["not_sent"] == 3
    again = add(recipients, journal)
    assert (again.code, "is cancelled" in again.err) == (2, True)
    assert [one["state"] for one in shown(journal, "--failures")["failures"]] == ["not sent"] * 3


async def test_what_is_unknown_is_listed_without_its_text(recipients: Path, journal: Path) -> None:
    await asyncio.to_thread(add, recipients, journal)
    async with open_journal(journal) as opened:
        (claim, *_) = await CampaignTables(opened).claim(1)
        await opened.begin(claim, opened.now(), claim.chat)
        await opened.finish(claim, Outcome.UNKNOWN, error="TransportError: the line broke", is_final=True)

    plain = await asyncio.to_thread(campaign, "show", "recall", "--unknown", journal=journal)
    document = await asyncio.to_thread(shown, journal, "--unknown")

    assert "unknown: the line broke" in plain.out
    assert "healthmsg journal unknown" in plain.out
    assert "belt u" not in plain.out + str(document)
    (found,) = document["unknown"]
    assert (found["state"], found["to"]) == (State.UNKNOWN.value, "aux/conversations/P1")


def test_the_list_has_every_campaign(recipients: Path, journal: Path) -> None:
    add(recipients, journal)
    campaign("add", "ander", recipients, *TEMPLATE, "--yes", "--paused", journal=journal)

    plain = campaign("list", journal=journal)
    document = json.loads(campaign("list", "--json", journal=journal).out)

    assert [one["name"] for one in document] == ["recall", "ander"]
    assert "recall: no worker is running" in plain.out


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (("show", "recall"), 1, "There is no journal"),
        (("weight", "recall", "0"), 2, "WEIGHT"),
        (("add", "recall", "nowhere.csv", "--yes"), 2, "nowhere.csv"),
        (("add", "recall", "x.csv", "--yes", "--template", "a", "--template-file", "b"), 2, "one of them"),
    ],
)
def test_what_cannot_be_is_refused(
    arguments: tuple[str, ...], code: int, problem: str, journal: Path
) -> None:
    done = campaign(*arguments, journal=journal)

    assert (done.code, problem in done.err) == (code, True), done


def test_a_doubtful_value_is_refused_where_nobody_can_be_asked(tmp_path: Path, journal: Path) -> None:
    path = tmp_path / "recipients.csv"
    path.write_text("aux_id,naam\nP1,Null\n", encoding="utf-8")

    assert add(path, journal).code == 2
    assert add(path, journal, "--accept-doubtful").code == 0


def test_a_campaign_of_another_name_is_not_there(recipients: Path, journal: Path) -> None:
    add(recipients, journal)

    done = campaign("pause", "ander", journal=journal)

    assert (done.code, "There is no campaign of that name" in done.err) == (1, True)


def test_another_text_for_the_recipients_of_a_campaign_is_entered_only_if_both_are_meant(
    recipients: Path, journal: Path
) -> None:
    add(recipients, journal, "--paused")
    other = ("add", "recall", recipients, "--template", "Beste {naam}, uw arts belt.", "--yes")

    refused = campaign(*other, journal=journal)
    held = shown(journal)["counts"]["held"]
    both = campaign(*other, "--send-again", journal=journal)
    elsewhere = campaign("add", "ander", *other[2:], journal=journal)

    assert (refused.code, held) == (2, 3)
    assert "3 of these recipients have another text of this campaign" in refused.err
    assert "belt" not in refused.out + refused.err
    assert (both.code, shown(journal)["counts"]["held"]) == (0, 6)
    assert "Both would be sent" in both.out
    assert elsewhere.code == 0


def test_what_was_given_together_is_entered_again_and_more_recipients_too(
    recipients: Path, journal: Path
) -> None:
    recipients.write_text("aux_id,naam\nP1,Zoë\nP1,Jan\n", encoding="utf-8")
    add(recipients, journal, "--accept-doubtful")
    recipients.write_text("aux_id,naam\nP1,Zoë\nP1,Jan\nP1,An\nP2,Piet\n", encoding="utf-8")

    again = add(recipients, journal, "--accept-doubtful")

    assert (again.code, shown(journal)["messages"]) == (0, 4)


def test_names_are_shown_as_they_are_and_one_that_can_be_none_is_refused_before_anything(
    recipients: Path, journal: Path
) -> None:
    def named(name: str) -> Done:
        options = (*TEMPLATE, "--yes", "--journal", journal)
        return invoke("campaign", "add", *options, "--", name, recipients)

    added, dashed, refused = named("[red]x[/]"), named("--y"), named(" z")
    listed = campaign("list", journal=journal)

    assert (added.code, dashed.code, refused.code) == (0, 0, 2), (added, dashed, refused)
    assert "[red]x[/]" in listed.out
    assert "-- --y" in dashed.out
    assert "Nothing was entered." in refused.err


@pytest.mark.parametrize("command", ["pause", "resume", "weight", "cancel"])
def test_steering_makes_no_journal_where_there_is_none(command: str, journal: Path) -> None:
    more = {"weight": ("3",), "cancel": ("--yes",)}.get(command, ())

    done = campaign(command, "recall", *more, journal=journal)

    assert (done.code, journal.exists()) == (1, False), done


async def test_what_an_add_with_another_list_has_left_is_not_sent_with_the_next_one_unasked(
    recipients: Path, journal: Path
) -> None:
    def cut_off() -> Iterator[Outgoing]:
        yield Outgoing("aux/conversations/P9", "Voor een ander")
        raise OSError("the wrong list")

    async with open_campaigns(journal) as campaigns:
        with pytest.raises(OSError, match="the wrong list"):
            await campaigns.add("recall", cut_off())

    refused = await asyncio.to_thread(add, recipients, journal)
    document = await asyncio.to_thread(shown, journal)
    both = await asyncio.to_thread(add, recipients, journal, "--send-again")

    assert (refused.code, document["messages"]) == (2, 1)
    assert "1 messages that an earlier `add` began with are not in this file" in refused.err
    assert both.code == 0
