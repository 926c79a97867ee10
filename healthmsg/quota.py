"""How much a user may call."""

from datetime import datetime

from attrs import frozen


@frozen
class Quota:
    """How much one user may call, and has called, as the headers of an answer said [D].

    Whatever the headers left out, or said in a way that cannot be read, is `None`.
    """

    limit: int | None = None
    """Calls within one interval."""
    used: int | None = None
    """Calls so far in this interval; it may exceed `limit`."""
    interval: int | None = None
    """The interval's length, in `unit`."""
    unit: str | None = None
    """`minute`, `hour`, `day`, `week` or `month` [D]; the service may add others."""
    reset: datetime | None = None
    """When the next interval begins; aware, in UTC."""

    @property
    def remaining(self) -> int | None:
        """Calls left in this interval, never below 0; `None` when it is not known.

        A limit of 0 is taken for none, since calls that count against it are answered [A].
        """
        if not self.limit or self.used is None:
            return None
        return max(0, self.limit - self.used)
