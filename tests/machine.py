"""A machine that sleeps: its own clock goes on meanwhile, the event loop's stands still."""

import pytest

from healthmsg import clock
from healthmsg.auth import manager
from healthmsg.transport import connections


class Machine:
    """The clock that goes on while the machine sleeps, for a test that makes it sleep."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._slept = 0.0
        real = clock.machine_seconds
        for module in (clock, connections, manager):
            monkeypatch.setattr(module, "machine_seconds", lambda: real() + self._slept)

    def sleep(self, seconds: float) -> None:
        self._slept += seconds
