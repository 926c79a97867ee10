"""A way for token calls when there is no client yet."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from healthmsg.network import Network
from healthmsg.pipeline import fold
from healthmsg.pipeline.check import CheckStep
from healthmsg.pipeline.exchange import Send
from healthmsg.pipeline.limit import Limiter, LimitStep, RateLimit
from healthmsg.pipeline.retry import Retries
from healthmsg.pipeline.timeout import Timeout
from healthmsg.pipeline.wire import Wire


@asynccontextmanager
async def token_calls(network: Network) -> AsyncIterator[Send]:
    """Open a connection for token calls, limit → check → wire, and close it afterwards."""
    wire = Wire("", timeout=Timeout(), network=network)
    try:
        yield fold([LimitStep(Limiter(RateLimit()), longest_pause=Retries().max_wait), CheckStep()], wire)
    finally:
        await wire.close()
