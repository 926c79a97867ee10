"""Bots: handlers, replies that go out once, dialogs and timers that survive the process."""

from healthmsg.bot.bot import Bot
from healthmsg.bot.dialogs.dialog import Dialog
from healthmsg.bot.dialogs.exits import HandedOver, NoAnswer, Stopped, TooManyTries
from healthmsg.bot.dialogs.handlers import Dialogs
from healthmsg.bot.dialogs.questions import (
    AskAllQuestion,
    Choice,
    ChoiceQuestion,
    ChoicesQuestion,
    ConfirmQuestion,
    DateQuestion,
    EmailQuestion,
    Files,
    FilesQuestion,
    MentionQuestion,
    NumberQuestion,
    PhoneQuestion,
    TextQuestion,
    Texts,
    VerificationQuestion,
    VerificationResult,
)
from healthmsg.bot.dialogs.registration import RegisteredDialog
from healthmsg.bot.filters import (
    Filter,
    command,
    from_user,
    has_files,
    in_conversation,
    in_group,
    mentioned,
    text,
)
from healthmsg.bot.helping import Help
from healthmsg.bot.incoming import Answer, BotChat, IncomingMessage, NotVerified, Verified
from healthmsg.bot.retrying import Retry
from healthmsg.bot.router import CallNext, Router
from healthmsg.bot.schedule import EVERY_DAY, WORKDAYS, at, every
from healthmsg.bot.surface import BotStats, DialogRequest, Handled
from healthmsg.events import TimerDue

__all__ = [
    "EVERY_DAY",
    "WORKDAYS",
    "Answer",
    "AskAllQuestion",
    "Bot",
    "BotChat",
    "BotStats",
    "CallNext",
    "Choice",
    "ChoiceQuestion",
    "ChoicesQuestion",
    "ConfirmQuestion",
    "DateQuestion",
    "Dialog",
    "DialogRequest",
    "Dialogs",
    "EmailQuestion",
    "Files",
    "FilesQuestion",
    "Filter",
    "HandedOver",
    "Handled",
    "Help",
    "IncomingMessage",
    "MentionQuestion",
    "NoAnswer",
    "NotVerified",
    "NumberQuestion",
    "PhoneQuestion",
    "RegisteredDialog",
    "Retry",
    "Router",
    "Stopped",
    "TextQuestion",
    "Texts",
    "TimerDue",
    "TooManyTries",
    "VerificationQuestion",
    "VerificationResult",
    "Verified",
    "at",
    "command",
    "every",
    "from_user",
    "has_files",
    "in_conversation",
    "in_group",
    "mentioned",
    "text",
]
