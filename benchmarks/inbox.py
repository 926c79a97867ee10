"""What an inbox on a disk costs for each event, in CPU, in groups of 1, 10 and 100.

`apart`: a group is written, then the next is taken and the last one noted as done: two transactions.
`together`: both are asked for at once, and share one. `with chats`: each event brings the record of its own
chat, with an anchor of 20 ids; ids are as random as the service's.

    python benchmarks/inbox.py [STORE]
"""

import asyncio
import random
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import process_time
from typing import Final
from uuid import UUID

from healthmsg.events import Event, event_of_frame
from healthmsg.gateway.inbox import Change, ChatRecord, Inbox, open_inbox

NOW: Final = datetime(2026, 1, 2, 12, tzinfo=UTC)
CHATS: Final = 5_000
EVENTS: Final = 2_000
ROUNDS: Final = 3
_draw: Final = random.Random(16)


def new_id() -> str:
    """Return an id as the service makes them."""
    return str(UUID(int=_draw.getrandbits(128)))


CHAT_IDS: Final = [new_id() for _ in range(CHATS)]


def change(*, with_chat: bool) -> Change:
    """Return what a message brings."""
    data = {
        "type": "user",
        "body": "Beste mevrouw Jansen, uw afspraak is verzet naar dinsdag 3 maart om 14:30 uur.",
        "user_id": CHAT_IDS[0],
        "conversation_id": _draw.choice(CHAT_IDS),
        "message_id": new_id(),
    }
    event = event_of_frame("conversation_new_message", data, me="u-me", now=NOW)
    if not isinstance(event, Event):
        raise SystemExit("the frame could not be read")
    if not with_chat:
        return Change(None, (event,))
    key = f"conversations/{data['conversation_id']}"
    return Change(ChatRecord(key, tuple(new_id() for _ in range(20)), NOW), (event,))


async def go(inbox: Inbox, groups: Sequence[Sequence[Change]], *, together: bool) -> float:
    """Return the CPU of an event in µs."""
    done: list[str] = []
    began = process_time()
    for group in groups:
        if together:
            _, events = await asyncio.gather(inbox.apply(group), inbox.next(len(group), done))
        else:
            await inbox.apply(group)
            events = await inbox.next(len(group), done)
        done = [event.id for event in events]
    used = process_time() - began
    await inbox.next(0, done)
    return used / sum(map(len, groups)) * 1e6


async def main(store: str) -> None:
    """Measure and print."""
    print("µs of CPU an event      groups of 1      10     100")
    async with open_inbox(store) as inbox:
        await inbox.hold()
        await inbox.start("u-me", "https://api.example/v1", NOW)
        for together in (False, True):
            for with_chat in (False, True):
                costs = []
                for size in (1, 10, 100):
                    best = float("inf")
                    for _ in range(ROUNDS):
                        groups = [
                            [change(with_chat=with_chat) for _ in range(size)]
                            for _ in range(max(10, min(EVENTS // size, 300)))
                        ]
                        best = min(best, await go(inbox, groups, together=together))
                    costs.append(f"{best:8.0f}")
                label = f"{'together' if together else 'apart'}{', with chats' if with_chat else ''}"
                print(f"{label:26} {''.join(costs)}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(main(str(Path(folder, "inbox.db"))))
