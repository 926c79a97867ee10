"""Conversion between messages and journal entries: checked on the way in, read back to be sent."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from healthmsg.api import Api
from healthmsg.bulk.journal.base import Claim, Entry, JournalFile
from healthmsg.bulk.models import Outgoing, Recipient, VerificationRequest, address_of, check_own, is_user
from healthmsg.codec import encode
from healthmsg.errors import InvalidFileError, InvalidInputError
from healthmsg.files import FileToUpload, TakenFile, UploadFile, prepare
from healthmsg.ids import USERS, encode_segment
from healthmsg.models import Option, Question
from healthmsg.resources.chat import question_json
from healthmsg.validation import check_body, check_files, check_text, require_non_blank

# In the place of a question.
_VERIFICATION: Final = "verification"
_NO_PATH: Final = "only a file with a path can be in a journal: it may have to be sent by a later run"


async def check_message(
    message: Outgoing, api: Api | None, files: Sequence[UploadFile], *, for_journal: bool = True
) -> Entry:
    """Check a message as far as that can be done without sending it; `files` are its snapshots.

    Return it as a journal holds it, without a key. Without an `api`, the recipient has to be text.

    Raises:
        InvalidInputError: says what is wrong with it; of files, everything.
    """
    check_own(message.to, api)
    if message.key is not None:
        encode(_without_nul(check_text(message.key, "a message's key"), "a message's key"))
    if message.label is not None:
        encode(_without_nul(check_text(message.label, "a message's label"), "a message's label"))
    check_files(message.files)
    question = message.question
    body = check_body(message.body)
    check_question(question, files)
    if not files:
        require_non_blank(body)
    encode(body)  # refuses what has no UTF-8 form
    return Entry(
        "",
        _without_nul(text_of(message.to), "a recipient"),
        body,
        await asyncio.to_thread(_as_journal_files, files, for_journal=for_journal) if files else (),
        None if question is None else _question_json(question),
        label=message.label,
    )


def check_question(question: Question | None, files: Sequence[FileToUpload]) -> None:
    """Refuse a question with files.

    Raises:
        InvalidInputError: it has some.
    """
    if question is not None and files:
        raise InvalidInputError("a question cannot have files: send them in a message of their own")


def text_of(to: Recipient) -> str:
    """Return a recipient's address as text.

    Raises:
        InvalidIdError: it is none.
    """
    if is_user(to):
        encode_segment(to.removeprefix(USERS), "a user's id")
        return to
    return address_of(to).text


def verification_entry(request: VerificationRequest, api: Api) -> Entry:
    """Return a request for verification as a journal holds it, without a key.

    Raises:
        InvalidInputError: it cannot be right.
    """
    check_own(request.to, api)
    asked = {
        "user_id": _without_nul(check_text(request.user_id, "user_id"), "user_id"),
        "provider_id": _without_nul(check_text(request.provider_id, "provider_id"), "provider_id"),
    }
    for name, value in asked.items():
        encode_segment(value, name)
    return Entry("", text_of(request.to), "", question={_VERIFICATION: asked})


def is_verification(claim: Claim) -> bool:
    """Return whether a journal holds a request for verification."""
    return claim.question is not None and _VERIFICATION in claim.question


def outgoing_of(claim: Claim) -> Outgoing:
    """Return the message that a journal holds."""
    if claim.question is not None and _VERIFICATION in claim.question:
        asked: Any = claim.question[_VERIFICATION]
        return VerificationRequest(claim.chat, "", key=claim.key, **asked)
    files = files_in(claim.files)
    return Outgoing(claim.chat, claim.body, files, claim.key, question_in(claim.question), claim.label)


def files_in(files: Sequence[JournalFile]) -> list[UploadFile]:
    """Return the files to upload. A file that has changed since it was entered is refused."""
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
    """Read a question that `check_message` wrote."""
    if question is None:
        return None
    options = [Option(one["label"], name=one["name"], style=one.get("style")) for one in question["options"]]
    return Question(options, tuple(question["users"]), question["multi_answer"], question["style"])


def _without_nul(value: str, name: str) -> str:
    if "\0" in value:
        raise InvalidInputError(f"{name} must not have a NUL in it")
    return value


def _question_json(question: Question) -> dict[str, object]:
    if not isinstance(question, Question):
        raise InvalidInputError(f"question must be a Question, not {type(question).__name__}")
    written = question_json(
        question.options, question.users, multi_answer=question.multi_answer, style=question.style
    )
    options: Any = written["options"]
    return written | {"options": [attrs.asdict(option) for option in options]}


def _as_journal_files(files: Sequence[UploadFile], *, for_journal: bool) -> tuple[JournalFile, ...]:
    if for_journal:
        problems = [(f"file {n}", _NO_PATH) for n, file in enumerate(files, 1) if _path_of(file) is None]
        if problems:
            raise InvalidFileError(problems)
    parts = prepare(files, field_name="files")
    return tuple(
        JournalFile(_path_of(file) or "", part.file_name, part.size, part.content_type, _digest_of(file))
        for file, part in zip(files, parts, strict=True)
    )


def _digest_of(file: UploadFile) -> str | None:
    return file.digest.hex() if isinstance(file, TakenFile) and file.digest is not None else None


def _path_of(file: UploadFile) -> str | None:
    source = file.source
    # The run that sends it may be started in another folder.
    return str(Path(source).absolute()) if isinstance(source, str | os.PathLike) else None
