"""`python -m healthmsg.sandbox`: a sandbox in a process of its own.

Prints one line of JSON, `{"url", "client_id", "client_secret"}`, when it listens, and serves until it is
interrupted or terminated.
"""

import argparse
import asyncio
import json
from contextlib import suppress

from healthmsg.sandbox.server import Sandbox


async def _serve(port: int) -> None:
    sandbox = Sandbox(redirect_uri=None)
    await sandbox.start(port=port)
    shown = ("url", "client_id", "client_secret")
    print(json.dumps({name: getattr(sandbox, name) for name in shown}), flush=True)  # noqa: T201 - its purpose
    try:
        await asyncio.Event().wait()
    finally:
        await sandbox.stop()


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
