"""What a bot sends in one message."""

from collections.abc import Sequence

from attrs import field, frozen

from healthmsg.files import FileToUpload
from healthmsg.models import Question


@frozen
class Content:
    """A text, with a question's buttons or with files."""

    body: str = field(repr=False)
    question: Question | None = field(default=None, repr=False)
    files: Sequence[FileToUpload] = field(default=(), repr=False)
    label: str | None = field(default=None, repr=False)
    """The name of the question, by which its answers are known."""
