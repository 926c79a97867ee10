# What is public, for type checkers. `python -m tests.test_public_names` writes it.

from healthmsg.auth.encryption import TokenCipher as TokenCipher
from healthmsg.auth.manager import TokenManager as TokenManager
from healthmsg.auth.oauth import AuthorizationRequest as AuthorizationRequest
from healthmsg.auth.oauth import OAuthApp as OAuthApp
from healthmsg.auth.redis_store import RedisTokenStore as RedisTokenStore
from healthmsg.auth.sql_store import SQLTokenStore as SQLTokenStore
from healthmsg.auth.stores import FileTokenStore as FileTokenStore
from healthmsg.auth.stores import LockingTokenStore as LockingTokenStore
from healthmsg.auth.stores import MemoryTokenStore as MemoryTokenStore
from healthmsg.auth.stores import TokenStore as TokenStore
from healthmsg.auth.token import Token as Token
from healthmsg.bulk import JournalMessage as JournalMessage
from healthmsg.bulk import JournalReview as JournalReview
from healthmsg.bulk import Outgoing as Outgoing
from healthmsg.bulk import Preview as Preview
from healthmsg.bulk import PreviewReport as PreviewReport
from healthmsg.bulk import Problem as Problem
from healthmsg.bulk import ProblemKind as ProblemKind
from healthmsg.bulk import Reconciled as Reconciled
from healthmsg.bulk import SendMany as SendMany
from healthmsg.bulk import SendReport as SendReport
from healthmsg.bulk import SendResult as SendResult
from healthmsg.bulk import Upload as Upload
from healthmsg.bulk import UploadMany as UploadMany
from healthmsg.bulk import UploadResult as UploadResult
from healthmsg.bulk.campaigns import CampaignCounts as CampaignCounts
from healthmsg.bulk.campaigns import CampaignInfo as CampaignInfo
from healthmsg.bulk.campaigns import CampaignJournal as CampaignJournal
from healthmsg.bulk.campaigns import Campaigns as Campaigns
from healthmsg.bulk.campaigns import CampaignState as CampaignState
from healthmsg.bulk.campaigns import EntryReport as EntryReport
from healthmsg.bulk.campaigns import Workforce as Workforce
from healthmsg.bulk.campaigns import open_campaigns as open_campaigns
from healthmsg.bulk.campaigns import open_journal as open_journal
from healthmsg.client import Client as Client
from healthmsg.delivery.proof import Attempt as Attempt
from healthmsg.downloads.attachments import DownloadAll as DownloadAll
from healthmsg.downloads.attachments import DownloadResult as DownloadResult
from healthmsg.downloads.download import FileStream as FileStream
from healthmsg.downloads.export import Export as Export
from healthmsg.environment import Environment as Environment
from healthmsg.errors import CallError as CallError
from healthmsg.errors import CallTimeoutError as CallTimeoutError
from healthmsg.errors import ConfigurationError as ConfigurationError
from healthmsg.errors import ConnectError as ConnectError
from healthmsg.errors import DeliveryUnknownError as DeliveryUnknownError
from healthmsg.errors import ForbiddenError as ForbiddenError
from healthmsg.errors import HealthmsgError as HealthmsgError
from healthmsg.errors import InvalidInputError as InvalidInputError
from healthmsg.errors import JournalError as JournalError
from healthmsg.errors import NotFoundError as NotFoundError
from healthmsg.errors import QuotaExceededError as QuotaExceededError
from healthmsg.errors import RateLimitedError as RateLimitedError
from healthmsg.errors import ReauthorizationRequiredError as ReauthorizationRequiredError
from healthmsg.errors import UnauthorizedError as UnauthorizedError
from healthmsg.events import ChatEvent as ChatEvent
from healthmsg.events import ConversationStarted as ConversationStarted
from healthmsg.events import Event as Event
from healthmsg.events import GroupChatClosed as GroupChatClosed
from healthmsg.events import GroupChatCreated as GroupChatCreated
from healthmsg.events import GroupChatRemoved as GroupChatRemoved
from healthmsg.events import MembersAdded as MembersAdded
from healthmsg.events import MembersRemoved as MembersRemoved
from healthmsg.events import MessageCreated as MessageCreated
from healthmsg.events import MessageDeleted as MessageDeleted
from healthmsg.events import MessageLiked as MessageLiked
from healthmsg.events import PresenceChanged as PresenceChanged
from healthmsg.events import QuestionAnswered as QuestionAnswered
from healthmsg.events import TimerDue as TimerDue
from healthmsg.events import TypingStarted as TypingStarted
from healthmsg.events import TypingStopped as TypingStopped
from healthmsg.events import UnknownEvent as UnknownEvent
from healthmsg.events import VerificationAccepted as VerificationAccepted
from healthmsg.events import VerificationRejected as VerificationRejected
from healthmsg.events import event_from_dict as event_from_dict
from healthmsg.files import UploadFile as UploadFile
from healthmsg.fleet.limit import SharedLimit as SharedLimit
from healthmsg.gateway.stream import Events as Events
from healthmsg.gateway.stream import EventsState as EventsState
from healthmsg.ids import ChatAddress as ChatAddress
from healthmsg.ids import exact_aux_id as exact_aux_id
from healthmsg.ids import fold_aux_id as fold_aux_id
from healthmsg.live import EventsStats as EventsStats
from healthmsg.models import Attachment as Attachment
from healthmsg.models import CompanyInfo as CompanyInfo
from healthmsg.models import ConversationInfo as ConversationInfo
from healthmsg.models import GroupChatInfo as GroupChatInfo
from healthmsg.models import GroupInvite as GroupInvite
from healthmsg.models import GroupSettings as GroupSettings
from healthmsg.models import IdentityProvider as IdentityProvider
from healthmsg.models import ImportUser as ImportUser
from healthmsg.models import Member as Member
from healthmsg.models import Message as Message
from healthmsg.models import Option as Option
from healthmsg.models import Outcome as Outcome
from healthmsg.models import Payload as Payload
from healthmsg.models import Question as Question
from healthmsg.models import QuestionAnswer as QuestionAnswer
from healthmsg.models import QuestionOption as QuestionOption
from healthmsg.models import QuestionPayload as QuestionPayload
from healthmsg.models import Quota as Quota
from healthmsg.models import SentMessage as SentMessage
from healthmsg.models import User as User
from healthmsg.models import Verification as Verification
from healthmsg.models import VerificationPayload as VerificationPayload
from healthmsg.paging import Pager as Pager
from healthmsg.pipeline.record import CallRecord as CallRecord
from healthmsg.pipeline.record import Stats as Stats
from healthmsg.pipeline.request import Response as Response
from healthmsg.pipeline.retry import Retries as Retries
from healthmsg.ratelimit.limiter import Limiter as Limiter
from healthmsg.ratelimit.limiter import RateLimit as RateLimit
from healthmsg.ratelimit.window import LimitStats as LimitStats
from healthmsg.resources.chat import Chat as Chat
from healthmsg.resources.group_chat import GroupChat as GroupChat
from healthmsg.resources.users import UserHandle as UserHandle
from healthmsg.transfer import Progress as Progress
from healthmsg.transport.timeouts import Timeout as Timeout
from healthmsg.version import __version__ as __version__
from healthmsg.worker import Worker as Worker
from healthmsg.worker import WorkerStats as WorkerStats

__all__ = [
    "Attachment",
    "Attempt",
    "AuthorizationRequest",
    "CallError",
    "CallRecord",
    "CallTimeoutError",
    "CampaignCounts",
    "CampaignInfo",
    "CampaignJournal",
    "CampaignState",
    "Campaigns",
    "Chat",
    "ChatAddress",
    "ChatEvent",
    "Client",
    "CompanyInfo",
    "ConfigurationError",
    "ConnectError",
    "ConversationInfo",
    "ConversationStarted",
    "DeliveryUnknownError",
    "DownloadAll",
    "DownloadResult",
    "EntryReport",
    "Environment",
    "Event",
    "Events",
    "EventsState",
    "EventsStats",
    "Export",
    "FileStream",
    "FileTokenStore",
    "ForbiddenError",
    "GroupChat",
    "GroupChatClosed",
    "GroupChatCreated",
    "GroupChatInfo",
    "GroupChatRemoved",
    "GroupInvite",
    "GroupSettings",
    "HealthmsgError",
    "IdentityProvider",
    "ImportUser",
    "InvalidInputError",
    "JournalError",
    "JournalMessage",
    "JournalReview",
    "LimitStats",
    "Limiter",
    "LockingTokenStore",
    "Member",
    "MembersAdded",
    "MembersRemoved",
    "MemoryTokenStore",
    "Message",
    "MessageCreated",
    "MessageDeleted",
    "MessageLiked",
    "NotFoundError",
    "OAuthApp",
    "Option",
    "Outcome",
    "Outgoing",
    "Pager",
    "Payload",
    "PresenceChanged",
    "Preview",
    "PreviewReport",
    "Problem",
    "ProblemKind",
    "Progress",
    "Question",
    "QuestionAnswer",
    "QuestionAnswered",
    "QuestionOption",
    "QuestionPayload",
    "Quota",
    "QuotaExceededError",
    "RateLimit",
    "RateLimitedError",
    "ReauthorizationRequiredError",
    "Reconciled",
    "Response",
    "Retries",
    "SendMany",
    "SendReport",
    "SendResult",
    "SentMessage",
    "SharedLimit",
    "Stats",
    "Timeout",
    "TimerDue",
    "Token",
    "TokenManager",
    "TokenStore",
    "TypingStarted",
    "TypingStopped",
    "UnauthorizedError",
    "UnknownEvent",
    "Upload",
    "UploadFile",
    "UploadMany",
    "UploadResult",
    "User",
    "UserHandle",
    "Verification",
    "VerificationAccepted",
    "VerificationPayload",
    "VerificationRejected",
    "Worker",
    "WorkerStats",
    "Workforce",
    "__version__",
    "event_from_dict",
    "exact_aux_id",
    "fold_aux_id",
    "open_campaigns",
    "open_journal",
]
