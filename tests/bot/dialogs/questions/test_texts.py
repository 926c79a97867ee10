"""Every sentence that the bot itself says."""

import pytest
from attrs import fields

from healthmsg import InvalidInputError
from healthmsg.bot.dialogs.questions import Sentences, Texts
from healthmsg.bot.dialogs.questions.texts import _names_in

NAMES = [one.name for one in fields(Texts)]


def test_every_sentence_can_be_replaced_by_name() -> None:
    assert set(Sentences.__annotations__) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_english_has_each_sentence_with_the_same_blanks_to_fill_in(name: str) -> None:
    dutch, english = getattr(Texts.dutch(), name), getattr(Texts.english(), name)

    assert _names_in(dutch) == _names_in(english)
    assert dutch != english or name == "date_form"


def test_a_replaced_sentence_is_said_in_place_of_the_usual_one() -> None:
    texts = Texts.english(number_outside="{low} < x < {high} {{ok}}", stopped="Bye.")

    assert texts.number_outside.format(low=1, high=2) == "1 < x < 2 {ok}"
    assert (texts.stopped, texts.yes) == ("Bye.", "Yes")
    assert Texts.dutch(stopped="Dag.").yes == "Ja"


@pytest.mark.parametrize("wrong", ["{name}", "{", "}", "{}", "{0}", "{low.__class__}", "{low!x}", 7])
def test_a_sentence_that_cannot_be_filled_in_is_refused_when_it_is_made(wrong: str) -> None:
    with pytest.raises(InvalidInputError, match="number_outside") as caught:
        Texts.dutch(number_outside=wrong)

    assert caught.value.__context__ is None
