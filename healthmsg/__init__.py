"""Asyncio client for the KPN Healthcare Messenger API.

What is public is listed in `__all__`, and imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from healthmsg.auth import (
        AuthorizationRequest,
        FileTokenStore,
        MemoryTokenStore,
        OAuthApp,
        Token,
        TokenManager,
        TokenStore,
    )
    from healthmsg.bulk import Outgoing, SendMany, SendResult
    from healthmsg.client import Client
    from healthmsg.environment import Environment
    from healthmsg.errors import (
        AmbiguousAuxIdError,
        AuthorizationError,
        AuthorizationRefusedError,
        BadGatewayError,
        BadRequestError,
        CallError,
        CallTimeoutError,
        ClientClosedError,
        ClientUsageError,
        ConfigurationError,
        ConnectError,
        ConnectionLostError,
        DeliveryUnknownError,
        DownloadError,
        EmptyMessageError,
        ForbiddenError,
        HealthmsgError,
        InternalServerError,
        InvalidFileError,
        InvalidIdError,
        InvalidInputError,
        InvalidResponseError,
        MethodNotAllowedError,
        MissingCodeError,
        MissingStateError,
        NotFoundError,
        PreconditionFailedError,
        QuotaExceededError,
        RateLimitedError,
        ReauthorizationRequiredError,
        SendingStoppedError,
        ServerError,
        ServiceUnavailableError,
        StateMismatchError,
        StatusError,
        TokenRequestError,
        TokenStoreError,
        TransportError,
        UnauthorizedError,
        UploadFileError,
        WrongEventLoopError,
    )
    from healthmsg.files import UploadFile
    from healthmsg.identifiers import exact_aux_id, fold_aux_id
    from healthmsg.models import (
        Attachment,
        ConversationInfo,
        GroupChatInfo,
        Member,
        Message,
        Outcome,
        SentMessage,
        User,
    )
    from healthmsg.paging import Pager
    from healthmsg.pipeline.exchange import Response
    from healthmsg.pipeline.limit import RateLimit
    from healthmsg.pipeline.record import CallRecord
    from healthmsg.pipeline.retry import Retries
    from healthmsg.pipeline.wire import Timeout
    from healthmsg.resources.chats import Chat, GroupChat
    from healthmsg.version import __version__

__all__ = [
    "AmbiguousAuxIdError",
    "Attachment",
    "AuthorizationError",
    "AuthorizationRefusedError",
    "AuthorizationRequest",
    "BadGatewayError",
    "BadRequestError",
    "CallError",
    "CallRecord",
    "CallTimeoutError",
    "Chat",
    "Client",
    "ClientClosedError",
    "ClientUsageError",
    "ConfigurationError",
    "ConnectError",
    "ConnectionLostError",
    "ConversationInfo",
    "DeliveryUnknownError",
    "DownloadError",
    "EmptyMessageError",
    "Environment",
    "FileTokenStore",
    "ForbiddenError",
    "GroupChat",
    "GroupChatInfo",
    "HealthmsgError",
    "InternalServerError",
    "InvalidFileError",
    "InvalidIdError",
    "InvalidInputError",
    "InvalidResponseError",
    "Member",
    "MemoryTokenStore",
    "Message",
    "MethodNotAllowedError",
    "MissingCodeError",
    "MissingStateError",
    "NotFoundError",
    "OAuthApp",
    "Outcome",
    "Outgoing",
    "Pager",
    "PreconditionFailedError",
    "QuotaExceededError",
    "RateLimit",
    "RateLimitedError",
    "ReauthorizationRequiredError",
    "Response",
    "Retries",
    "SendMany",
    "SendResult",
    "SendingStoppedError",
    "SentMessage",
    "ServerError",
    "ServiceUnavailableError",
    "StateMismatchError",
    "StatusError",
    "Timeout",
    "Token",
    "TokenManager",
    "TokenRequestError",
    "TokenStore",
    "TokenStoreError",
    "TransportError",
    "UnauthorizedError",
    "UploadFile",
    "UploadFileError",
    "User",
    "WrongEventLoopError",
    "__version__",
    "exact_aux_id",
    "fold_aux_id",
]

# Everything else that is public is an error.
_HOMES = {
    "__version__": "healthmsg.version",
    "AuthorizationRequest": "healthmsg.auth",
    "FileTokenStore": "healthmsg.auth",
    "MemoryTokenStore": "healthmsg.auth",
    "OAuthApp": "healthmsg.auth",
    "Token": "healthmsg.auth",
    "TokenManager": "healthmsg.auth",
    "TokenStore": "healthmsg.auth",
    "Outgoing": "healthmsg.bulk",
    "SendMany": "healthmsg.bulk",
    "SendResult": "healthmsg.bulk",
    "Client": "healthmsg.client",
    "Environment": "healthmsg.environment",
    "UploadFile": "healthmsg.files",
    "exact_aux_id": "healthmsg.identifiers",
    "fold_aux_id": "healthmsg.identifiers",
    "Attachment": "healthmsg.models",
    "ConversationInfo": "healthmsg.models",
    "GroupChatInfo": "healthmsg.models",
    "Member": "healthmsg.models",
    "Message": "healthmsg.models",
    "Outcome": "healthmsg.models",
    "SentMessage": "healthmsg.models",
    "User": "healthmsg.models",
    "Pager": "healthmsg.paging",
    "Response": "healthmsg.pipeline.exchange",
    "RateLimit": "healthmsg.pipeline.limit",
    "CallRecord": "healthmsg.pipeline.record",
    "Retries": "healthmsg.pipeline.retry",
    "Timeout": "healthmsg.pipeline.wire",
    "Chat": "healthmsg.resources.chats",
    "GroupChat": "healthmsg.resources.chats",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES.get(name, "healthmsg.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
