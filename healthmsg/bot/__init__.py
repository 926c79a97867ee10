"""Bots: handlers, replies that go out once, dialogs and timers that survive the process."""

from healthmsg.bot.dialogs.dialog import Dialog
from healthmsg.bot.dialogs.exits import HandedOver, NoAnswer, Stopped, TooManyTries
from healthmsg.bot.dialogs.handlers import Dialogs
from healthmsg.bot.dialogs.questions.choices import Choice, ChoiceQuestion, ChoicesQuestion
from healthmsg.bot.dialogs.questions.confirm import ConfirmQuestion
from healthmsg.bot.dialogs.questions.texts import Texts
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

__all__ = [
    "EVERY_DAY",
    "WORKDAYS",
    "Answer",
    "BotChat",
    "CallNext",
    "Choice",
    "ChoiceQuestion",
    "ChoicesQuestion",
    "ConfirmQuestion",
    "Dialog",
    "Dialogs",
    "Filter",
    "HandedOver",
    "Help",
    "IncomingMessage",
    "NoAnswer",
    "NotVerified",
    "Retry",
    "Router",
    "Stopped",
    "Texts",
    "TooManyTries",
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
