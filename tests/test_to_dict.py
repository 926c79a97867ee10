import json
import pickle
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from attrs import asdict, field, fields, frozen
from hypothesis import given
from hypothesis import strategies as st

from healthmsg import Client, Environment, UploadFile
from healthmsg.bulk.journal import Decision, JournalFile, JournalMessage, State
from healthmsg.bulk.models import SendReport, SendResult
from healthmsg.bulk.preview import PreviewReport, Problem, ProblemKind
from healthmsg.bulk.reconcile import Reconciled
from healthmsg.bulk.upload import UploadResult
from healthmsg.codec import Model, encode
from healthmsg.downloads.attachments import DownloadResult
from healthmsg.downloads.export import Export
from healthmsg.errors import (
    ConnectError,
    ExportIncompleteError,
    HealthmsgError,
    InvalidInputError,
    QuotaExceededError,
)
from healthmsg.models import (
    Attachment,
    GroupInvite,
    ImportUser,
    Message,
    Option,
    Outcome,
    Payload,
    Question,
    QuestionPayload,
    Quota,
    User,
)
from tests.test_codec_properties import every_model, few, models_of
from tests.test_errors import ALL_ERRORS, example

CANARY = "canary-3f9"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
QUESTION = Question([Option("Ja, graag"), Option("Nee", name="n", style="red")], ["u1"], multi_answer=True)
OUTGOING = [
    QUESTION,
    Question((Option("Ja"),)),
    GroupInvite(phone_number="+31612345678", first_name="A", last_name="B", invite_type="private_user"),
    GroupInvite(
        email="a@b.nl", first_name="A", last_name="B", invite_type="contact", create_conversation=True
    ),
    ImportUser(email="a@b.nl", first_name="A", last_name="B", saml_username="ab"),
]


@frozen
class Appointment(User):
    when: datetime = field(kw_only=True)


NOT_FOUND = {
    "type": "NotFoundError",
    "message": "m",
    "call": "GET x",
    "problem": "p",
    "outcome": "not sent",
    "attempts": 1,
    "transaction_id": "",
    "status": 404,
    "server_message": "",
    "server_code": "",
    "server_info": "",
}


@frozen
class Result(Model):
    key: str | None
    outcome: Outcome
    error: Exception | None = None
    path: Path | None = field(default=None, repr=False)
    seconds: float = 0.0
    quota: Quota | None = None


def through_json(value: Any) -> Any:
    """Write a model, and read it back as another process would."""
    return type(value).from_dict(json.loads(json.dumps(value.to_dict())))


@every_model
@few
@given(data=st.data())
def test_every_model_comes_back_from_its_dict(model: type[Any], data: st.DataObject) -> None:
    value = data.draw(models_of(model))

    again = through_json(value)

    assert type(again) is type(value)
    assert again == value
    assert asdict(again) == asdict(value)
    assert json.loads(encode(value)) == value.to_dict()


@pytest.mark.parametrize("value", OUTGOING, ids=lambda value: type(value).__name__)
def test_what_goes_out_comes_back_from_its_dict(value: Any) -> None:
    again = through_json(value)

    assert again.to_dict() == value.to_dict()
    assert type(again)(**{one.name: getattr(value, one.name) for one in fields(type(value))}) == value
    assert type(again).from_dict(value.to_dict() | {"new": 1}).to_dict() == value.to_dict()


def test_a_dict_shows_moments_with_their_offset_and_extra_among_the_keys() -> None:
    message = Message("m1", user=User("u1", extra={"new": [1]}), created_at=NOON, payload=Payload("poll"))

    assert message.to_dict() == {
        "id": "m1",
        "user": {"id": "u1", "new": [1]},
        "attachments": [],
        "mentions": [],
        "payload": {"type": "poll"},
        "created_at": "2026-01-02T12:00:00+00:00",
        "liked_by": [],
    }


@pytest.mark.parametrize("document", [None, 5, CANARY, [CANARY], [["id", CANARY]]])
def test_what_is_no_dict_is_refused(document: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"this is not a User, at \$") as caught:
        User.from_dict(document)

    assert CANARY not in str(caught.value)


def test_a_programs_own_model_may_require_more_than_an_id() -> None:
    appointment = Appointment("u1", when=NOON)

    assert through_json(appointment) == appointment
    with pytest.raises(InvalidInputError, match=r"\$\.when"):
        Appointment.from_dict({"id": "u1"})


def test_a_payload_comes_back_as_the_kind_that_its_type_names() -> None:
    assert type(Payload.from_dict({"type": "question"})) is QuestionPayload


@pytest.mark.parametrize(
    ("model", "document", "path"),
    [
        (User, {"id": 7}, r"\$\.id"),
        (User, {}, r"\$\.id"),
        (Message, {"id": "m", "user": {"id": "u", "email": [CANARY]}}, r"\$\.user\.email"),
        (Question, {"options": [{"label": [CANARY]}]}, r"\$\.options\[0\]\.label"),
        (Question, {"options": [], "style": CANARY}, r"\$"),
        (
            GroupInvite,
            {"email": CANARY, "first_name": "A", "last_name": "B", "invite_type": "contact"},
            "email",
        ),
        (ImportUser, {"email": "a@b.nl", "last_name": "B"}, r"\$\.first_name"),
        (Result, {"outcome": CANARY}, r"\$\.outcome"),
        (Result, {"outcome": "unknown", "error": {"message": CANARY}}, r"\$\.error\.type"),
        (Result, {"outcome": "unknown", "seconds": True}, r"\$\.seconds"),
        (
            Result,
            {"outcome": "unknown", "error": {"type": "ConnectError", "outcome": CANARY}},
            r"\$\.error\.outcome",
        ),
        (Result, {"outcome": "unknown", "error": {"type": "NotFoundError"}}, r"\$\.error\.outcome"),
        (
            Result,
            {"outcome": "unknown", "error": NOT_FOUND | {"status": CANARY}},
            r"\$\.error\.status",
        ),
        (Result, {"outcome": "unknown", "error": NOT_FOUND | {"message": [CANARY]}}, r"\$\.error\.message"),
        (
            Result,
            {"outcome": "unknown", "error": NOT_FOUND | {"cause": {"type": [CANARY]}}},
            r"\$\.error\.cause\.type",
        ),
    ],
)
def test_a_wrong_dict_is_refused_by_path_and_never_by_value(
    model: type[Model], document: dict[str, object], path: str
) -> None:
    with pytest.raises(InvalidInputError, match=path) as caught:
        model.from_dict(document)

    assert CANARY not in f"{caught.value} {caught.value.args}"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("value", [float("nan"), 2**64, "\ud800", object()])
def test_what_json_cannot_express_is_refused(value: object) -> None:
    with pytest.raises(InvalidInputError):
        User("u1", extra={"new": value}).to_dict()


REFUSED = ConnectError("POST x", "refused", host="h", port=443)
SENT = SendResult("k", "conversations/c1", Outcome.UNKNOWN, "m1", REFUSED, 2, 7, "label")
REPORT = SendReport(3, 1, 1, 1, 4, 1.5, (SENT, SENT), superseded=1)
PROBLEM = Problem(1, None, "users/u1", ProblemKind.DUPLICATE, REFUSED)
RESULTS = [
    SENT,
    SendResult(None, "users/u1", Outcome.DELIVERED),
    REPORT,
    UploadResult("aux/conversations/p 7", ("a.pdf", "b"), Outcome.NOT_SENT, error=REFUSED, key="k"),
    PROBLEM,
    PreviewReport(9, 8, 1, 2, 3, 4, 5, 6, 7, 2.5, (PROBLEM,), other_text=1),
    Reconciled(Outcome.UNKNOWN, None, "no proof", ("m1", "m2")),
    JournalMessage(
        "k",
        position=3,
        to="users/u1",
        body="text",
        files=(JournalFile("/a.pdf", "a.pdf", 4),),
        question={"options": ["ja"]},
        state=State.UNKNOWN,
        is_final=True,
        message_id=None,
        error="no proof",
        attempts=2,
        started_at=NOON,
        sent_to="conversations/c1",
        updated_at=NOON,
        decision=Decision(Outcome.NOT_SENT, "An Visser", NOON),
    ),
    DownloadResult(Attachment("a1", "x.pdf", 3), Path("x.pdf"), skipped=True),
    DownloadResult(Attachment("a1"), error=REFUSED),
    Export(Path("folder"), 3, 2, 1),
]


def without_errors(value: Any) -> Any:
    """Return what compares equal, since an error equals itself alone."""
    return asdict(
        value, value_serializer=lambda _, __, kept: repr(kept) if isinstance(kept, Exception) else kept
    )


@pytest.mark.parametrize("value", RESULTS, ids=lambda value: type(value).__name__)
def test_every_result_comes_back_from_its_dict(value: Any) -> None:
    again = through_json(value)

    assert type(again) is type(value)
    assert without_errors(again) == without_errors(value)
    assert type(value).from_dict(value.to_dict() | {"new": 1}).to_dict() == value.to_dict()


async def test_recipients_and_files_are_text_in_a_results_dict() -> None:
    async with Client("token", environment=Environment.ALTERDESK) as client:
        chat = client.auxiliary.conversations("p 7")
        files: list[Any] = [Path("a/b.pdf"), "c.pdf", UploadFile(b"x", "d.txt"), BytesIO(b"y")]

        sent = SendResult(None, chat, Outcome.DELIVERED).to_dict()
        uploaded = UploadResult(chat, files, Outcome.DELIVERED).to_dict()

    assert sent["to"] == "aux/conversations/p 7"
    assert SendResult.from_dict(sent).to == "aux/conversations/p 7"
    assert uploaded["files"] == ["a/b.pdf", "c.pdf", "d.txt", ""]
    assert UploadResult("users/u1", "a.pdf", Outcome.DELIVERED).to_dict()["files"] == ["a.pdf"]


@pytest.mark.parametrize("kind", ALL_ERRORS)
def test_an_error_in_a_result_comes_back_of_its_class(kind: type[HealthmsgError]) -> None:
    error = example(kind)
    kept = {name: value for name, value in vars(error).items() if name not in {"__notes__", "failures"}}

    again = through_json(Result("k", Outcome.UNKNOWN, error)).error

    assert type(again) is kind
    assert str(again) == str(error)
    assert again.args == error.args
    assert {name: value for name, value in vars(again).items() if name != "failures"} == kept


def test_an_error_brings_its_quota_and_our_own_cause() -> None:
    error = QuotaExceededError("GET x", 429, quota=Quota(1, 2, reset=NOON), transaction_id="t1")
    error.__cause__ = ConnectError("POST token", "refused", host="h", port=443)
    error.__cause__.__cause__ = OSError(CANARY)

    result = Result(None, Outcome.NOT_SENT, error, Path("a/b"), 1.5, Quota(reset=NOON))
    again = through_json(result)

    assert again.to_dict() == result.to_dict()
    assert again == Result(None, Outcome.NOT_SENT, again.error, Path("a/b"), 1.5, Quota(reset=NOON))
    assert again.error.quota == error.quota
    assert again.error.__cause__.host == "h"
    assert again.error.__cause__.__cause__ is None
    assert CANARY not in str(result.to_dict())


@pytest.mark.parametrize(
    "error", [ValueError(CANARY), UnicodeDecodeError("ascii", CANARY.encode(), 0, 1, CANARY)]
)
def test_another_librarys_error_comes_back_without_its_words(error: Exception) -> None:
    result = Result("k", Outcome.NOT_SENT, error)

    assert type(through_json(result).error) is type(error)
    assert CANARY not in str(result.to_dict())


def test_an_error_of_a_newer_version_comes_back_as_the_base_of_all() -> None:
    again = Result.from_dict(
        {"outcome": "unknown", "error": {"type": "NewError", "message": "m", "call": "c"}}
    )

    assert type(again.error) is HealthmsgError
    assert str(again.error) == "m"


@pytest.mark.parametrize(
    "name", ["SystemExit", "KeyboardInterrupt", "Outcome", "eval", "annotations", "usage"]
)
def test_a_name_that_is_no_errors_makes_nothing_but_an_error(name: str) -> None:
    again = Result.from_dict({"outcome": "unknown", "error": {"type": name}})

    assert type(again.error) is HealthmsgError


def test_an_error_has_no_attributes_but_its_own() -> None:
    strange = {"note_tries": 1, "__reduce_ex__": 1, "args": [1], "__class__": 1, "extra": 1}

    error = Result.from_dict({"outcome": "unknown", "error": NOT_FOUND | strange}).error

    assert not vars(error).keys() & strange.keys()
    assert vars(pickle.loads(pickle.dumps(error))) == vars(error)  # noqa: S301 - our own


def test_an_error_that_needs_what_it_is_about_comes_back_as_the_base_of_all() -> None:
    again = through_json(Result("k", Outcome.NOT_SENT, ExceptionGroup(CANARY, [ValueError(CANARY)])))

    assert type(again.error) is HealthmsgError
    assert str(again.error) == "ExceptionGroup"


def test_files_that_an_export_could_not_fetch_are_none_in_json() -> None:
    error = example(ExportIncompleteError)

    assert through_json(Result("k", Outcome.NOT_SENT, error)).error.failures == ()
