"""Sending many messages."""

from healthmsg.bulk.messages import Outgoing, SendResult
from healthmsg.bulk.sender import SendMany

__all__ = ["Outgoing", "SendMany", "SendResult"]
