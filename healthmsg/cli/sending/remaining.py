"""What a run that has ended has left."""

from attrs import frozen

from healthmsg.bulk.journal import State, open_journal
from healthmsg.cli.sending.job import Job
from healthmsg.errors import HealthmsgError


@frozen
class Remaining:
    """How many messages have no result."""

    to_send: int = 0
    """Certainly not sent, and still to be."""
    in_doubt: int = 0
    """May have been sent: the next run with the journal finds out."""
    without_result: int = 0
    """Some of these may have been sent, and there is no journal that says which."""

    def __str__(self) -> str:
        figures = (
            (self.to_send, "still to send"),
            (self.in_doubt, "in doubt"),
            (self.without_result, "without a result"),
        )
        return "".join(f" · {name} {count:,}" for count, name in figures if count)


async def find_remaining(job: Job, count: int, unknown: int, *, is_abandoned: bool) -> Remaining:
    """Find out about those without a result.

    `unknown` is how many have the result that nothing is known; `is_abandoned`: what was under way was not
    waited for.
    """
    if count <= 0:
        return Remaining()
    certain = Remaining(without_result=count) if is_abandoned else Remaining(to_send=count)
    if job.journal is None:
        return certain
    try:
        if not job.journal.may_exist:
            return certain
        async with open_journal(job.journal.target, is_reading=True) as journal:
            in_doubt, counts = await journal.count_in_doubt(), await journal.counts()
    except (HealthmsgError, OSError):  # the journal cannot say which of them have left
        return Remaining(without_result=count)
    # Those of which this run said that nothing is known are in doubt in the journal, too.
    in_doubt = min(count, max(counts[State.SENDING], in_doubt - unknown))
    to_send = count - in_doubt
    if job.messages is None:
        # Another worker, or a person, may have seen to some.
        waiting = counts[State.WAITING] + counts[State.PARKED]
        to_send = min(to_send, waiting + (counts[State.NOT_SENT] if job.retry_failed else 0))
    return Remaining(to_send, in_doubt)
