"""What is in a bot's store, for a person or a program. Texts only if they are wanted."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from attrs import frozen

from healthmsg.bot.dialogs.document import HANDED_OVER, Document
from healthmsg.bot.dialogs.journal import open_question
from healthmsg.bot.store.records import DialogRecord, ParkedEvent, StepRecord
from healthmsg.bulk import JournalMessage
from healthmsg.cli.bots.stores import StoreReader
from healthmsg.cli.listening.documents import document
from healthmsg.cli.terminal import printable
from healthmsg.codec import encode
from healthmsg.errors import InvalidIdError
from healthmsg.ids import ChatAddress
from healthmsg.json_text import JSONObject, NotJSONError, parse_json

_SETTLE: Final = "Settle one with: healthmsg journal decide STORE KEY delivered|not-sent"
_TAKE_BACK: Final = (
    "Let one go on with: healthmsg bot take-back STORE DIALOG, or end it with: healthmsg bot end STORE DIALOG"
)
_UNASKED: Final = ", to a question that is not known to have arrived"
_RETRY: Final = "Take one up again with: healthmsg bot retry STORE SEQUENCE"


@frozen
class Contents:
    """What a person may want to see of a store."""

    store: str
    """Its identity."""
    dialogs: Sequence[DialogRecord]
    steps: Mapping[str, Sequence[StepRecord]]
    """Of each dialog, by its id."""
    parked: Sequence[ParkedEvent]
    unknown: Sequence[JournalMessage]

    @classmethod
    async def read(cls, store: StoreReader, unknown: Sequence[JournalMessage]) -> "Contents":
        """Read a store."""
        dialogs = await store.dialogs()
        steps = {dialog.id: await store.steps(dialog.id) for dialog in dialogs}
        return cls(store.identity, dialogs, steps, await store.parked(), unknown)

    def as_json(self, *, with_texts: bool) -> str:
        """Return all of it as one JSON object."""
        found: JSONObject = {
            "store": self.store,
            "dialogs": [self._dialog(dialog, with_texts=with_texts) for dialog in self.dialogs],
            "parked": [_parked(one, with_texts=with_texts) for one in self.parked],
            "unknown_replies": [_unknown(one, with_texts=with_texts) for one in self.unknown],
        }
        return encode(found).decode()

    def lines(self, *, with_texts: bool) -> Iterator[str]:
        """Yield lines for a person."""
        yield f"store {self.store}"
        for state in ("open", "held"):
            dialogs = [dialog for dialog in self.dialogs if dialog.state == state]
            yield f"{len(dialogs):,} {state} {'dialog' if len(dialogs) == 1 else 'dialogs'}"
            for dialog in dialogs:
                yield from self._dialog_lines(dialog, with_texts=with_texts)
            if dialogs and state == "held":
                yield _TAKE_BACK
        yield f"{len(self.parked):,} parked {'event' if len(self.parked) == 1 else 'events'}"
        for event in self.parked:
            yield from _parked_lines(event, with_texts=with_texts)
        if self.parked:
            yield _RETRY
        replies = "reply" if len(self.unknown) == 1 else "replies"
        yield f"{len(self.unknown):,} {replies} not known to have arrived"
        for message in self.unknown:
            yield from _unknown_lines(message, with_texts=with_texts)
        if self.unknown:
            yield _SETTLE

    def _dialog(self, dialog: DialogRecord, *, with_texts: bool) -> JSONObject:
        steps = self.steps[dialog.id]
        found: dict[str, object] = {
            "id": dialog.id,
            "name": dialog.name,
            "version": dialog.version,
            "state": dialog.state,
            "chat": _shown(dialog.chat),
            "started_at": dialog.started_at.isoformat(),
            "updated_at": dialog.updated_at.isoformat(),
            "steps": len(steps),
            "waits_for": _open_step(steps),
            "question_is_unknown": self._is_unasked(dialog),
            **_held(dialog, with_texts=with_texts),
        }
        if with_texts:
            found["user"] = dialog.user
            found["document"] = _json(dialog.document)
            found["said"] = [{"kind": one.kind, "key": one.key, "value": _json(one.value)} for one in steps]
        return found

    def _is_unasked(self, dialog: DialogRecord) -> bool:
        asked = open_question(dialog.id, self.steps[dialog.id])
        return asked is not None and asked in {message.key for message in self.unknown}

    def _dialog_lines(self, dialog: DialogRecord, *, with_texts: bool) -> Iterator[str]:
        steps = self.steps[dialog.id]
        waits = f", waits for {kind}" if (kind := _open_step(steps)) else ""
        waits += _UNASKED if self._is_unasked(dialog) else ""
        yield _line(
            f"{dialog.id}  {dialog.name} v{dialog.version}  {_shown(dialog.chat)}"
            f"  since {_minute(dialog.started_at)}, last change {_minute(dialog.updated_at)},"
            f" {_counted(steps)}{waits}"
        )
        if held := _held(dialog, with_texts=with_texts):
            yield _line("  " + ": ".join(str(value) for value in held.values()).replace("_", " "))
        if with_texts:
            for step in steps:
                yield _line(f"  {step.kind}: {step.key} = {'…' if step.value is None else step.value}")


def _held(dialog: DialogRecord, *, with_texts: bool) -> JSONObject:
    """Return why a dialog is held. What the code hands over for may be about a person: it is a text."""
    held = Document.of(dialog.document).held if dialog.state == "held" else None
    if held is None:
        return {}
    is_text = held.why == HANDED_OVER and not with_texts
    return {"why": held.why, **({} if is_text else {"reason": held.reason})}


def _open_step(steps: Sequence[StepRecord]) -> str | None:
    return next((step.kind for step in reversed(steps) if step.value is None), None)


def _parked(one: ParkedEvent, *, with_texts: bool) -> JSONObject:
    return {
        "sequence": one.sequence,
        "reason": one.reason,
        "parked_at": one.parked_at.isoformat(),
        "event": _json(document(one.event, with_texts=with_texts)),
    }


def _parked_lines(one: ParkedEvent, *, with_texts: bool) -> Iterator[str]:
    chat: ChatAddress | None = getattr(one.event, "chat", None)
    where = "-" if chat is None else chat.shown
    yield _line(f"{one.sequence}  {one.event.kind}  {where}  {_minute(one.parked_at)}  {one.reason}")
    if with_texts:
        yield _line(f"  {document(one.event, with_texts=True)}")


def _unknown(message: JournalMessage, *, with_texts: bool) -> JSONObject:
    found: dict[str, object] = {
        "key": message.key,
        "chat": _shown(message.sent_to or message.to),
        "started_at": None if message.started_at is None else message.started_at.isoformat(),
        "attempts": message.attempts,
        "why": message.error,
    }
    if with_texts:
        found["body"] = message.body
    return found


def _unknown_lines(message: JournalMessage, *, with_texts: bool) -> Iterator[str]:
    when = "" if message.started_at is None else f"  {_minute(message.started_at)}"
    yield _line(
        f"{message.key}  {_shown(message.sent_to or message.to)}{when}  {message.error or ''}".rstrip()
    )
    if with_texts and message.body:
        yield _line(f"  {message.body}")


def _shown(chat: str) -> str:
    try:
        return ChatAddress.parse(chat).shown
    except InvalidIdError:
        return "…"


def _json(text: str | None) -> object:
    if text is None:
        return None
    try:
        found: object = parse_json(text)
    except NotJSONError:
        return text
    return found


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"


def _line(text: str) -> str:
    return printable(f"  {text}")


def _counted(steps: Sequence[StepRecord]) -> str:
    return "1 step" if len(steps) == 1 else f"{len(steps):,} steps"
