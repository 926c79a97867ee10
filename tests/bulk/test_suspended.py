"""A sender that sleeps beyond its lease: what it had begun is not sent again when it wakes up."""

from pathlib import Path

import pytest
from killing import Aftermath
from suspending import one_of_several_suspended


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_workers_send_everything_once_though_one_of_them_sleeps(
    database: str, tmp_path: Path, seed: int
) -> None:
    assert await one_of_several_suspended(database, tmp_path, workers=3, seed=seed) == Aftermath(kills=0)
