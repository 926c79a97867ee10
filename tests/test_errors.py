import asyncio
import copy
import inspect
import pickle
import re
import traceback
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from healthmsg import errors
from healthmsg.downloads.attachments import DownloadResult
from healthmsg.errors import (
    AuthorizationRefusedError,
    CallError,
    CallTimeoutError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    DeliveryUnknownError,
    DialogHeldError,
    DialogOpenError,
    DownloadError,
    ExportIncompleteError,
    ForeignAwaitError,
    HealthmsgError,
    InvalidFileError,
    InvalidInputError,
    InvalidResponseError,
    LimitUnavailableError,
    NotKeptError,
    OnceFailedError,
    Outcome,
    ProgramExitError,
    ProxyAuthenticationError,
    ServerError,
    StatusError,
    StepNotAwaitedError,
    StepOutsideDialogError,
    TokenRenewalError,
    TokenRequestError,
    TooManyStepsError,
    TransportError,
    UnauthorizedError,
    UploadFileError,
    WrongEventLoopError,
)
from healthmsg.errors.base import without_locals
from healthmsg.models import Attachment

CALL = "POST conversations/{id}/messages"
CANARY = "canary-3f9"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
ALL_ERRORS = sorted(
    (
        found
        for _, found in inspect.getmembers(errors, inspect.isclass)
        if issubclass(found, HealthmsgError) and found.__module__.startswith(errors.__name__)
    ),
    key=lambda error: error.__name__,
)
STATUS_ERRORS = [error for error in ALL_ERRORS if issubclass(error, StatusError)]


def status_error(error: type[StatusError]) -> StatusError:
    return error(
        CALL,
        418,
        server_message=f"words {CANARY}",
        server_code=f"code {CANARY}",
        retry_after=2.5,
        outcome=Outcome.UNKNOWN,
    )


MAKERS: dict[type[HealthmsgError], Callable[[], HealthmsgError]] = {
    InvalidFileError: lambda: InvalidFileError([("a.pdf", "it is empty"), ("b", "it is a folder")]),
    ClientClosedError: ClientClosedError,
    ExportIncompleteError: lambda: ExportIncompleteError(
        [DownloadResult(Attachment(f"id {CANARY}", f"{CANARY}.pdf"))]
    ),
    WrongEventLoopError: WrongEventLoopError,
    ForeignAwaitError: lambda: ForeignAwaitError("asyncio.sleep", "bot.py", 7),
    ProgramExitError: lambda: ProgramExitError("SystemExit", "bot.py", 7),
    StepNotAwaitedError: lambda: StepNotAwaitedError("`hand_over`", "bot.py", 7),
    StepOutsideDialogError: lambda: StepOutsideDialogError("`say`", "bot.py", 7),
    TooManyStepsError: lambda: TooManyStepsError("intake", 1000),
    DialogOpenError: lambda: DialogOpenError("intake", is_held=True),
    DialogHeldError: lambda: DialogHeldError("intake", "its code fails"),
    OnceFailedError: lambda: OnceFailedError("KeyError"),
    NotKeptError: lambda: NotKeptError("Lock"),
    AuthorizationRefusedError: lambda: AuthorizationRefusedError(f"code {CANARY}", f"words {CANARY}"),
    TokenRequestError: lambda: TokenRequestError("The token was refused.", code=f"code {CANARY}"),
    CallError: lambda: CallError(CALL, "broke", outcome=Outcome.DELIVERED, advice="Look."),
    TransportError: lambda: TransportError(CALL, "broke", outcome=Outcome.NOT_SENT),
    ConnectError: lambda: ConnectError(CALL, "refused"),
    LimitUnavailableError: lambda: LimitUnavailableError(CALL, "it does not answer"),
    ProxyAuthenticationError: lambda: ProxyAuthenticationError(CALL, "refused"),
    ConnectionLostError: lambda: ConnectionLostError(CALL, "reset", outcome=Outcome.NOT_SENT),
    CallTimeoutError: lambda: CallTimeoutError(CALL, "too late"),
    InvalidResponseError: lambda: InvalidResponseError(
        CALL, "it is not JSON", path="$.id", outcome=Outcome.DELIVERED
    ),
    DownloadError: lambda: DownloadError(CALL, "the link is dead"),
    UploadFileError: lambda: UploadFileError(CALL, "a file shrank"),
    TokenRenewalError: lambda: TokenRenewalError(CALL, retry_after=2.5),
    DeliveryUnknownError: lambda: DeliveryUnknownError(
        CALL, "reset", started_at=NOON, status=502, is_idempotent=True
    ),
}


def example(error: type[HealthmsgError]) -> HealthmsgError:
    """Make one with no attribute at its default."""
    if error in MAKERS:
        made = MAKERS[error]()
    elif issubclass(error, StatusError):
        made = status_error(error)
    else:
        made = error("A message.")
    if isinstance(made, CallError):
        made.attempts = 4
    made.add_note("a note")
    return made


def drawn_tree() -> dict[str, tuple[str | None, set[str], int | None]]:
    """Read the drawing: for each class its parent, its other bases, and its status."""
    tree: dict[str, tuple[str | None, set[str], int | None]] = {}
    line_of_descent: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        drawn = re.fullmatch(r" {4}((?:[│├└ ][ ─]{2} )*)([A-Z]\w+Error)\b(.*)", line)
        if not drawn:
            continue
        depth = len(drawn[1]) // 4
        del line_of_descent[depth:]
        parent = line_of_descent[-1] if line_of_descent else None
        status = re.search(r"\b\d{3}\b", drawn[3])
        others = set(re.findall(r"\w+Error\b", drawn[3]))
        tree[drawn[2]] = (parent, others, int(status[0]) if status else None)
        line_of_descent.append(drawn[2])
    return tree


def real_tree() -> dict[str, tuple[str | None, set[str]]]:
    tree: dict[str, tuple[str | None, set[str]]] = {}
    for error in ALL_ERRORS:
        parent, *others = error.__bases__
        named = parent.__name__ if issubclass(parent, HealthmsgError) else None
        tree[error.__name__] = (named, {other.__name__ for other in others})
    return tree


def test_the_drawing_shows_every_error_in_its_place_and_no_other() -> None:
    drawn = {name: (parent, others) for name, (parent, others, _) in drawn_tree().items()}

    assert len(drawn) > 30
    assert drawn == real_tree()


def test_the_drawn_status_codes_are_those_of_the_classes() -> None:
    from healthmsg.pipeline.check import _ERRORS

    drawn = {status: name for name, (_, _, status) in drawn_tree().items() if status}

    assert drawn == {status: error.__name__ for status, error in _ERRORS.items()}


@pytest.mark.parametrize("error", ALL_ERRORS)
def test_every_error_says_what_it_means(error: type[HealthmsgError]) -> None:
    assert (error.__doc__ or "").strip()
    assert str(example(error)).strip()


def by_pickle(protocol: int) -> Callable[[HealthmsgError], HealthmsgError]:
    def through(error: HealthmsgError) -> HealthmsgError:
        restored: HealthmsgError = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own
        return restored

    return through


ways_to_copy = pytest.mark.parametrize(
    "duplicate",
    [
        *(
            pytest.param(by_pickle(protocol), id=f"pickle-{protocol}")
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
        pytest.param(copy.copy, id="copy"),
        pytest.param(copy.deepcopy, id="deepcopy"),
    ],
)


@ways_to_copy
@pytest.mark.parametrize("error", ALL_ERRORS)
def test_every_error_survives_pickle_and_copy(
    error: type[HealthmsgError], duplicate: Callable[[HealthmsgError], HealthmsgError]
) -> None:
    original = example(error)

    restored = duplicate(original)

    assert type(restored) is error
    assert str(restored) == str(original)
    assert repr(restored) == repr(original)
    assert restored.args == original.args
    assert vars(restored) == vars(original)


@ways_to_copy
def test_a_users_own_subclass_survives_too(duplicate: Callable[[HealthmsgError], HealthmsgError]) -> None:
    restored = duplicate(OwnError(7))

    assert isinstance(restored, OwnError)
    assert restored.number == 7
    assert str(restored) == "own 7"


class OwnError(HealthmsgError):
    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"own {number}")


def assert_only_in_attributes(error: BaseException) -> None:
    assert CANARY not in str(error)
    assert CANARY not in repr(error)
    assert CANARY not in repr(error.args)
    assert any(CANARY in str(value) for value in vars(error).values())


@pytest.mark.parametrize("error", STATUS_ERRORS)
def test_the_services_own_words_are_an_attribute_only(error: type[StatusError]) -> None:
    made = status_error(error)

    assert_only_in_attributes(made)
    assert made.server_message == f"words {CANARY}"
    assert made.server_code == f"code {CANARY}"


@pytest.mark.parametrize("error", [AuthorizationRefusedError, TokenRequestError])
def test_what_an_authorization_server_said_is_an_attribute_only(error: type[HealthmsgError]) -> None:
    assert_only_in_attributes(example(error))


def test_which_files_an_export_lacks_is_an_attribute_only() -> None:
    assert_only_in_attributes(example(ExportIncompleteError))


@pytest.mark.parametrize(
    ("status", "named"), [(404, "404 Not Found"), (502, "502 Bad Gateway"), (599, "599"), (999, "999")]
)
def test_a_status_is_named_where_it_has_a_name(status: int, named: str) -> None:
    assert f"{CALL}: answered {named}." in str(StatusError(CALL, status))


@pytest.mark.parametrize("error", STATUS_ERRORS)
def test_only_a_servers_failure_leaves_the_outcome_unknown(error: type[StatusError]) -> None:
    unclear = issubclass(error, ServerError)

    assert error(CALL, 418).outcome is (Outcome.UNKNOWN if unclear else Outcome.NOT_SENT)
    assert error(CALL, 418, outcome=Outcome.DELIVERED).outcome is Outcome.DELIVERED


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (Outcome.DELIVERED, "The service accepted it."),
        (Outcome.NOT_SENT, "It had no effect."),
        (Outcome.UNKNOWN, "It may or may not have taken effect."),
    ],
)
def test_a_call_error_says_what_became_of_the_call(outcome: Outcome, said: str) -> None:
    error = CallError(CALL, "broke", outcome=outcome, advice="Look.")

    assert str(error) == f"{CALL}: broke. {said} Look."
    assert error.attempts == 1


@pytest.mark.parametrize("error", [ConnectError, DownloadError, UploadFileError])
def test_what_never_reached_the_service_was_not_sent(
    error: type[ConnectError | DownloadError | UploadFileError],
) -> None:
    assert error(CALL, "broke").outcome is Outcome.NOT_SENT


@pytest.mark.parametrize("error", [ConnectionLostError, CallTimeoutError])
def test_a_line_that_broke_leaves_the_outcome_unknown(
    error: type[ConnectionLostError | CallTimeoutError],
) -> None:
    assert error(CALL, "broke").outcome is Outcome.UNKNOWN


def test_an_unknown_delivery_is_never_anything_else() -> None:
    error = DeliveryUnknownError(CALL, "reset", started_at=NOON)

    assert error.outcome is Outcome.UNKNOWN
    assert error.started_at == NOON
    assert error.status is None


def test_an_invalid_response_names_the_path_of_the_field() -> None:
    assert " at $.members[0].id." in str(InvalidResponseError(CALL, "odd", path="$.members[0].id"))
    assert " at " not in str(InvalidResponseError(CALL, "odd"))


def test_invalid_files_are_all_named() -> None:
    error = InvalidFileError([("a.pdf", "it is empty"), ("b", "it is a folder")])

    assert error.problems == (("a.pdf", "it is empty"), ("b", "it is a folder"))
    assert "a.pdf: it is empty; b: it is a folder" in str(error)


@pytest.mark.parametrize(
    ("error", "builtin"),
    [(ConfigurationError, ValueError), (InvalidInputError, ValueError), (ClientClosedError, RuntimeError)],
)
def test_misuse_is_also_the_builtin_error_one_expects(
    error: type[HealthmsgError], builtin: type[Exception]
) -> None:
    assert issubclass(error, builtin)


def test_401_is_caught_as_a_call_error_and_as_the_need_to_sign_in_again() -> None:
    assert issubclass(UnauthorizedError, CallError)
    assert issubclass(UnauthorizedError, errors.ReauthorizationRequiredError)


async def test_hiding_locals_ends_no_call_that_caught_the_same_error_before() -> None:
    shared = ConnectError("POST oauth token", "no connection")  # as a circuit breaker keeps one

    async def fail(secret: str) -> None:
        await asyncio.sleep(0)
        assert secret
        raise shared

    async def wait_and_go_on() -> str:
        try:
            await fail("s3cr3t")
        except ConnectError:
            await asyncio.sleep(0.01)
        return "went on"

    waiting = asyncio.create_task(wait_and_go_on())
    while shared.__traceback__ is None:  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0)
    without_locals(shared)

    assert not any("secret" in frame.f_locals for frame, _ in traceback.walk_tb(shared.__traceback__))
    async with asyncio.timeout(5):
        assert await waiting == "went on"
