"""What went wrong, in words for a terminal, where the names of Python's exceptions say nothing."""

import re
from typing import Final

from healthmsg.errors import (
    AmbiguousAuxIdError,
    CallTimeoutError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    DeliveryUnknownError,
    DownloadError,
    EarlierRunError,
    HealthmsgError,
    InvalidFileError,
    InvalidIdError,
    InvalidInputError,
    InvalidResponseError,
    JournalError,
    OtherTextError,
    QuotaExceededError,
    ReauthorizationRequiredError,
    SendingStoppedError,
    StatusError,
    TokenRenewalError,
    UploadFileError,
)

# The more special come first.
_KINDS: Final[tuple[tuple[type[HealthmsgError], str], ...]] = (
    (ReauthorizationRequiredError, "the token is not accepted: the user has to authorize again"),
    (QuotaExceededError, "the user's quota is used up"),
    (TokenRenewalError, "the token could not be renewed"),
    (DeliveryUnknownError, "may have arrived"),
    (ConnectError, "no connection was made"),
    (ConnectionLostError, "the connection broke"),
    (CallTimeoutError, "no answer in time"),
    (InvalidResponseError, "the answer could not be understood"),
    (UploadFileError, "a file could not be read, or was changed"),
    (DownloadError, "a file could not be fetched"),
    (InvalidFileError, "files that cannot be sent"),
    (AmbiguousAuxIdError, "an auxiliary id with a diacritic"),
    (InvalidIdError, "an address that cannot be right"),
    (InvalidInputError, "refused before anything was sent"),
    (ConfigurationError, "settings that cannot work"),
    (EarlierRunError, "not delivered by an earlier run"),
    (OtherTextError, "already got another text"),
    (SendingStoppedError, "the run was ended before"),
    (JournalError, "the journal could not be used"),
)
_NAME_FIRST: Final = re.compile(r"\A[A-Z]\w*(?:Error|Exception)\b:? ?")


def kind_of(error: Exception) -> str:
    """Return what kind of thing went wrong, in a few words, the same for all errors of that kind."""
    if isinstance(error, StatusError) and not isinstance(
        error, ReauthorizationRequiredError | QuotaExceededError
    ):
        return error.problem
    for kind, words in _KINDS:
        if isinstance(error, kind):
            return words
    if isinstance(error, OSError):
        return reason_of(error)
    return "something else" if isinstance(error, HealthmsgError) else "a mistake in this program"


def reason_of(error: OSError) -> str:
    """Return what the system says of it."""
    return error.strerror or "the system gives no reason"


def without_name(noted: str) -> str:
    """Return what a journal has noted of an error, without the name of its class at the start."""
    return _NAME_FIRST.sub("", noted) or noted


def written(error: Exception) -> str:
    """Return what an error says, without what only a program could look up in it."""
    text = without_name(str(error))
    if isinstance(error, StatusError) and "`" in error.advice:
        text = text.removesuffix(error.advice).rstrip()
    return text or kind_of(error)
