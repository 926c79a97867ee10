"""Questions for an e-mail address and for a phone number."""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar, Final

from attrs import field, frozen

from healthmsg.bot.dialogs.questions.base import Given, Invalid, QuestionType, kept_text
from healthmsg.bot.dialogs.questions.texts import Texts
from healthmsg.errors import InvalidInputError
from healthmsg.json_text import JSONObject
from healthmsg.validation import check_email

_LONGEST: Final = 320
# What people write between digits, and the vendor leaves out [V]; beside it dots, slashes and other dashes.
_BETWEEN_DIGITS: Final = re.compile("[\\s_()\\[\\]./\u00a0\u2010-\u2015-]+")
_DIGITS: Final = re.compile(r"\+?[0-9]{3,20}")
_COUNTRY_CODE: Final = re.compile(r"\+[1-9][0-9]{0,2}")
_REGION: Final = re.compile(r"[A-Z]{2}")


@frozen
class EmailQuestion(QuestionType[str]):
    """A question for an e-mail address; the whole text must be one [V]. Its domain comes back in lower case.

    `domains`: with `ziekenhuis.nl` addresses at that domain and below it are taken, with `@ziekenhuis.nl` at
    that domain alone. No name server is asked.

    Raises:
        InvalidInputError: a domain is empty.
    """

    kind: ClassVar[str] = "email"

    body: str = field(repr=False)
    domains: Sequence[str] | None = None

    def __attrs_post_init__(self) -> None:
        if isinstance(self.domains, str) or not all(
            isinstance(domain, str) and domain.strip("@. ") for domain in self.domains or ()
        ):
            raise InvalidInputError("domains must be a list of domains, such as ['example.org']")

    def read(self, given: Given, state: JSONObject | None, texts: Texts) -> str | Invalid:  # noqa: ARG002
        """Return the address."""
        text = given.said
        address = None
        if len(text) <= _LONGEST:
            with suppress(InvalidInputError):
                address = check_email(text)
        if address is None:
            return Invalid(texts.email_invalid)
        if self.domains and not any(_is_at(address, domain) for domain in self.domains):
            return Invalid(texts.email_elsewhere.format(domains=listed(self.domains, texts)))
        return address

    def encode(self, value: str) -> str:
        """Return it as it is."""
        return value

    def decode(self, document: object) -> str:
        """Return it as it is."""
        return kept_text(document, self.kind)


@frozen
class PhoneQuestion(QuestionType[str]):
    """A question for a phone number, which comes back in the form of E.164: `+31612345678`.

    The whole text must be one. Without a country's code it is one of `region`, two capital letters: `06…` is
    `+316…` in the Netherlands [V]. It must be a number that can exist by the number plans in `phonenumbers`.

    `countries` are regions (`NL`) or codes (`+31`).

    Raises:
        InvalidInputError: `region` or one of `countries` cannot be one.
    """

    kind: ClassVar[str] = "phone"

    body: str = field(repr=False)
    countries: Sequence[str] | None = None
    region: str = "NL"

    def __attrs_post_init__(self) -> None:
        # Imported when first used: most bots ask for no phone number.
        from phonenumbers import SUPPORTED_REGIONS  # noqa: PLC0415 - see above

        known = [self.region, *(one for one in self.countries or () if not _COUNTRY_CODE.fullmatch(one))]
        if isinstance(self.countries, str) or not all(
            _REGION.fullmatch(one) and one in SUPPORTED_REGIONS for one in known
        ):
            raise InvalidInputError(
                "region must be a country as two letters, such as 'NL'; countries a list of such or of codes"
                " such as '+31'"
            )

    def read(self, given: Given, state: JSONObject | None, texts: Texts) -> str | Invalid:  # noqa: ARG002
        """Return the number."""
        import phonenumbers  # noqa: PLC0415 - see above

        digits = _BETWEEN_DIGITS.sub("", given.said[:_LONGEST])
        number = None
        # The library finds numbers in any text, with letters and extensions: only digits go there.
        if _DIGITS.fullmatch(digits):
            with suppress(phonenumbers.NumberParseException):
                number = phonenumbers.parse(digits, self.region)
        if number is None or not phonenumbers.is_valid_number(number):
            return Invalid(texts.phone_invalid)
        belongs = {f"+{number.country_code}", phonenumbers.region_code_for_number(number)}
        if self.countries and belongs.isdisjoint(self.countries):
            return Invalid(texts.phone_elsewhere.format(countries=listed(self.countries, texts)))
        return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)

    def encode(self, value: str) -> str:
        """Return it as it is."""
        return value

    def decode(self, document: object) -> str:
        """Return it as it is."""
        return kept_text(document, self.kind)


def listed(words: Sequence[str], texts: Texts) -> str:
    """Return words as a sentence lists them: `a, b of c`."""
    *first, last = words
    return f"{', '.join(first)} {texts.or_type} {last}" if first else last


def _is_at(address: str, domain: str) -> bool:
    wanted = domain.strip(" .").casefold()
    found = address.rpartition("@")[2].casefold()
    if wanted.startswith("@"):
        return found == wanted[1:]
    return f".{found}".endswith(f".{wanted}")
