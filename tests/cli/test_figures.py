"""What the demo counts, and whom it writes to."""

import io
import json
import unicodedata
from typing import Any

import pytest
from attrs import evolve, fields
from rich.console import Console

from healthmsg import Outgoing, fold_aux_id
from healthmsg.cli.demo import Figures, Recipient, count_copies, read_recipients

CLEAN = Figures(
    sent=150,
    delivered_once=150,
    lost=0,
    duplicated=0,
    rejected=0,
    calls_per_second=29.5,
    max_calls_in_any_second=30,
    uploads=12,
    conversations_read=170,
    messages_read=900,
    downloads_identical=True,
)


def panel(figures: Figures) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(figures.panel(19.26))
    shown = console.file
    assert isinstance(shown, io.StringIO)
    return shown.getvalue()


@pytest.mark.parametrize(
    "wrong", [{"lost": 1}, {"duplicated": 1}, {"rejected": 1}, {"downloads_identical": False}]
)
def test_anything_wrong_is_not_clean_and_is_shown(wrong: dict[str, Any]) -> None:
    assert CLEAN.is_clean
    assert "Every message arrived exactly once." in panel(CLEAN)

    figures = evolve(CLEAN, **wrong)

    assert not figures.is_clean
    assert "Something is wrong" in panel(figures)
    assert "exactly once." not in panel(figures)


def test_the_json_is_one_line_with_every_figure() -> None:
    text = CLEAN.as_json()

    assert "\n" not in text
    assert list(json.loads(text)) == [field.name for field in fields(Figures)]
    assert json.loads(text)["calls_per_second"] == 29.5


def test_the_panel_shows_every_figure() -> None:
    shown = panel(CLEAN)

    for figure in ("150 of 150", "29.5", "30", "12", "170", "900", "19.3 s"):
        assert figure in shown


@pytest.mark.parametrize(
    ("copies", "counted"),
    [
        ({"conversations/c1": {"een": 1}, "conversations/c2": {"twee": 1}}, [1, 1]),
        ({"conversations/c1": {"een": 2}, "conversations/c2": {"twee": 1}}, [2, 1]),
        ({"conversations/c1": {"een": 1}}, [1, 0]),
        ({"conversations/c1": {"een": 1, "twee": 1}}, [1, 0]),
        ({"conversations/c1": {"twee": 1}, "conversations/c2": {"een": 1}}, [0, 0]),
        ({}, [0, 0]),
    ],
)
def test_copies_are_counted_in_the_chat_that_they_were_for(
    copies: dict[str, dict[str, int]], counted: list[int]
) -> None:
    messages = [Outgoing("aux/conversations/p1", "een"), Outgoing("conversations/c2", "twee")]

    assert count_copies(messages, ["c1", "c2"], copies) == counted


def test_there_are_enough_recipients_and_no_two_alike() -> None:
    recipients = read_recipients()

    assert len(recipients) >= 150
    assert len({(one.first_name, one.last_name) for one in recipients}) == len(recipients)
    assert len({one.message for one in recipients}) == len(recipients)
    assert all(one.first_name and one.last_name and one.appointment for one in recipients)


def test_some_recipients_have_an_auxiliary_id_and_none_of_these_is_ambiguous() -> None:
    aux_ids = [one.aux_id for one in read_recipients() if one.aux_id]

    assert 20 <= len(aux_ids) < len(read_recipients())
    assert len(set(aux_ids)) == len(aux_ids)
    assert all(fold_aux_id(aux_id) == aux_id for aux_id in aux_ids)


def test_names_have_diacritics_and_are_composed() -> None:
    names = [f"{one.first_name} {one.last_name}" for one in read_recipients()]

    assert sum(not name.isascii() for name in names) >= 10
    assert all(unicodedata.is_normalized("NFC", name) and name == name.strip() for name in names)


def test_the_repr_of_a_recipient_shows_nothing() -> None:
    assert repr(Recipient("Zoë", "Mulder", "p7", "maandag")) == "Recipient()"
