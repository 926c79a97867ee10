"""How fast 600 calls go, and how many of them a server would refuse.

Each client makes 600 calls to a server in another process that notes when each arrives. Four ways of counting
"30 calls a second" then judge the same arrivals: fixed window, sliding window, token bucket and spike arrest
(no two calls closer than 1/30 s, less 5 ms). `calls/s` are those that were let in; `bound` is what the rule
"a slot comes back a second after its call must have arrived" can reach on that path at best.
"""

import argparse
import asyncio
import time

import aiohttp
from attrs import frozen
from counting_server import POLICIES, Service, counting_server
from limited_clients import CLIENTS, Load

from healthmsg.sandbox.limits import count_rejections, most_in_any_period


@frozen
class Row:
    """A path, and what is asked of the clients on it."""

    bound: float = 30.0
    """Calls a second: 30 slots, each held for a second and the mean of what the call may be under way."""
    service: Service = Service()
    waiting: int | None = None
    upload_every: int | None = None
    only: tuple[str, ...] = ()
    """The clients for which it is made; else all but `one at a time`."""


JITTER = (0.005, 0.080)
ROWS = {
    "quiet": Row(),
    # 42.5 ms on average; a call that is answered within 100 ms has arrived by then.
    "jitter": Row(30 / 1.0425, Service(*JITTER)),
    # The mean of two such ways, or of 100 ms where they take longer.
    "jitter both ways": Row(30 / 1.0786, Service(*JITTER, jitter_back=True)),
    # Four fifths of a steady round trip are taken for the way back.
    "answers 0.2 s": Row(30 / 1.04, Service(answer=0.2)),
    "answers 0.3 s": Row(30 / 1.06, Service(answer=0.3)),
    "answers 3 s": Row(30 / 1.1, Service(answer=3.0)),
    # 25 of 600 calls have two slots.
    "uploads": Row(30 * 600 / 625, Service(bytes_per_second=1_000_000), upload_every=20),
    "1 waiting": Row(waiting=1),
    "1000 waiting": Row(waiting=1_000),
    "100000 waiting": Row(waiting=100_000),
    "sliding enforced": Row(service=Service(enforces="sliding")),
    "spike enforced": Row(
        service=Service(*JITTER, enforces="spike"), only=("healthmsg", "one at a time", "openai-style retry")
    ),
}


async def arrivals_of(url: str) -> tuple[list[float], list[float]]:
    """Ask the server when the calls arrived: all of them, and those that were let in."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/arrivals") as answer:
        arrived, let_in = await answer.json()
        return arrived, let_in


def measure(client: str, name: str, calls: int) -> str:
    """Make a line of the table."""
    row = ROWS[name]
    with counting_server(row.service) as url:
        delivered = asyncio.run(CLIENTS[client](url, Load(calls, row.waiting, row.upload_every)))
        arrived, let_in = asyncio.run(arrivals_of(url))
    arrived, let_in = arrived[:calls] if row.waiting else arrived, let_in[:calls]
    rate = (len(let_in) - 1) / (let_in[-1] - let_in[0])
    if row.service.enforces:
        refused = f"{len(arrived) - len(let_in):>8} 429s in fact{'':11}"
    else:
        refused = "".join(f"{count_rejections(policy(), arrived):8}" for policy in POLICIES.values())
    most = most_in_any_period(arrived)
    return f"{client:22}{name:17}{row.bound:7.2f}{rate:9.2f}{refused}{calls - delivered:7}{most:12}"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=600)
    parser.add_argument("--client", action="append", choices=CLIENTS, help="all unless given")
    parser.add_argument("--row", action="append", choices=ROWS, help="all unless given")
    options = parser.parse_args()
    print(
        f"{'':22}{'path':17}{'bound':>7}{'calls/s':>9}" + "".join(f"{name:>8}" for name in POLICIES), end=""
    )
    print(f"{'lost':>7}{'most in 1 s':>12}", flush=True)
    for name in options.row or ROWS:
        for client in CLIENTS:
            chosen = ROWS[name].only or [each for each in CLIENTS if each != "one at a time"]
            if client in chosen and client in (options.client or CLIENTS):
                print(measure(client, name, options.calls), flush=True)
    print(f"({time.strftime('%Y-%m-%d')}, {options.calls} calls a row)")


if __name__ == "__main__":
    main()
