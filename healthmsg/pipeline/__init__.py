"""The way of a request: retry → auth → quota → limit → record → check → transport, one step a file."""

from collections.abc import Sequence
from functools import reduce
from operator import attrgetter

from healthmsg.pipeline.request import Send, Step


def fold(steps: Sequence[Step], wire: Send) -> Send:
    """Make one `Send` of steps, the outermost first."""
    # Bound once: to call the object would look its method up, for every call and step.
    return reduce(_before, map(attrgetter("__call__"), reversed(steps)), wire)


def _before(inner: Send, step: Step) -> Send:
    return lambda request: step(request, inner)
