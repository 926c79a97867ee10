"""Every exception that healthmsg raises.

    HealthmsgError
    ├── ConfigurationError (ValueError)       a client, environment or limit that cannot work
    ├── InvalidInputError (ValueError)        refused before anything was sent
    │   ├── InvalidIdError
    │   │   └── AmbiguousAuxIdError
    │   ├── AuxIdTakenError
    │   ├── EmptyMessageError
    │   └── InvalidFileError
    ├── ClientUsageError (RuntimeError)
    │   ├── ClientClosedError
    │   ├── WrongEventLoopError
    │   ├── StepNotAwaitedError               a dialog's code has left an `await` out
    │   └── StepOutsideDialogError            or does in `d.once` what only the dialog itself can do
    ├── SendingStoppedError                   a bulk run was ended early
    │   └── SendingGivenUpError               by what concerns every message
    ├── EarlierRunError                       what a bulk run before this one noted
    ├── ReplyNotSentError                     a bot's reply that was refused before
    ├── OtherTextError                        its recipient got another text from the journal
    ├── JournalError                          a journal of bulk sending that cannot be used
    │   ├── JournalNotFoundError
    │   ├── JournalInUseError
    │   ├── JournalIncompleteError            its `-wal` file is missing
    │   ├── InboxLostError                    another process has taken a stream's store over
    │   ├── JournalGoneError                  deleted, moved or replaced during a run
    │   ├── JournalVersionError
    │   ├── JournalMismatchError
    │   └── ClaimLostError
    ├── CampaignError                         there is none of that name, or it is cancelled
    ├── ExportIncompleteError                 some files of a chat could not be fetched
    ├── DialogError (RuntimeError)            of a bot's dialog
    │   ├── ForeignAwaitError                 it awaited something else than its Dialog
    │   ├── ProgramExitError                  its code raised SystemExit or the like
    │   ├── TooManyStepsError
    │   ├── DialogOpenError
    │   ├── DialogHeldError                   it waits for a person's decision
    │   ├── OnceFailedError                   what `d.once` ran failed, with an error of another kind
    │   └── NotKeptError                      a value that has no place in its journal
    ├── AuthorizationError                    the three legs of OAuth
    │   ├── StateMismatchError
    │   │   └── MissingStateError
    │   ├── AuthorizationRefusedError
    │   ├── MissingCodeError
    │   ├── TokenRequestError
    │   ├── TokenStoreError
    │   └── ReauthorizationRequiredError
    └── CallError                             one call to the service
        ├── TransportError
        │   ├── ConnectError                  never reached the service
        │   │   ├── ProxyAuthenticationError  a proxy wants other credentials
        │   │   └── LimitUnavailableError     the store of a shared limit cannot be reached: not made
        │   ├── ConnectionLostError
        │   └── CallTimeoutError
        ├── StatusError                       answered with an error code
        │   ├── BadRequestError           400
        │   ├── UnauthorizedError         401  (also a ReauthorizationRequiredError)
        │   ├── ForbiddenError            403
        │   ├── NotFoundError             404
        │   ├── MethodNotAllowedError     405
        │   ├── PreconditionFailedError   412
        │   ├── RateLimitedError          429
        │   │   └── QuotaExceededError        of one user
        │   └── ServerError
        │       ├── InternalServerError   500
        │       ├── BadGatewayError       502
        │       └── ServiceUnavailableError 503
        ├── InvalidResponseError              an answer that could not be understood
        ├── DownloadError                     a file that could not be fetched
        ├── UploadFileError                   a file that failed while it was being sent
        ├── TokenRenewalError                 not made, for want of an answer to the renewal of its token
        └── DeliveryUnknownError              it may have taken effect: never sent again blindly

No message, `repr`, argument or cause of these carries a token, a message's text, a name or a filled-in
path. What the service itself said may repeat any of those: it is kept apart, in
`StatusError.server_message`.
"""

from healthmsg.errors.base import HealthmsgError, Outcome
from healthmsg.errors.calls import (
    BadGatewayError,
    BadRequestError,
    CallError,
    CallTimeoutError,
    ConnectError,
    ConnectionLostError,
    DeliveryUnknownError,
    DownloadError,
    ForbiddenError,
    InternalServerError,
    InvalidResponseError,
    LimitUnavailableError,
    MethodNotAllowedError,
    NotFoundError,
    PreconditionFailedError,
    ProxyAuthenticationError,
    QuotaExceededError,
    RateLimitedError,
    ServerError,
    ServiceUnavailableError,
    StatusError,
    TokenRenewalError,
    TransportError,
    UnauthorizedError,
    UploadFileError,
)
from healthmsg.errors.dialogs import (
    DialogError,
    DialogHeldError,
    DialogOpenError,
    ForeignAwaitError,
    NotKeptError,
    OnceFailedError,
    ProgramExitError,
    StepNotAwaitedError,
    StepOutsideDialogError,
    TooManyStepsError,
)
from healthmsg.errors.usage import (
    AmbiguousAuxIdError,
    AuthorizationError,
    AuthorizationRefusedError,
    AuxIdTakenError,
    CampaignError,
    ClaimLostError,
    ClientClosedError,
    ClientUsageError,
    ConfigurationError,
    EarlierRunError,
    EmptyMessageError,
    ExportIncompleteError,
    InboxLostError,
    InvalidFileError,
    InvalidIdError,
    InvalidInputError,
    JournalError,
    JournalGoneError,
    JournalIncompleteError,
    JournalInUseError,
    JournalMismatchError,
    JournalNotFoundError,
    JournalVersionError,
    MissingCodeError,
    MissingStateError,
    OtherTextError,
    ReauthorizationRequiredError,
    ReplyNotSentError,
    SendingGivenUpError,
    SendingStoppedError,
    StateMismatchError,
    TokenRequestError,
    TokenStoreError,
    WrongEventLoopError,
)

__all__ = [
    "AmbiguousAuxIdError",
    "AuthorizationError",
    "AuthorizationRefusedError",
    "AuxIdTakenError",
    "BadGatewayError",
    "BadRequestError",
    "CallError",
    "CallTimeoutError",
    "CampaignError",
    "ClaimLostError",
    "ClientClosedError",
    "ClientUsageError",
    "ConfigurationError",
    "ConnectError",
    "ConnectionLostError",
    "DeliveryUnknownError",
    "DialogError",
    "DialogHeldError",
    "DialogOpenError",
    "DownloadError",
    "EarlierRunError",
    "EmptyMessageError",
    "ExportIncompleteError",
    "ForbiddenError",
    "ForeignAwaitError",
    "HealthmsgError",
    "InboxLostError",
    "InternalServerError",
    "InvalidFileError",
    "InvalidIdError",
    "InvalidInputError",
    "InvalidResponseError",
    "JournalError",
    "JournalGoneError",
    "JournalInUseError",
    "JournalIncompleteError",
    "JournalMismatchError",
    "JournalNotFoundError",
    "JournalVersionError",
    "LimitUnavailableError",
    "MethodNotAllowedError",
    "MissingCodeError",
    "MissingStateError",
    "NotFoundError",
    "NotKeptError",
    "OnceFailedError",
    "OtherTextError",
    "Outcome",
    "PreconditionFailedError",
    "ProgramExitError",
    "ProxyAuthenticationError",
    "QuotaExceededError",
    "RateLimitedError",
    "ReauthorizationRequiredError",
    "ReplyNotSentError",
    "SendingGivenUpError",
    "SendingStoppedError",
    "ServerError",
    "ServiceUnavailableError",
    "StateMismatchError",
    "StatusError",
    "StepNotAwaitedError",
    "StepOutsideDialogError",
    "TokenRenewalError",
    "TokenRequestError",
    "TokenStoreError",
    "TooManyStepsError",
    "TransportError",
    "UnauthorizedError",
    "UploadFileError",
    "WrongEventLoopError",
]
