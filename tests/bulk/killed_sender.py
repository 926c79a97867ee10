"""A program that sends 400 messages with a journal, for the tests that kill it or suspend it.

Arguments: the API's URL, the journal, the seconds to settle, the file for the results. The token is in the
environment, and `LIMIT` may be. It ends with 0 if everything was delivered, or is not known to be.
"""

import asyncio
import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Final

from healthmsg import Client, Environment, Outcome, Outgoing, RateLimit
from healthmsg.bulk.journal import open_journal
from tests.bulk.sleeping_loop import SLEEPS, SleepingLoop

CHATS: Final = 40
IN_EACH: Final = 10
EQUAL: Final = 'Tot "morgen" & groet \U0001f44d van de ﬁetsploeg en cafe\u0301!'
WITH_FILE: Final = 5
FILE_NAME: Final = "foto (1) cafe\u0301.txt"
# The default of a minute would be waited for after each kill, where other workers could be sending.
LEASE: Final = timedelta(seconds=3)
LIMIT: Final = "HEALTHMSG_TEST_LIMIT"
"""The environment variable that has a sender keep 30 calls a second as any client does, and not 1,000."""


def address(chat: int) -> str:
    return f"aux/conversations/patient {chat}"


def key(chat: int, number: int) -> str:
    return f"{chat}/{number}"


def text(chat: int, number: int) -> str:
    """Some are equal to each other, in succession and apart, and to what the chat has held before."""
    return EQUAL if number in {2, 3, 7} else f"Bericht {number} voor {chat}: {EQUAL}"


def messages(file: Path) -> list[Outgoing]:
    return [
        Outgoing(address(chat), text(chat, number), [file] if number == WITH_FILE else (), key(chat, number))
        for number in range(IN_EACH)
        for chat in range(CHATS)
    ]


async def send(url: str, journal: str, settle: float, results: str) -> bool:
    is_well = True
    file_to_send = Path(results).parent / FILE_NAME
    if not file_to_send.exists():
        file_to_send.write_text("Een foto")
    async with Client(
        os.environ["HEALTHMSG_TOKEN"],
        environment=Environment("sandbox", url),
        rate_limit=None if LIMIT in os.environ else RateLimit(calls=1000),
    ) as client:
        # Buffered by line: what was written when it is killed is whole lines, but for the last.
        with open(results, "w", buffering=1, encoding="utf-8") as file:  # noqa: ASYNC230, PTH123 - a few bytes
            async for result in client.send_many(messages(file_to_send), journal=journal, settle=settle):
                file.write(json.dumps([result.key, result.outcome.name, result.message_id]) + "\n")
                if result.outcome is not Outcome.DELIVERED:
                    is_well &= result.outcome is Outcome.UNKNOWN
                    sys.stderr.write(f"{result.key} {result.outcome.name} {result.error!r}\n")
    return is_well


def main() -> None:
    url, journal, settle, results = sys.argv[1:]
    assert open_journal.__kwdefaults__ is not None
    open_journal.__kwdefaults__["lease"] = LEASE
    with asyncio.Runner(loop_factory=SleepingLoop if SLEEPS in os.environ else None) as runner:
        sys.exit(0 if runner.run(send(url, journal, float(settle), results)) else 1)


if __name__ == "__main__":
    main()
