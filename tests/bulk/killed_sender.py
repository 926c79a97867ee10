"""A program that sends 400 messages with a journal, for the tests that kill it or suspend it.

Arguments: the API's URL, the journal, the seconds to settle, the file for the results. The token is in the
environment. It ends with 0 if everything was delivered.
"""

import asyncio
import json
import os
import sys
from datetime import timedelta
from typing import Final

from sleeping_loop import SLEEPS, SleepingLoop

from healthmsg import Client, Environment, Outcome, Outgoing, RateLimit
from healthmsg.bulk.journal import Journal

CHATS: Final = 40
IN_EACH: Final = 10
EQUAL: Final = "Tot morgen!"
# The default of a minute would be waited for after each kill, where other workers could be sending.
LEASE: Final = timedelta(seconds=3)


def address(chat: int) -> str:
    return f"aux/conversations/patient {chat}"


def key(chat: int, number: int) -> str:
    return f"{chat}/{number}"


def text(chat: int, number: int) -> str:
    """Some are equal to each other, in succession and apart, and to what the chat has held before."""
    return EQUAL if number in {2, 3, 7} else f"Bericht {number} voor {chat}"


def messages() -> list[Outgoing]:
    return [
        Outgoing(address(chat), text(chat, number), key=key(chat, number))
        for number in range(IN_EACH)
        for chat in range(CHATS)
    ]


async def send(url: str, journal: str, settle: float, results: str) -> bool:
    is_all_delivered = True
    async with Client(
        os.environ["HEALTHMSG_TOKEN"],
        environment=Environment("sandbox", url),
        rate_limit=RateLimit(calls=1000),
    ) as client:
        # Buffered by line: what was written when it is killed is whole lines, but for the last.
        with open(results, "w", buffering=1, encoding="utf-8") as file:  # noqa: ASYNC230, PTH123 - a few bytes
            async for result in client.send_many(messages(), journal=journal, settle=settle):
                file.write(json.dumps([result.key, result.outcome.name, result.message_id]) + "\n")
                if result.outcome is not Outcome.DELIVERED:
                    is_all_delivered = False
                    sys.stderr.write(f"{result.key} {result.outcome.name} {result.error!r}\n")
    return is_all_delivered


def main() -> None:
    url, journal, settle, results = sys.argv[1:]
    Journal.open.__func__.__kwdefaults__["lease"] = LEASE  # type: ignore[attr-defined] # a classmethod has it
    with asyncio.Runner(loop_factory=SleepingLoop if SLEEPS in os.environ else None) as runner:
        sys.exit(0 if runner.run(send(url, journal, float(settle), results)) else 1)


if __name__ == "__main__":
    main()
