"""What goes into a journal comes out again."""

import json
import string
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthmsg import (
    Client,
    InvalidInputError,
    Option,
    Outgoing,
    Question,
    UploadFile,
    exact_aux_id,
    fold_aux_id,
)
from healthmsg.bulk.entries import check_message, files_in, question_in, text_of
from healthmsg.bulk.intake import snapshot_files
from healthmsg.bulk.journal import Entry, JournalFile
from healthmsg.bulk.journal.input_index import (
    files_as_json,
    files_of_json,
    question_as_json,
    question_of_json,
)
from healthmsg.errors import AmbiguousAuxIdError, EmptyMessageError, InvalidFileError, InvalidIdError
from healthmsg.files import FileSnapshots, TakenFile
from healthmsg.ids import ChatAddress, ChatKind
from healthmsg.sandbox import Sandbox


async def check_snapshot(message: Outgoing, client: Client) -> Entry:
    return await check_message(
        message, client._api, await snapshot_files(message, FileSnapshots(digest_all=True))
    )


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
    lambda text: text.strip() and text not in {".", ".."}
)
names = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=32)
options = st.lists(
    st.builds(Option, texts, name=names, style=st.none() | st.sampled_from(["green", "red"])),
    min_size=1,
    max_size=5,
    unique_by=lambda option: option.name,
)
questions = st.builds(
    Question,
    options,
    st.lists(texts, max_size=3).map(tuple),
    st.booleans(),
    st.sampled_from(["horizontal", "vertical"]),
)


@given(kind=st.sampled_from(ChatKind), chat_id=texts)
def test_an_address_comes_out_as_it_went_in(kind: ChatKind, chat_id: str) -> None:
    address = ChatAddress(kind, exact_aux_id(chat_id) if kind.is_auxiliary else chat_id)

    again = ChatAddress.of_text(address.text)

    assert again == address
    assert again.path == address.path


@pytest.mark.parametrize("aux_id", ["José", "Jose\u0301", "a/b", "conversations/x", " ", "%2F", "ß"])
def test_an_ambiguous_id_is_decided_when_it_goes_in(aux_id: str) -> None:
    exact = ChatAddress(ChatKind.AUX_CONVERSATION, exact_aux_id(aux_id))
    folded = ChatAddress(ChatKind.AUX_CONVERSATION, fold_aux_id(aux_id))

    assert ChatAddress.of_text(exact.text).path == exact.path
    assert ChatAddress.of_text(folded.text).path == folded.path


@pytest.mark.parametrize("to", ["users/", "users/..", "", "c1", "conversations/.", "users/\ud800"])
def test_what_is_no_address_is_refused(to: str) -> None:
    with pytest.raises(InvalidIdError):
        text_of(to)


def test_an_address_with_a_diacritic_that_is_not_decided_about_is_refused() -> None:
    with pytest.raises(AmbiguousAuxIdError):
        text_of("aux/conversations/José")


@pytest.mark.slow
@given(question=questions)
def test_a_question_comes_out_as_it_went_in(question: Question) -> None:
    from healthmsg.bulk.entries import _question_json

    text = question_as_json(_question_json(question))
    assert text is not None
    assert text == question_as_json(json.loads(text))
    again = question_in(question_of_json(text))

    assert again is not None
    assert list(again.options) == list(question.options)
    assert (again.users, again.multi_answer, again.style) == (
        *(tuple(dict.fromkeys(question.users)), question.multi_answer, question.style),
    )


def test_no_question_is_none() -> None:
    assert question_in(question_of_json(question_as_json(None))) is None


@given(
    path=texts,
    name=texts,
    size=st.none() | st.integers(1, 2**60),
    content_type=st.none() | texts,
    digest=st.none() | st.binary(min_size=32, max_size=32),
)
def test_a_file_comes_out_as_it_went_in(
    path: str, name: str, size: int | None, content_type: str | None, digest: bytes | None
) -> None:
    entered = (JournalFile(path, name, size, content_type, None if digest is None else digest.hex()),)

    (again,) = files_in(files_of_json(files_as_json(entered)))

    assert again == TakenFile(path, name, content_type, size=size, digest=digest)


def test_a_file_of_a_journal_without_digests_can_be_read() -> None:
    assert files_of_json('[{"path": "/a", "name": "a", "size": 1, "content_type": "a/b"}]') == (
        JournalFile("/a", "a", 1, "a/b"),
    )


# --- what is checked


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (Outgoing("conversations/c1", ""), EmptyMessageError),
        (Outgoing("conversations/c1", "\ud800"), InvalidInputError),
        (Outgoing("conversations/c1", "x", key=""), InvalidInputError),
        (Outgoing("conversations/c1", "x", key="\ud800"), InvalidInputError),
        (Outgoing("conversations/c1", "x", key=7), InvalidInputError),  # type: ignore[arg-type]
        (Outgoing("conversations/c1", "x", ["/nowhere/a.pdf"]), InvalidFileError),
        (Outgoing("conversations/c1", "x", [UploadFile(b"x", "a.txt")]), InvalidFileError),
        (Outgoing("conversations/c1", "x", question="?"), InvalidInputError),  # type: ignore[arg-type]
        (Outgoing("conversations/c1", "x", question=Question([])), InvalidInputError),
        (Outgoing("conversations/c1", "x", ["a"], question=Question([Option("Ja")])), InvalidInputError),
        (Outgoing("users/", "x"), InvalidIdError),
    ],
)
async def test_what_cannot_be_sent_is_refused_and_shows_nothing(
    client: Client, message: Outgoing, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await check_snapshot(message, client)


async def test_a_file_is_entered_with_its_path_size_and_digest(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scan.pdf").write_bytes(b"%PDF")
    monkeypatch.chdir(tmp_path)

    content = await check_snapshot(Outgoing("conversations/c1", "", ["scan.pdf"]), client)

    digest = sha256(b"%PDF").hexdigest()
    assert content.files == (
        JournalFile(str(tmp_path / "scan.pdf"), "scan.pdf", 4, "application/pdf", digest),
    )
    assert str(tmp_path) not in repr(content)


async def test_a_handle_of_another_user_is_refused(client: Client, sandbox: Sandbox) -> None:
    other = client.with_token(sandbox.issue_token())
    with pytest.raises(InvalidInputError, match="another user's"):
        await check_snapshot(Outgoing(other.conversations("c1"), "x"), client)
