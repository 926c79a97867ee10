"""What became of one file of many that were fetched."""

from pathlib import Path

from attrs import field, frozen

from healthmsg.models.messages import Attachment


@frozen
class DownloadResult:
    """What became of one attachment.

    `path` is where it is, `None` if it could not be fetched: then `error` says why. `skipped`: it was there
    already, with the right size.
    """

    attachment: Attachment
    path: Path | None = field(default=None, repr=False)
    skipped: bool = False
    error: Exception | None = None
