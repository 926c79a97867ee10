"""The PDF of a chat, as a file to send."""

import tempfile
from datetime import datetime
from pathlib import Path

from healthmsg import Client


async def download(client: Client, chat: str, name: str, start: datetime) -> str:
    """Write what was said in a chat since a moment into a file of a given name, and return its path.

    It runs in a `once`: after a restart, the dialog has the same path again.
    """
    path = Path(tempfile.gettempdir()) / name
    written = await client.chat(chat).download_pdf(to=path, start=start, overwrite=True)
    return str(written)


def remove(path: str) -> None:
    """Delete the file: it has in it what was said."""
    Path(path).unlink(missing_ok=True)
