"""A question for files."""

from collections.abc import Iterable, Sequence
from typing import ClassVar, Final

from attrs import evolve, field, frozen
from content_types import get_content_type

from healthmsg.bot.dialogs.questions.base import (
    Given,
    Invalid,
    More,
    QuestionType,
    unreadable,
    without_halves,
)
from healthmsg.bot.dialogs.questions.choices import check_range
from healthmsg.bot.dialogs.questions.matching import folded
from healthmsg.bot.dialogs.questions.texts import Texts
from healthmsg.errors import InvalidInputError
from healthmsg.json_text import JSONObject
from healthmsg.models import Attachment

Size = tuple[int | None, int | None]

_DONE: Final = frozenset(("klaar", "ik ben klaar", "dat was het", "done", "ready", "ok", "oke", "that's it"))
_SAYS_NOTHING: Final = frozenset(("", "application/octet-stream", "binary/octet-stream"))
_MOST_NAMED: Final = 10
_LONGEST_NAME: Final = 80
_MOST_KEPT: Final = 1_000


class Files(list[Attachment]):
    """The files of an answer, and what was written to the question beside them."""

    __slots__ = ("texts",)

    def __init__(self, files: Iterable[Attachment] = (), texts: Iterable[str] = ()) -> None:
        super().__init__(files)
        self.texts: tuple[str, ...] = tuple(texts)
        """A text for each message that had one, in their order, whether files came with it or not."""

    @property
    def text(self) -> str:
        """All that was written, a message a line; empty if nothing was."""
        return "\n".join(self.texts)


@frozen
class FilesQuestion(QuestionType[Files]):
    """A question for files, in one message or in several.

    It is answered once there are as many as `count` asks for at least. Files that do not fit are left out and
    named to the user, and the others are kept [V]; then the question waits on, also if those are enough: the
    user sends others instead, or types "klaar" or "done". More than `count` has at most is no answer.

    `count` and `size` are the lowest and the highest, both included; `None` is no end; `size` is in bytes.
    `extensions` are the ends of names (`.pdf`, in any case). `types` are content types, `image/png` or
    `image/*`; of a file of which the service says none, that of the end of its name counts. A file of which
    what is asked for is not known does not fit [V].

    What the user writes is kept in the `text` of the answer: beside a file, or as a message of its own while
    the question waits. A text alone is no answer, and the user is asked for a file.

    Raises:
        InvalidInputError: one of them cannot be right.
    """

    kind: ClassVar[str] = "files"

    body: str = field(repr=False)
    count: tuple[int, int | None] = (1, 1)
    size: Size | None = None
    extensions: Sequence[str] | None = None
    types: Sequence[str] | None = None

    def __attrs_post_init__(self) -> None:
        check_range(self.count)
        if self.count[0] < 1:
            raise InvalidInputError("count: a question for files needs at least one")
        if self.size is not None:
            low, high = self.size
            check_range((0 if low is None else low, high), "size")
        for words, name in ((self.extensions, "extensions"), (self.types, "types")):
            if isinstance(words, str) or not all(
                isinstance(word, str) and word.strip(". ") for word in words or ()
            ):
                raise InvalidInputError(f"{name} must be a list of texts")
        if not all("/" in one for one in self.types or ()):
            raise InvalidInputError("types must be content types, such as 'image/png' or 'image/*'")

    def read(self, given: Given, state: JSONObject | None, texts: Texts) -> Files | Invalid | More:
        """Return the files that fit, or what is kept of them so far."""
        kept = _kept(state, given)
        arrived = () if given.message is None else given.message.attachments
        if not arrived:
            return self._done(kept, given, texts)
        known = {one.id for one in kept}
        # Each once, whether it was in the same message or in another one.
        fresh = {one.id: one for one in map(_clean, arrived) if one.id not in known}
        problems = {one.id: self._problem(one, texts) for one in fresh.values()}
        now = Files((*kept, *(one for one in fresh.values() if problems[one.id] is None)), kept.texts)
        left_out = [problem for problem in problems.values() if problem is not None]
        least, most = self.count
        if len(now) > (_MOST_KEPT if most is None else most):
            return _refused(texts.files_too_many.format(most=_MOST_KEPT if most is None else most), kept)
        if len(now) == len(kept) and not kept and left_out:
            return _refused(texts.files_left_out.format(files=_named(left_out, texts)), kept)
        if len(now) >= least and not left_out:
            return now
        return More(_state_of(now), self._so_far(len(now), left_out, texts))

    def _done(self, kept: Files, given: Given, texts: Texts) -> Files | Invalid:
        if not kept:
            return _refused(texts.files_missing, kept)
        least = self.count[0]
        if len(kept) < least:
            return _refused(texts.files_too_few.format(count=len(kept), least=least), kept)
        if _is_done(given):
            return kept
        return _refused(texts.files_enough.format(count=len(kept)), kept)

    def _so_far(self, count: int, left_out: Sequence[str], texts: Texts) -> str:
        missing = self.count[0] - count
        said = [texts.files_left_out.format(files=_named(left_out, texts))] if left_out else []
        if missing > 0:
            said.append(texts.files_more.format(count=count, missing=missing))
        else:
            said.append(texts.files_enough.format(count=count))
        return " ".join(said)

    def _problem(self, file: Attachment, texts: Texts) -> str | None:
        name = " ".join((file.name or "").split())
        shown = (name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…") or texts.file_unnamed
        low, high = self.size or (None, None)
        if file.size is not None and low is not None and file.size < low:
            return texts.file_too_small.format(file=shown, size=_in_units(low))
        if file.size is not None and high is not None and file.size > high:
            return texts.file_too_large.format(file=shown, size=_in_units(high))
        is_unknown = file.size is None and (low is not None or high is not None)
        if is_unknown or not self._is_of_extension(name) or not self._is_of_type(file):
            return texts.file_wrong_kind.format(file=shown)
        return None

    def _is_of_extension(self, name: str) -> bool:
        if not self.extensions:
            return True
        return name.casefold().endswith(tuple(f".{one.strip(' .').casefold()}" for one in self.extensions))

    def _is_of_type(self, file: Attachment) -> bool:
        if not self.types:
            return True
        found = _plain(file.mime_type or "")
        if found in _SAYS_NOTHING and file.name:
            found = _plain(get_content_type(file.name) or "")
        if found in _SAYS_NOTHING:
            return False
        return any(
            found == wanted or (wanted.endswith("/*") and found.startswith(wanted[:-1]))
            for wanted in map(_plain, self.types)
        )

    def read_known(
        self,
        value: object,
        texts: Texts,
        today: object = None,  # noqa: ARG002 - no day is needed
    ) -> Files | Invalid | More:
        """Return files that were known before: `Attachment`s. They are checked as those that a user sends."""
        if not isinstance(value, list | tuple) or not all(isinstance(one, Attachment) for one in value):
            return Invalid(texts.files_missing)
        problems = [problem for one in value if (problem := self._problem(_clean(one), texts)) is not None]
        least, most = self.count
        if problems or len(value) < least or (most is not None and len(value) > most):
            return Invalid(texts.files_missing)
        return Files(value, value.texts if isinstance(value, Files) else ())

    def encode(self, value: Sequence[Attachment]) -> object:
        """Return what is known of each file, and the texts if there are any."""
        files = Files(value, value.texts if isinstance(value, Files) else ())
        return _state_of(files) if files.texts else [one.to_dict() for one in files]

    def decode(self, document: object) -> Files:
        """Return the files."""
        files = _files_of(document)
        if files is None:
            raise unreadable(self.kind)
        return files


def _clean(file: Attachment) -> Attachment:
    """Return a file of which all can be kept as JSON, and what only the service knows is left out."""
    name = None if file.name is None else without_halves(file.name)
    return evolve(file, id=without_halves(file.id), name=name, extra={})


def _kept(state: JSONObject | None, given: Given) -> Files:
    """Return what is there already, with what is written now."""
    kept = None if state is None else _files_of(state)
    kept = Files() if kept is None else kept
    said = given.said
    is_new = bool(said) and not (_is_done(given) and (given.message is None or not given.message.attachments))
    return Files(kept, (*kept.texts, said)[:_MOST_KEPT] if is_new else kept.texts)


def _is_done(given: Given) -> bool:
    return len(given.said) <= _LONGEST_NAME and folded(given.said) in _DONE


def _refused(reason: str, kept: Files) -> Invalid:
    return Invalid(reason, _state_of(kept) if kept.texts else None)


def _state_of(files: Files) -> JSONObject:
    return {"files": [one.to_dict() for one in files], **({"texts": [*files.texts]} if files.texts else {})}


def _files_of(document: object) -> Files | None:
    """Return what was kept: a list of files, or files with texts."""
    found = document.get("files") if isinstance(document, dict) else document
    texts = document.get("texts", []) if isinstance(document, dict) else []
    if not isinstance(found, list) or not isinstance(texts, list):
        return None
    try:
        return Files(map(Attachment.from_dict, found), map(str, texts))
    except InvalidInputError:
        return None


def _plain(content_type: str) -> str:
    return content_type.partition(";")[0].strip().casefold()


def _named(problems: Sequence[str], texts: Texts) -> str:
    shown = ", ".join(problems[:_MOST_NAMED])
    rest = len(problems) - _MOST_NAMED
    return f"{shown} {texts.file_more_names.format(count=rest)}" if rest > 0 else shown


def _in_units(size: int) -> str:
    """Return a size as people read it: `1 MB`, `1.5 kB`, `20 bytes`."""
    for unit, name in ((1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")):
        if size >= unit:
            return f"{round(size / unit, 1):g} {name}"
    return f"{size} bytes"
