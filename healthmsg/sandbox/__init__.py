"""The API on this machine: a real HTTP server with made-up people, for trying out and for tests.

async with Sandbox() as sandbox:
    async with Client(sandbox.issue_token(), environment=sandbox.environment) as client:
        ...
"""

from healthmsg.sandbox.calls import CallRecord
from healthmsg.sandbox.faults import (
    AnswerStatus,
    AnswerStatusAfter,
    CutAfter,
    CutBefore,
    Delay,
    Fault,
    Faults,
    Garbage,
    Struck,
    WrongShape,
)
from healthmsg.sandbox.habits import Habits
from healthmsg.sandbox.limits import (
    FixedWindow,
    Policy,
    SlidingWindow,
    SpikeArrest,
    TokenBucket,
    count_rejections,
    most_in_any_period,
)
from healthmsg.sandbox.outages import Forbidden, GoAway, RevokeToken, TooManyRequests
from healthmsg.sandbox.quota import Quota
from healthmsg.sandbox.server import Sandbox
from healthmsg.sandbox.transfers import CutBody, EndlessRedirects, LinkTo, SlowBody, StallBody

__all__ = [
    "AnswerStatus",
    "AnswerStatusAfter",
    "CallRecord",
    "CutAfter",
    "CutBefore",
    "CutBody",
    "Delay",
    "EndlessRedirects",
    "Fault",
    "Faults",
    "FixedWindow",
    "Forbidden",
    "Garbage",
    "GoAway",
    "Habits",
    "LinkTo",
    "Policy",
    "Quota",
    "RevokeToken",
    "Sandbox",
    "SlidingWindow",
    "SlowBody",
    "SpikeArrest",
    "StallBody",
    "Struck",
    "TokenBucket",
    "TooManyRequests",
    "WrongShape",
    "count_rejections",
    "most_in_any_period",
]
