"""Every sentence that the bot itself says."""

from string import Formatter
from typing import Any, Final, TypedDict, Unpack

from attrs import field, fields, frozen

from healthmsg.errors import InvalidInputError

_FILLED: Final = "filled"


def _text(default: str) -> Any:
    """Declare a sentence. The names in braces in it are those that another one may have."""
    return field(default=default, repr=False, metadata={_FILLED: _names_in(default)})


def _names_in(text: str) -> frozenset[str]:
    return frozenset(name for _, name, _, _ in Formatter().parse(text) if name is not None)


class Sentences(TypedDict, total=False):
    """The sentences that can be put in place of the usual ones."""

    stopped: str
    no_answer: str
    too_many_tries: str
    handed_over: str
    nothing_to_go_back_to: str
    answered_already: str
    dialog_open: str
    reminder: str
    yes: str
    no: str
    or_type: str
    text_missing: str
    text_too_short: str
    text_too_long: str
    text_unfit: str
    number_missing: str
    number_several: str
    number_unclear: str
    number_alone: str
    number_whole: str
    number_outside: str
    number_too_low: str
    number_too_high: str
    email_invalid: str
    email_elsewhere: str
    phone_invalid: str
    phone_elsewhere: str
    date_invalid: str
    date_several: str
    date_alone: str
    date_year: str
    date_weekday: str
    date_too_early: str
    date_too_late: str
    date_form: str
    choice_unknown: str
    choice_unclear: str
    choices_unknown: str
    choices_too_few: str
    choices_too_many: str
    files_missing: str
    files_more: str
    files_too_few: str
    files_too_many: str
    files_left_out: str
    files_enough: str
    file_unnamed: str
    file_too_small: str
    file_too_large: str
    file_wrong_kind: str
    file_more_names: str
    mention_missing: str
    mention_everybody: str
    verification_waiting: str
    summary: str
    summary_missing: str


@frozen
class Texts:
    """Every sentence that the bot itself says.

    Each can be replaced: `Texts.dutch(stopped="Tot ziens.")`. What stands in braces is filled in: `{low}`.
    A brace that is meant as such is written twice.

    Raises:
        InvalidInputError: a sentence names something in braces that it is not given, or is no text.
    """

    stopped: str = _text("Gestopt.")
    no_answer: str = _text("Er kwam geen antwoord meer. Gestopt.")
    too_many_tries: str = _text("Dat lukt niet. Gestopt.")
    handed_over: str = _text(
        "Een medewerker had dit gesprek overgenomen. De vraag die nog open stond, vervalt. Gestopt."
    )
    nothing_to_go_back_to: str = _text("Dit is de eerste vraag.")
    answered_already: str = _text("Deze vraag is al beantwoord of gesloten.")
    dialog_open: str = _text("Er loopt al een gesprek. Beantwoord eerst de laatste vraag, of stop ermee.")
    reminder: str = _text("Herinnering:")

    yes: str = _text("Ja")
    no: str = _text("Nee")
    or_type: str = _text("of")
    """Between the last two of a list."""

    text_missing: str = _text("Typ uw antwoord als tekst.")
    text_too_short: str = _text("Uw antwoord is te kort. Minste aantal tekens: {min_length}.")
    text_too_long: str = _text("Uw antwoord is te lang. Grootste aantal tekens: {max_length}.")
    text_unfit: str = _text("Uw antwoord heeft niet de juiste vorm.")

    number_missing: str = _text("Typ een getal.")
    number_several: str = _text("Ik zie meer dan één getal. Typ er één.")
    number_unclear: str = _text("Ik weet niet of dit duizendtallen zijn. Typ het getal zonder punten.")
    number_alone: str = _text("Ik weet niet zeker wat u bedoelt. Typ alleen het getal.")
    number_whole: str = _text("Typ een heel getal, zonder cijfers achter de komma.")
    number_outside: str = _text("Typ een getal van {low} tot en met {high}.")
    number_too_low: str = _text("Typ een getal dat niet lager is dan {low}.")
    number_too_high: str = _text("Typ een getal dat niet hoger is dan {high}.")

    email_invalid: str = _text("Typ alleen een e-mailadres, zoals naam@voorbeeld.nl.")
    email_elsewhere: str = _text("Dit e-mailadres kan hier niet. Het moet eindigen op {domains}.")
    phone_invalid: str = _text("Typ alleen een telefoonnummer, zoals 0612345678 of +31612345678.")
    phone_elsewhere: str = _text("Een telefoonnummer uit dit land kan hier niet. Wel: {countries}.")

    date_invalid: str = _text("Typ een datum, zoals 31-12-2026.")
    date_several: str = _text("Ik zie meer dan één datum. Typ er één.")
    date_alone: str = _text("Ik weet niet zeker wat u bedoelt. Typ alleen de datum, zoals 31-12-2026.")
    date_year: str = _text("Typ de datum met het jaar in vier cijfers, zoals 31-12-2026.")
    date_weekday: str = _text("De dag van de week hoort niet bij deze datum. Typ alleen de datum.")
    date_too_early: str = _text("Typ een datum na {after}.")
    date_too_late: str = _text("Typ een datum voor {before}.")
    date_form: str = _text("%d-%m-%Y")
    """How a date is written, as `date.strftime` takes it."""

    choice_unknown: str = _text("Kies een van deze: {options}.")
    choice_unclear: str = _text("Ik weet niet welke u bedoelt. Kies een van deze: {options}.")
    choices_unknown: str = _text("Dit ken ik niet: {part}. Kies uit: {options}.")
    choices_too_few: str = _text("Kies er minstens {least}.")
    choices_too_many: str = _text("Kies er hoogstens {most}.")

    files_missing: str = _text("Stuur een bestand.")
    files_more: str = _text("Ontvangen: {count}. Nog nodig: {missing}.")
    files_too_few: str = _text("Ontvangen: {count}. Het moeten er minstens {least} zijn.")
    files_too_many: str = _text("Dat zijn te veel bestanden: het mogen er hoogstens {most} zijn.")
    files_left_out: str = _text("Dit kan ik niet aannemen: {files}.")
    files_enough: str = _text("Ontvangen: {count}. Typ *klaar* als dat alles is.")
    file_unnamed: str = _text("een bestand zonder naam")
    file_too_small: str = _text("{file} (te klein, het moet minstens {size} zijn)")
    file_too_large: str = _text("{file} (te groot, het mag hoogstens {size} zijn)")
    file_wrong_kind: str = _text("{file} (verkeerde soort)")
    file_more_names: str = _text("en nog {count}")

    mention_missing: str = _text("Noem iemand: typ @ en kies een naam.")
    mention_everybody: str = _text("Noem personen, niet iedereen.")
    verification_waiting: str = _text("Bevestig eerst wie u bent, met de knop hierboven.")

    summary: str = _text("Antwoorden: {count} van {total}.")
    summary_missing: str = _text("Nog geen antwoord van {names}.")

    def __attrs_post_init__(self) -> None:
        for one in fields(Texts):
            _check(one.name, getattr(self, one.name), one.metadata[_FILLED])

    @classmethod
    def dutch(cls, **other: Unpack[Sentences]) -> "Texts":
        """Return the Dutch ones, but for those that are given."""
        return cls(**other)

    @classmethod
    def english(cls, **other: Unpack[Sentences]) -> "Texts":
        """Return the English ones, but for those that are given."""
        merged: Sentences = {**_ENGLISH, **other}
        return cls(**merged)


def _check(name: str, text: object, known: frozenset[str]) -> None:
    if not isinstance(text, str):
        raise InvalidInputError(f"Texts: {name} must be text")
    try:
        used = _names_in(text)
        text.format(**dict.fromkeys(known, ""))
    except (ValueError, KeyError, IndexError, AttributeError):
        used = None
    if used is None or not used <= known:
        takes = ", ".join(f"{{{field}}}" for field in sorted(known)) or "none"
        raise InvalidInputError(
            f"Texts: {name} has something in braces that cannot be filled in. It takes: {takes}."
            " A brace that is meant as such is written twice."
        )


_ENGLISH: Final[Sentences] = {
    "stopped": "Stopped.",
    "no_answer": "No answer came. Stopped.",
    "too_many_tries": "That does not work. Stopped.",
    "handed_over": "A colleague had taken this chat over. The open question no longer counts. Stopped.",
    "nothing_to_go_back_to": "This is the first question.",
    "answered_already": "This question was answered already, or is closed.",
    "dialog_open": "A dialog is open already. Answer its last question first, or stop it.",
    "reminder": "Reminder:",
    "yes": "Yes",
    "no": "No",
    "or_type": "or",
    "text_missing": "Type your answer as text.",
    "text_too_short": "Your answer is too short. Least number of characters: {min_length}.",
    "text_too_long": "Your answer is too long. Greatest number of characters: {max_length}.",
    "text_unfit": "Your answer does not have the right form.",
    "number_missing": "Type a number.",
    "number_several": "I see more than one number. Type one.",
    "number_unclear": "I do not know whether these are thousands. Type the number without commas.",
    "number_alone": "I am not sure what you mean. Type the number alone.",
    "number_whole": "Type a whole number, without decimals.",
    "number_outside": "Type a number from {low} to {high}.",
    "number_too_low": "Type a number that is not below {low}.",
    "number_too_high": "Type a number that is not above {high}.",
    "email_invalid": "Type an e-mail address alone, such as name@example.org.",
    "email_elsewhere": "This e-mail address is not possible here. It must end in {domains}.",
    "phone_invalid": "Type a phone number alone, such as 0612345678 or +31612345678.",
    "phone_elsewhere": "A phone number of this country is not possible here. Possible are: {countries}.",
    "date_invalid": "Type a date, such as 31-12-2026 (day, month, year).",
    "date_several": "I see more than one date. Type one.",
    "date_alone": "I am not sure what you mean. Type the date alone, such as 31-12-2026 (day, month, year).",
    "date_year": "Type the date with a year of four digits, such as 31-12-2026 (day, month, year).",
    "date_weekday": "The day of the week is not that of this date. Type the date alone.",
    "date_too_early": "Type a date after {after}.",
    "date_too_late": "Type a date before {before}.",
    "date_form": "%d-%m-%Y",
    "choice_unknown": "Choose one of these: {options}.",
    "choice_unclear": "I do not know which one you mean. Choose one of these: {options}.",
    "choices_unknown": "I do not know this: {part}. Choose from: {options}.",
    "choices_too_few": "Choose at least {least}.",
    "choices_too_many": "Choose at most {most}.",
    "files_missing": "Send a file.",
    "files_more": "Received: {count}. Still needed: {missing}.",
    "files_too_few": "Received: {count}. At least {least} are needed.",
    "files_too_many": "These are too many files: at most {most} are possible.",
    "files_left_out": "I cannot accept this: {files}.",
    "files_enough": "Received: {count}. Type *done* if that is all.",
    "file_unnamed": "a file without a name",
    "file_too_small": "{file} (too small, it must be at least {size})",
    "file_too_large": "{file} (too large, it must be at most {size})",
    "file_wrong_kind": "{file} (wrong kind)",
    "file_more_names": "and {count} more",
    "mention_missing": "Mention a person: type @ and choose a name.",
    "mention_everybody": "Mention persons, not all.",
    "verification_waiting": "First confirm who you are, with the button above.",
    "summary": "Answers: {count} of {total}.",
    "summary_missing": "No answer yet from {names}.",
}
