"""A JSON body, field by field, with its types checked."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from attrs import frozen

from healthmsg.sandbox.answers import bad_request

T = TypeVar("T")


@frozen
class Body:
    """A JSON object. What is not asked for is ignored; a field that is `null` counts as not sent [A].

    Every method refuses with 400 what is not of its type; nothing is converted. What it refuses only if it is
    `strict` has been sent by the vendor's software [V], or can be.
    """

    _document: Mapping[str, object]
    strict: bool = True

    @classmethod
    def of(cls, document: object, name: str = "The body", *, strict: bool = True) -> "Body":
        """Take a JSON object."""
        if not isinstance(document, dict):
            raise bad_request(f"{name} must be a JSON object.")
        return cls(document, strict)

    def text(self, name: str) -> str:
        """Give text that is not empty."""
        text = self.optional_text(name)
        if text is None:
            raise bad_request(f"{name} is missing.")
        return text

    def name(self, name: str) -> str:
        """Return a person's name, which may be empty: some have one only [A]. Missing, it is empty [V]."""
        text = self._typed(name, str, "text")
        if text is None and self.strict:
            raise bad_request(f"{name} is missing.")
        return text or ""

    def words(self, name: str) -> str:
        """Return text that has to be there; it may be empty, which a bot that was given no text sends [V]."""
        if self.strict:
            return self.text(name)
        text = self._typed(name, str, "text")
        if text is None:
            raise bad_request(f"{name} is missing.")
        return text

    def optional_text(self, name: str) -> str | None:
        """Give text that is not empty, or `None`."""
        text = self._typed(name, str, "text")
        if text is not None and not text.strip():
            raise bad_request(f"{name} must not be empty.")
        return text

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Give a boolean value."""
        flag = self._typed(name, bool, "true or false")
        return default if flag is None else flag

    def number(self, name: str, *, default: int) -> int:
        """Give a whole number of at least 0."""
        number = self._typed(name, int, "a whole number")
        if number is not None and number < 0:
            raise bad_request(f"{name} must not be below 0.")
        return default if number is None else number

    def texts(self, name: str) -> Sequence[str]:
        """Return an array of texts that is there, and not empty."""
        texts = self.optional_texts(name)
        if not texts and (self.strict or not self.has(name)):
            raise bad_request(f"{name} must be an array of text that is not empty.")
        return texts

    def optional_texts(self, name: str) -> Sequence[str]:
        """Return an array of texts, each once."""
        texts = self._typed(name, list, "an array") or []
        if not all(isinstance(text, str) for text in texts):
            raise bad_request(f"{name} must hold text only.")
        return list(dict.fromkeys(texts))

    def optional_object(self, name: str) -> "Body | None":
        """Give the object in a field, if there is one."""
        document = self._document.get(name)
        return None if document is None else Body.of(document, name, strict=self.strict)

    def objects(self, name: str) -> Sequence["Body"]:
        """Give an array of objects, which may be empty."""
        items: Sequence[object] = self._typed(name, list, "an array") or []
        return [Body.of(item, f"Each of {name}", strict=self.strict) for item in items]

    def has(self, name: str) -> bool:
        """Tell whether a field was sent."""
        return self._document.get(name) is not None

    def _typed(self, name: str, expected: type[T], described: str) -> T | None:
        value = self._document.get(name)
        # Not isinstance: true is no number.
        if value is None or type(value) is expected:
            return value
        raise bad_request(f"{name} must be {described}.")
