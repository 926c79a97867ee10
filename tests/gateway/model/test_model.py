"""Catching up is correct in random schedules, and the model notices when it is not."""

from collections.abc import Sequence
from datetime import datetime

import pytest

from healthmsg.gateway import chat_sync
from healthmsg.gateway.chat_sync import ChatSync
from healthmsg.gateway.reading import Anchor, Found, Reading, read_to_anchor
from healthmsg.models import Message
from tests.gateway.model.schedules import run

QUICK = 60
SLOW = 500
THOROUGH = 4000
CAUGHT_WITHIN = 200


@pytest.mark.parametrize("first", range(0, QUICK, 20))
def test_nothing_is_lost_handled_twice_or_out_of_order(first: int) -> None:
    assert [seed for seed in range(first, first + 20) if not run(seed).is_good] == []


@pytest.mark.slow
@pytest.mark.parametrize("first", range(QUICK, SLOW, 110))
def test_nothing_is_lost_in_more_schedules(first: int) -> None:
    assert [seed for seed in range(first, first + 110) if not run(seed).is_good] == []


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("first", range(SLOW, THOROUGH, 500))
def test_nothing_is_lost_in_many_more(first: int) -> None:
    assert [seed for seed in range(first, first + 500) if not run(seed).is_good] == []


def _is_caught(*, acknowledges_first: bool = False) -> bool:
    return any(not run(seed, acknowledges_first=acknowledges_first).is_good for seed in range(CAUGHT_WITHIN))


def test_stopping_at_a_known_message_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = ChatSync.begin

    def begins(self: ChatSync, now: float) -> Reading:
        reading = begin(self, now)
        if self.anchor is None:
            return reading
        held = (chat_sync.message_id_of(event) for event in self._held)
        return read_to_anchor(Anchor((*held, *self._seen, *self.anchor.ids), self.anchor.at))

    monkeypatch.setattr(ChatSync, "begin", begins)

    assert _is_caught()


def test_the_newest_time_as_a_cursor_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    cursors: dict[int, datetime] = {}

    def new_in(self: ChatSync, found: Found) -> Sequence[Message]:
        stamped = [message for message in found.messages if message.created_at is not None]
        cursor = cursors.get(id(self)) or (self.anchor and self.anchor.at) or self.started_at
        newer = [m for m in stamped if cursor is None or (m.created_at and m.created_at > cursor)]
        if newer and newer[0].created_at is not None:
            cursors[id(self)] = newer[0].created_at
        return newer[::-1]

    monkeypatch.setattr(ChatSync, "_new_in", new_in)

    assert _is_caught()


def test_acknowledging_before_handling_is_caught() -> None:
    assert _is_caught(acknowledges_first=True)


def test_one_pass_over_several_pages_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healthmsg.gateway.reading._agree", lambda *_: True)

    assert _is_caught()


def test_not_reading_again_after_the_lists_have_settled_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    finish = ChatSync.finish

    def finishes(self: ChatSync, found: Found, now: float, settle: float, *rest: object) -> object:
        return finish(self, found, now, 0.0, *rest)  # type: ignore[arg-type] # as they came

    monkeypatch.setattr(ChatSync, "finish", finishes)

    assert _is_caught()
