"""What a dialog keeps beside its steps."""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from attrs import define, field

from healthmsg.bot.dialogs.values import from_json, to_json

HANDED_OVER: Final = "handed_over"


@define(eq=False)
class Held:
    """Why a dialog is held, and since where."""

    why: str
    """`changed`: it does not fit the code; `failed`: its code fails; `handed_over`: a person answers."""
    reason: str = field(default="", repr=False)
    resume: tuple[str, ...] = ()
    """The commands that are handled all the same."""


@define(eq=False)
class Document:
    """The document of a `DialogRecord`."""

    arguments: tuple[object, ...] = field(default=(), repr=False)
    answers: Mapping[str, object] = field(factory=dict, repr=False)
    """Known before, by the key of their question."""
    event: str = field(default="{}", repr=False)
    """What started it, as JSON."""
    started: str | None = field(default=None, repr=False)
    """The key of that event. When it comes again, it is for the handler that started the dialog."""
    first: int = 0
    """The number of its first step."""
    taken: str | None = field(default=None, repr=False)
    """The event for which it was begun again."""
    others: tuple[str, ...] = field(default=(), repr=False)
    """The users that are asked at present, beside the dialog's own."""
    held: Held | None = None

    def text(self) -> str:
        """Return it as it is written.

        Raises:
            NotKeptError: an argument cannot be kept.
        """
        document: dict[str, object] = {}
        if self.arguments:
            document["args"] = to_json([*self.arguments])
        if self.answers:
            document["answers"] = to_json(dict(self.answers))
        if self.others:
            document["others"] = self.others
        for name in ("event", "started", "first", "taken"):
            if value := getattr(self, name):
                document[name] = value
        if self.held is not None:
            document["held"] = [self.held.why, self.held.reason, self.held.resume]
        return orjson.dumps(document).decode()

    @classmethod
    def of(cls, text: str) -> "Document":
        """Read what `text` has written."""
        found: dict[str, Any] = orjson.loads(text)
        held = found.get("held")
        return cls(
            tuple(from_json(found.get("args", []))),
            from_json(found.get("answers", {})),
            found.get("event", "{}"),
            found.get("started"),
            found.get("first", 0),
            found.get("taken"),
            tuple(found.get("others", ())),
            Held(held[0], held[1], tuple(held[2])) if held else None,
        )
