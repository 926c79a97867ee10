"""Messages as a journal holds them: checked before anything is sent, and made into calls again."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
from attrs import field, frozen

from healthmsg.aio import in_thread
from healthmsg.api import Api
from healthmsg.bulk.journal import Entry, JournalFile, fingerprint_of, likeness_of
from healthmsg.bulk.messages import Outgoing, Recipient
from healthmsg.bulk.sending import USERS, address_of, check_own, is_user
from healthmsg.codec import encode
from healthmsg.errors import InvalidFileError, InvalidInputError
from healthmsg.files import FileTaker, TakenFile, UploadFile, prepare
from healthmsg.ids import encode_segment
from healthmsg.models import Option, Question
from healthmsg.resources.chat import question_json
from healthmsg.validation import check_body, check_files, check_text, require_non_blank

_NO_PATH: Final = "only a file with a path can be in a journal: it may have to be sent by a later run"


@frozen
class Content:
    """What is to be sent to whom, checked."""

    to: str = field(repr=False)
    """The chat's address, or the user's, as text."""
    body: str = field(repr=False)
    files: tuple[JournalFile, ...] = field(repr=False)
    question: Mapping[str, object] | None = field(repr=False)
    label: str | None = field(default=None, repr=False)
    """The sender's own, which makes no difference."""

    def fingerprint(self, salt: bytes) -> bytes:
        """Tell it from others; with a journal's salt, nobody finds out what was said by trying texts."""
        return fingerprint_of(self.to, self.body, self.files, self.question, salt=salt)

    def likeness(self, salt: bytes) -> bytes:
        """Recognise it when its files are made again: what its key is derived from, if it has none."""
        return likeness_of(self.to, self.body, self.files, self.question, salt=salt)

    def entry(self, key: str, fingerprint: bytes) -> Entry:
        """Give it a key, under which a journal knows it."""
        return Entry(key, self.to, self.body, self.files, self.question, fingerprint, self.label)


def taker(*, for_journal: bool) -> FileTaker:
    """Make what takes the files of a run's messages, to be used for all of them.

    A journal's are all hashed: it may be a later run that sends them.
    """
    return FileTaker(digest_all=for_journal)


async def take_files(message: Outgoing, take: FileTaker) -> tuple[UploadFile, ...]:
    """Note what the files of a message hold now, before the next message is asked for."""
    try:
        files = check_files(message.files)
    except InvalidFileError:
        return ()  # which `checked` refuses
    return await in_thread(take.take, files) if files else ()


async def checked(
    message: Outgoing, api: Api, files: Sequence[UploadFile], *, for_journal: bool = True
) -> Content:
    """Check a message as far as that can be done without sending it; `files` are those that were taken.

    Raises:
        InvalidInputError: says what is wrong with it; if files are, all of them.
    """
    check_own(message.to, api)
    if message.key is not None:
        encode(_without_nul(check_text(message.key, "a message's key"), "a message's key"))
    if message.label is not None:
        encode(_without_nul(check_text(message.label, "a message's label"), "a message's label"))
    check_files(message.files)
    question = message.question
    body = check_body(message.body)
    if question is not None and files:
        raise InvalidInputError("a question cannot have files: send them in a message of their own")
    if not files:
        require_non_blank(body)
    encode(body)  # refuses what has no UTF-8 form
    return Content(
        _without_nul(text_of(message.to), "a recipient"),
        body,
        await asyncio.to_thread(_looked_at, files, for_journal=for_journal) if files else (),
        None if question is None else _written(question),
        message.label,
    )


def text_of(to: Recipient) -> str:
    """Give a recipient's address as text.

    Raises:
        InvalidIdError: it is none.
    """
    if is_user(to):
        encode_segment(to.removeprefix(USERS), "a user's id")
        return to
    return address_of(to).text


def files_in(files: Sequence[JournalFile]) -> list[UploadFile]:
    """Return the files to upload. One that does not hold what was entered is refused."""
    return [
        TakenFile(
            file.path,
            file.name,
            file.content_type,
            size=file.size,
            digest=None if file.digest is None else bytes.fromhex(file.digest),
        )
        for file in files
    ]


def question_in(question: Mapping[str, Any] | None) -> Question | None:
    """Read a question that `checked` wrote."""
    if question is None:
        return None
    options = [Option(one["label"], name=one["name"], style=one.get("style")) for one in question["options"]]
    return Question(options, tuple(question["users"]), question["multi_answer"], question["style"])


def _without_nul(value: str, name: str) -> str:
    if "\0" in value:
        raise InvalidInputError(f"{name} must not have a NUL in it")
    return value


def _written(question: Question) -> dict[str, object]:
    if not isinstance(question, Question):
        raise InvalidInputError(f"question must be a Question, not {type(question).__name__}")
    written = question_json(
        question.options, question.users, multi_answer=question.multi_answer, style=question.style
    )
    options: Any = written["options"]
    return written | {"options": [attrs.asdict(option) for option in options]}


def _looked_at(files: Sequence[UploadFile], *, for_journal: bool) -> tuple[JournalFile, ...]:
    if for_journal:
        _refuse_without_path(files)
    parts = prepare(files, field_name="files")
    return tuple(
        JournalFile(_path_of(file) or "", part.file_name, part.size, part.content_type, _digest_of(file))
        for file, part in zip(files, parts, strict=True)
    )


def _digest_of(file: UploadFile) -> str | None:
    return file.digest.hex() if isinstance(file, TakenFile) and file.digest is not None else None


def _refuse_without_path(files: Sequence[UploadFile]) -> None:
    problems = [(f"file {n}", _NO_PATH) for n, file in enumerate(files, 1) if _path_of(file) is None]
    if problems:
        raise InvalidFileError(problems)


def _path_of(file: UploadFile) -> str | None:
    source = file.source
    # Whoever sends it may stand in another folder.
    return str(Path(source).absolute()) if isinstance(source, str | os.PathLike) else None
