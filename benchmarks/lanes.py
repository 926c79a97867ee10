"""How long a person's call waits for its turn while a bulk run and 64 slow uploads are on.

Interactive calls come at random moments, the first second included: once with nothing else going on, and
once while `send_many` sends as fast as the limit allows, its first 64 messages with a file that takes five
seconds.
"""

import argparse
import asyncio
import logging
import random
import statistics
from collections.abc import Iterator
from itertools import count

import aiohttp
from counting_server import Service, counting_server
from sockets_with_small_buffers import connector

from healthmsg import CallRecord, Client, Environment, Outgoing, UploadFile

UPLOADS = 64
BYTES_PER_SECOND = 400_000
FILE = bytes(5 * BYTES_PER_SECOND)
INTERACTIVE = "GET me"


def messages() -> Iterator[Outgoing]:
    """Give messages without end, the first of them with files."""
    for number in count():
        files = (UploadFile(FILE, "scan.png"),) if number < UPLOADS else ()
        yield Outgoing(f"conversations/c{number}", "Hallo", files=files)


async def send_bulk(client: Client) -> None:
    """Send until cancelled."""
    async for _ in client.send_many(messages()):
        pass


async def records_of(url: str, moments: list[float], *, with_bulk: bool) -> list[CallRecord]:
    """Make an interactive call at each of these moments, and give the records of all calls."""
    records: list[CallRecord] = []
    async with (
        aiohttp.ClientSession(connector=connector()) as session,
        Client(
            "benchmark",
            environment=Environment("benchmark", f"{url}/v1"),
            session=session,
            on_call=records.append,
        ) as client,
    ):
        bulk = asyncio.create_task(send_bulk(client)) if with_bulk else None

        async def call_at(moment: float) -> None:
            await asyncio.sleep(moment)
            await client.me.get()

        await asyncio.gather(*map(call_at, moments))
        if bulk is not None:
            bulk.cancel()
            await asyncio.wait([bulk])
    return records


def waits_of(records: list[CallRecord]) -> list[float]:
    """Give how long the interactive calls waited, in milliseconds."""
    return [record.waited * 1000 for record in records if record.call == INTERACTIVE]


def line(name: str, records: list[CallRecord], seconds: float) -> tuple[str, float]:
    """Describe the waits, and give the p99."""
    waits = waits_of(records)
    p99 = statistics.quantiles(waits, n=100)[98]
    others = (len(records) - len(waits)) / seconds
    figures = (
        f"{len(waits):12}{statistics.median(waits):11.1f} ms{p99:8.1f} ms{max(waits):8.1f} ms{others:14.1f}"
    )
    return f"{name:22}{figures}", p99


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=330, help="interactive ones")
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    logging.getLogger("healthmsg").setLevel(logging.ERROR)  # the end of the bulk run is no news
    moments = [random.uniform(0, options.seconds) for _ in range(options.calls)]
    print(f"{'':22}{'interactive':>12}{'median':>14}{'p99':>11}{'longest':>11}{'others a second':>18}")
    p99s = []
    for name, with_bulk in {"nothing else": False, "bulk and 64 uploads": True}.items():
        with counting_server(Service(bytes_per_second=BYTES_PER_SECOND)) as url:
            records = asyncio.run(records_of(url, moments, with_bulk=with_bulk))
        text, p99 = line(name, records, options.seconds)
        p99s.append(p99)
        print(text, flush=True)
    print(f"p99 beyond an idle limiter: {p99s[1] - p99s[0]:.1f} ms")


if __name__ == "__main__":
    main()
