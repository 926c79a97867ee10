"""The way of a request: retry → auth → quota → limit → record → check → transport, one step a file."""

from collections.abc import Sequence
from functools import reduce

from healthmsg.pipeline.request import Send, Step


def fold(steps: Sequence[Step], wire: Send) -> Send:
    """Make one `Send` of steps, the outermost first."""
    return reduce(_before, reversed(steps), wire)


def _before(inner: Send, step: Step) -> Send:
    carry_out = step.__call__  # bound once: to call the object would look it up, for every call and step
    return lambda request: carry_out(request, inner)
