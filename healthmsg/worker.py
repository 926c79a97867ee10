"""A worker: sends what campaigns are in a journal, until it is stopped."""

from attrs import frozen

from healthmsg.bulk.models import JournalTarget
from healthmsg.client import Client
from healthmsg.codec import Model


@frozen
class WorkerStats(Model):
    """What a worker has done since it began, and what there is to do."""

    delivered: int = 0
    not_sent: int = 0
    unknown: int = 0
    attempts: int = 0
    """Calls that were made to send them."""
    claimed: int = 0
    """Messages that it holds just now; those whose call is being made are among them."""
    under_way: int = 0
    """Messages whose call is being made just now."""
    in_doubt: int = 0
    """Messages of which it finds out just now whether they were delivered."""
    waiting: int = 0
    """Messages of running campaigns that no worker has begun, over the whole journal; some seconds old."""


class Worker:
    """Sends what campaigns are in a journal, until it is stopped. There can be any number of them."""

    def __init__(self, client: Client, journal: JournalTarget, *, settle: float = 90.0) -> None:
        raise NotImplementedError

    async def run(self) -> None:
        """Send until `stop` is called, then finish what is under way.

        Raises:
            JournalError: the journal cannot be used.
            SendingGivenUpError: the token is not accepted, and no other can come.
        """
        raise NotImplementedError

    def stop(self) -> None:
        """Begin nothing more: `run` returns when what is under way has come to its end."""
        raise NotImplementedError

    def stats(self) -> WorkerStats:
        """Return its figures."""
        raise NotImplementedError

    @property
    def is_ready(self) -> bool:
        """Whether it is sending, or would if there were something to send."""
        raise NotImplementedError

    @property
    def problem(self) -> Exception | None:
        """Why it sends nothing just now; `None` if nothing is wrong."""
        raise NotImplementedError
