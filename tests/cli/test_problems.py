"""What went wrong, in words."""

import inspect

import pytest

from healthmsg import errors
from healthmsg.cli.problems import error_kind, error_text, strip_class_name, system_reason
from healthmsg.errors import (
    ConnectError,
    EarlierRunError,
    HealthmsgError,
    InvalidIdError,
    NotFoundError,
    QuotaExceededError,
    UnauthorizedError,
)

ERRORS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, HealthmsgError) and kind.__module__.startswith("healthmsg.")
]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NotFoundError("POST x", 404), "answered 404 Not Found"),
        (UnauthorizedError("POST x", 401), "the token is not accepted: the user has to authorize again"),
        (QuotaExceededError("POST x", 429), "the user's quota is used up"),
        (ConnectError("POST x", "s3cret.example refused"), "no connection was made"),
        (InvalidIdError("s3cret"), "an address that cannot be right"),
        (EarlierRunError("NotFoundError: s3cret"), "not delivered by an earlier run"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError(), "the system gives no reason"),
        (RuntimeError("s3cret"), "a mistake in this program"),
    ],
)
def test_a_kind_of_error_is_said_in_words(error: Exception, kind: str) -> None:
    assert error_kind(error) == kind


@pytest.mark.parametrize("kind", ERRORS)
def test_no_kind_is_said_by_the_name_of_its_class(kind: type[HealthmsgError]) -> None:
    error = kind.__new__(kind, "problem")
    vars(error)["problem"] = "answered 418"

    assert kind.__name__ not in error_kind(error)
    assert kind is HealthmsgError or error_kind(error) != "a mistake in this program"


@pytest.mark.parametrize(
    ("noted", "shown"),
    [
        ("NotFoundError: POST x: answered 404.", "POST x: answered 404."),
        ("DeliveryUnknownError: the line broke", "the line broke"),
        ("ValueError", "ValueError"),
        ("Error 404: not found", "Error 404: not found"),
        ("An Error: x", "An Error: x"),
        ("", ""),
    ],
)
def test_what_a_journal_noted_is_shown_without_the_name(noted: str, shown: str) -> None:
    assert strip_class_name(noted) == shown
    assert error_text(EarlierRunError(noted)) == (shown or "not delivered by an earlier run")


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (NotFoundError("GET x", 404), "GET x: answered 404 Not Found. It had no effect."),
        (QuotaExceededError("GET x", 429), "GET x: answered 429 Too Many Requests. It had no effect."),
        (
            UnauthorizedError("GET x", 401),
            f"GET x: answered 401 Unauthorized. It had no effect. {UnauthorizedError.advice}",
        ),
        (InvalidIdError("the id is empty"), "the id is empty"),
    ],
)
def test_what_only_a_program_can_look_up_is_left_out(error: Exception, shown: str) -> None:
    assert error_text(error) == shown


def test_the_system_may_give_no_reason() -> None:
    assert system_reason(TimeoutError()) == "the system gives no reason"
