"""Bots: handlers, replies that go out once, dialogs and timers that survive the process."""

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

__all__ = [
    "Answer",
    "BotChat",
    "CallNext",
    "Filter",
    "Help",
    "IncomingMessage",
    "NotVerified",
    "Retry",
    "Router",
    "Verified",
    "command",
    "from_user",
    "has_files",
    "in_conversation",
    "in_group",
    "mentioned",
    "text",
]
