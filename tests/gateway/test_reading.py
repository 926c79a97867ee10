"""Reading a list of messages that changes while it is read."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from healthmsg.gateway.reading import Anchor, Ask, Found, Reached, Reading, read_baseline, read_to_anchor
from healthmsg.models import Message

MOST = 7
"""Messages that the service gives at once."""
STARTED = datetime(2026, 1, 1, tzinfo=UTC)


def listed(count: int) -> list[str]:
    """Return the ids of so many messages, the newest first."""
    return [f"m{number}" for number in range(count, 0, -1)]


def read(reading: Reading, ids: list[str], deleted: Mapping[int, str] = {}) -> tuple[Found, list[Ask]]:
    """Read a list of which messages are deleted, each before the request with that number."""
    asks: list[Ask] = []
    page: Sequence[Message] | None = None
    while True:
        try:
            ask = next(reading) if page is None else reading.send(page)
        except StopIteration as end:
            return end.value, asks
        asks.append(ask)
        if len(asks) - 1 in deleted:
            ids.remove(deleted[len(asks) - 1])
        start = ask.page * ask.amount
        page = [Message(one, created_at=STARTED) for one in ids[start : start + min(ask.amount, MOST)]]


def test_a_message_that_slips_over_a_border_in_two_passes_is_not_overlooked() -> None:
    ids = listed(30)
    # The first two requests look whether a page shows all; then each pass takes several.
    undisturbed, asks = read(read_to_anchor(Anchor(("m1",))), listed(30))
    second = next(number for number, ask in enumerate(asks[3:], 3) if ask.page == 0)

    found, _ = read(read_to_anchor(Anchor(("m1",))), ids, {4: "m30", second + 2: "m29"})

    assert [one.id for one in undisturbed.messages] == listed(30)
    assert [one.id for one in found.messages] == ids
    assert asks[2].amount == MOST
    assert asks[second].amount != MOST


def test_what_slips_over_the_last_border_is_missed_by_no_two_passes() -> None:
    ids = listed(11)

    found, _ = read(read_baseline(STARTED), ids, {3: "m11", 6: "m10"})

    assert [one.id for one in found.messages] == ids
    assert found.reached is Reached.END


def test_a_short_list_is_read_in_three_calls() -> None:
    found, asks = read(read_baseline(STARTED), listed(3))

    assert [one.id for one in found.messages] == listed(3)
    assert found.reached is Reached.END
    assert asks == [Ask(0, 20), Ask(1, 3), Ask(0, 20)]


def test_a_short_list_of_which_something_is_deleted_meanwhile_is_read_on() -> None:
    ids = listed(8)  # of which one page shows seven

    found, asks = read(read_baseline(STARTED), ids, {1: "m8"})

    assert [one.id for one in found.messages] == ids == listed(7)
    assert len(asks) > 3
