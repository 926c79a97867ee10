"""The API on this machine: a real HTTP server with made-up people, to try things out and for tests.

async with Sandbox() as sandbox:
    async with Client(sandbox.issue_token(), environment=sandbox.environment) as client:
        ...
"""

from healthmsg.sandbox.call_log import CallRecord
from healthmsg.sandbox.faults import (
    AnswerStatus,
    CutAfter,
    CutBefore,
    CutBody,
    Delay,
    Fault,
    FaultedCall,
    Faults,
    Forbidden,
    Garbage,
    Outage,
    RedirectLoop,
    RedirectTo,
    RevokeToken,
    SlowBody,
    StallBody,
    TooManyRequests,
    WrongShape,
)
from healthmsg.sandbox.gateway.faults import Gateway
from healthmsg.sandbox.limits import (
    FixedWindow,
    Quota,
    RateLimitPolicy,
    SlidingWindow,
    SpikeArrest,
    TokenBucket,
    count_rejections,
    most_in_any_period,
)
from healthmsg.sandbox.other_side import SandboxFile
from healthmsg.sandbox.records import Habits
from healthmsg.sandbox.server import Sandbox

__all__ = [
    "AnswerStatus",
    "CallRecord",
    "CutAfter",
    "CutBefore",
    "CutBody",
    "Delay",
    "Fault",
    "FaultedCall",
    "Faults",
    "FixedWindow",
    "Forbidden",
    "Garbage",
    "Gateway",
    "Habits",
    "Outage",
    "Quota",
    "RateLimitPolicy",
    "RedirectLoop",
    "RedirectTo",
    "RevokeToken",
    "Sandbox",
    "SandboxFile",
    "SlidingWindow",
    "SlowBody",
    "SpikeArrest",
    "StallBody",
    "TokenBucket",
    "TooManyRequests",
    "WrongShape",
    "count_rejections",
    "most_in_any_period",
]
