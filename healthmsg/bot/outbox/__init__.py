"""The outbox of a bot: each reply has a key, and is sent exactly once, however often it is asked for."""

from healthmsg.bot.outbox.outbox import Outbox, OutboxMessage

__all__ = ["Outbox", "OutboxMessage"]
