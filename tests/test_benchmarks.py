"""The servers of the benchmarks speak HTTP: what is measured there, is measured with whole answers."""

import asyncio
import sys
from pathlib import Path
from typing import Final

from healthmsg import Client, Environment, UploadFile

BENCHMARKS: Final = Path(__file__).parents[1] / "benchmarks"


async def test_the_byte_sink_answers_each_upload_of_a_connection() -> None:
    sink = await asyncio.create_subprocess_exec(
        sys.executable, BENCHMARKS / "byte_sink.py", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert sink.stdout is not None
        url = (await sink.stdout.readline()).decode().strip()
        async with Client("t0ken", environment=Environment("sink", f"{url}/v1")) as client:
            chat = client.conversations("c1")
            sent = [await chat.upload(UploadFile(bytes(1000), f"{number}.bin")) for number in range(3)]
    finally:
        sink.kill()
        await sink.wait()

    assert [one.id for one in sent] == [f"m{number:011}" for number in range(3)]
