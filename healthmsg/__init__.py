"""Asyncio client for the KPN Healthcare Messenger API.

Everything public is in this package or in `healthmsg.errors`, and is imported when it is first used.
"""

from importlib import import_module

# The one list of what is public here: each name, at its home. `python -m tests.test_public_names` writes the
# same list to `__init__.pyi`, for type checkers.
_NAMES = {
    "healthmsg.auth.encryption": "TokenCipher",
    "healthmsg.auth.manager": "TokenManager",
    "healthmsg.auth.oauth": "AuthorizationRequest OAuthApp",
    "healthmsg.auth.redis_store": "RedisTokenStore",
    "healthmsg.auth.sql_store": "SQLTokenStore",
    "healthmsg.auth.stores": "FileTokenStore LockingTokenStore MemoryTokenStore TokenStore",
    "healthmsg.auth.token": "Token",
    "healthmsg.bulk": "JournalMessage JournalReview Outgoing Preview PreviewReport Problem ProblemKind"
    " Reconciled SendMany SendReport SendResult Upload UploadMany UploadResult",
    "healthmsg.bulk.campaigns": "CampaignCounts CampaignInfo CampaignJournal CampaignState Campaigns"
    " EntryReport Workforce open_campaigns open_journal",
    "healthmsg.client": "Client",
    "healthmsg.delivery.proof": "Attempt",
    "healthmsg.downloads.attachments": "DownloadAll DownloadResult",
    "healthmsg.downloads.download": "FileStream",
    "healthmsg.downloads.export": "Export",
    "healthmsg.environment": "Environment",
    # Those that programs catch; all others are in healthmsg.errors alone.
    "healthmsg.errors": "CallError CallTimeoutError ConfigurationError ConnectError DeliveryUnknownError"
    " ForbiddenError HealthmsgError InvalidInputError JournalError NotFoundError QuotaExceededError"
    " RateLimitedError ReauthorizationRequiredError UnauthorizedError",
    "healthmsg.events": "ChatEvent ConversationStarted Event GroupChatClosed GroupChatCreated"
    " GroupChatRemoved MembersAdded MembersRemoved MessageCreated MessageDeleted MessageLiked PresenceChanged"
    " QuestionAnswered TimerDue TypingStarted TypingStopped UnknownEvent VerificationAccepted"
    " VerificationRejected event_from_dict",
    "healthmsg.files": "UploadFile",
    "healthmsg.fleet.limit": "SharedLimit",
    "healthmsg.gateway.stream": "Events EventsState",
    "healthmsg.ids": "ChatAddress exact_aux_id fold_aux_id",
    "healthmsg.live": "EventsStats",
    "healthmsg.models": "Attachment CompanyInfo ConversationInfo GroupChatInfo GroupInvite GroupSettings"
    " IdentityProvider ImportUser Member Message Option Outcome Payload Question QuestionAnswer"
    " QuestionOption QuestionPayload Quota SentMessage User Verification VerificationPayload",
    "healthmsg.paging": "Pager",
    "healthmsg.pipeline.record": "CallRecord Stats",
    "healthmsg.pipeline.request": "Response",
    "healthmsg.pipeline.retry": "Retries",
    "healthmsg.ratelimit.limiter": "Limiter RateLimit",
    "healthmsg.ratelimit.window": "LimitStats",
    "healthmsg.resources.chat": "Chat",
    "healthmsg.resources.group_chat": "GroupChat",
    "healthmsg.resources.users": "UserHandle",
    "healthmsg.transfer": "Progress",
    "healthmsg.transport.timeouts": "Timeout",
    "healthmsg.version": "__version__",
    "healthmsg.worker": "Worker WorkerStats",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}

# These need an extra as soon as they are loaded, and so are not what `import *` brings.
_OF_EXTRAS = {"RedisTokenStore", "SQLTokenStore", "TokenCipher"}

__all__ = sorted(_HOMES.keys() - _OF_EXTRAS)  # noqa: PLE0605 - type checkers read the stub


def __getattr__(name: str) -> object:
    if name == "errors":
        return import_module("healthmsg.errors")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_HOMES)
