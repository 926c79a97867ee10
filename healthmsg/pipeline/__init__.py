"""The way of a request: retry → auth → quota → limit → record → check → transport, one step a file."""

from collections.abc import Sequence
from functools import reduce

from healthmsg.pipeline.request import Send, Step


def fold(steps: Sequence[Step], wire: Send) -> Send:
    """Make one `Send` of steps, the outermost first."""
    return reduce(_before, reversed(steps), wire)


def _before(inner: Send, step: Step) -> Send:
    return lambda request: step(request, inner)
