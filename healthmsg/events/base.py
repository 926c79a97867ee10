from datetime import datetime
from typing import ClassVar
from attrs import field, frozen
from healthmsg.codec import Model
from healthmsg.ids import ChatAddress

@frozen(kw_only=True)
class Event(Model):
    kind: ClassVar[str] = "unknown"
    durable: ClassVar[bool] = True
    id: str
    received_at: datetime
    is_own: bool = False
    caught_up: bool = False
    attempt: int = 1
    extra: dict[str, object] = field(factory=dict, repr=False, eq=False)

@frozen(kw_only=True)
class ChatEvent(Event):
    chat: ChatAddress
