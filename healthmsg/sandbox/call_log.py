"""The log of the calls that reached the sandbox."""

from collections.abc import Mapping

from attrs import asdict, evolve, field, frozen
from yarl import URL

from healthmsg.sandbox.limits import most_in_any_period


@frozen
class CallRecord:
    """One call, as it arrived and as it was answered."""

    sequence: int
    """Counts from 0, in order of arrival."""
    arrived: float
    """When its headers were there, on the event loop's clock, in seconds."""
    method: str
    path: str = field(repr=False)
    """As it was sent: still encoded, without the query."""
    query: str = field(repr=False)
    template: str | None
    """The route with its ids left open, `conversations/{id}/messages` for instance; `None`: no such route."""
    host: str | None
    """To which host and port it was sent."""
    counted: bool
    """Whether it counts for the rate limit: under the API's base, with a token that this sandbox issued."""
    content_type: str | None = None
    has_authorization: bool = False
    """Whether it had an `Authorization` header."""
    has_cookie: bool = False
    """Whether it had a `Cookie` header."""
    user_id: str | None = None
    status: int | None = None
    """The answer's; `None` while it is running, and when it never got an answer."""
    rejected: bool = False
    """Whether the rate limit or the quota refused it, so that it did nothing."""


class CallLog:
    """The calls so far."""

    def __init__(self) -> None:
        self._records: dict[int, CallRecord] = {}
        self._next = 0

    @property
    def records(self) -> list[CallRecord]:
        """All calls, in order of arrival."""
        return list(self._records.values())

    def add(  # noqa: PLR0913 - one argument a column
        self,
        *,
        arrived: float,
        method: str,
        url: URL,
        template: str | None,
        counted: bool,
        headers: Mapping[str, str],
        user_id: str | None,
    ) -> CallRecord:
        """Log a call that has just arrived."""
        record = CallRecord(
            sequence=self._next,
            arrived=arrived,
            method=method,
            path=url.raw_path,
            query=url.raw_query_string,
            template=template,
            host=_readable(headers.get("Host")),
            counted=counted,
            content_type=_readable(headers.get("Content-Type")),
            has_authorization="Authorization" in headers,
            has_cookie="Cookie" in headers,
            user_id=user_id,
        )
        self._next += 1
        self._records[record.sequence] = record
        return record

    def add_answer(self, record: CallRecord, status: int, *, rejected: bool) -> None:
        """Log the answer to a call, unless the log was cleared meanwhile."""
        if record.sequence in self._records:
            self._records[record.sequence] = evolve(record, status=status, rejected=rejected)

    def clear(self) -> None:
        """Forget all calls; the sequence numbers go on."""
        self._records.clear()

    @property
    def arrivals(self) -> list[float]:
        """When the calls arrived that count for the rate limit."""
        return [record.arrived for record in self._records.values() if record.counted]

    @property
    def rejected(self) -> int:
        """How many calls the rate limit or the quota refused."""
        return sum(record.rejected for record in self._records.values())

    @property
    def per_second(self) -> float:
        """The rate between the first and the last counted call; 0 when there are not two moments."""
        arrivals = self.arrivals
        took = arrivals[-1] - arrivals[0] if arrivals else 0.0
        return (len(arrivals) - 1) / took if took else 0.0

    @property
    def most_in_any_second(self) -> int:
        """How many counted calls arrived in the busiest second, refused ones included."""
        return most_in_any_period(self.arrivals)

    def to_json(self) -> list[dict[str, object]]:
        """Return the log as a JSON array."""
        return [asdict(record) for record in self._records.values()]


def _readable(header: str | None) -> str | None:
    """Replace what is not UTF-8, because the log is shown as JSON."""
    return header and header.encode(errors="surrogateescape").decode(errors="replace")
