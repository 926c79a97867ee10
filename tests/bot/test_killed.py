"""A bot that is killed at random replies exactly once to each message, and its dialogs go on."""

from pathlib import Path

import pytest
from attrs import evolve

from tests.bot.killed_bot import Kind
from tests.bot.killing import BotAftermath, answered_though_killed, held_though_killed, is_of

KILLS = 12
# Of each chat. `benchmarks/bot_kills.py` has a hundred.
IN_EACH = 8
# Of so few connections, 6 % would be none.
DROPPED = 0.4


@pytest.mark.slow
async def test_a_bot_that_is_killed_replies_exactly_once_to_each_message(tmp_path: Path) -> None:
    store = str(tmp_path / "bot.db")
    found = await answered_though_killed(
        store, tmp_path, kills=KILLS, seed=17, dropped=DROPPED, in_each=IN_EACH
    )
    assert found == BotAftermath(kills=KILLS)


@pytest.mark.slow
@pytest.mark.thorough
async def test_so_does_one_with_a_store_in_a_database(database: str, tmp_path: Path) -> None:
    found = await answered_though_killed(database, tmp_path, kills=KILLS, seed=17, dropped=DROPPED)
    assert found == BotAftermath(kills=KILLS)


@pytest.mark.slow
@pytest.mark.thorough
async def test_dialogs_of_a_bot_that_is_killed_go_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    store = str(tmp_path / "bot.db")
    found = await held_though_killed(store, tmp_path, dialogs=60, kills=KILLS, seed=17, dropped=DROPPED)
    assert found == BotAftermath(kills=KILLS)


@pytest.mark.slow
@pytest.mark.thorough
async def test_so_do_those_of_one_with_a_store_in_a_database(database: str, tmp_path: Path) -> None:
    found = await held_though_killed(database, tmp_path, dialogs=60, kills=KILLS, seed=17, dropped=DROPPED)
    assert found == BotAftermath(kills=KILLS)


@pytest.mark.slow
@pytest.mark.thorough
async def test_one_that_replies_without_keys_is_caught(tmp_path: Path) -> None:
    store = str(tmp_path / "bot.db")
    found = await answered_though_killed(
        store, tmp_path, kills=3, seed=17, dropped=DROPPED, kind=Kind.WITHOUT_KEYS
    )
    assert found.twice + found.parked > 0
    assert evolve(found, twice=0, parked=0, unanswered=0) == BotAftermath(kills=3)


# --- that the harness sees what is wrong


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (["a", "b", "c"], (0, 0, False)),
        (["a", "c"], (1, 0, False)),
        (["a", "b", "b", "c"], (0, 1, False)),
        (["a", "c", "b"], (0, 0, True)),
        (["a", "b", "c", "d"], (0, 1, True)),
    ],
    ids=["all is well", "one is missing", "one is there twice", "in another order", "one too many"],
)
def test_what_is_wrong_is_seen(got: list[str], expected: tuple[int, int, bool]) -> None:
    assert is_of(["a", "b", "c"], got) == expected
