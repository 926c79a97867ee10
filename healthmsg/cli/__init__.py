"""The command line, `healthmsg` (extra `cli`)."""

import sys
from importlib.util import find_spec

from healthmsg.cli.terminal import guard_standard_streams


def main() -> None:
    """Run the command line, or print how to install what it needs."""
    guard_standard_streams()
    if any(find_spec(name) is None for name in ("typer", "rich", "sqlalchemy", "filelock")):
        sys.exit("The command line needs more packages: pip install 'healthmsg[cli]'")
    try:
        from healthmsg.cli.app import app  # noqa: PLC0415 - only if its packages are there
    except KeyboardInterrupt:  # while it is loaded: a traceback would not help
        sys.exit(130)
    app()
