"""A file of recipients and a text, read and checked: the messages of a run or a campaign."""

from pathlib import Path
from typing import Protocol

from attrs import frozen

from healthmsg.cli.recipients.encodings import Decoded
from healthmsg.cli.recipients.messages import Messages, make_messages
from healthmsg.cli.recipients.reading import Recipients, read_recipients, read_text_file
from healthmsg.cli.recipients.template import Template


class InputOptions(Protocol):
    """The options of a command that reads one."""

    @property
    def template(self) -> str | None:
        """The text."""

    @property
    def template_file(self) -> Path | None:
        """The file with the text."""

    @property
    def encoding(self) -> str | None:
        """That of the files, if it is not to be detected."""

    @property
    def allow_empty(self) -> bool:
        """Whether fields of the template may be empty."""

    @property
    def allow_repeats(self) -> bool:
        """Whether the same message may go to the same recipient again."""

    @property
    def exact_aux_ids(self) -> bool:
        """Whether diacritics in auxiliary ids are meant."""


@frozen
class Input:
    """What was read."""

    recipients: Recipients
    messages: Messages
    template_file: Decoded | None


def read_input(path: Path, options: InputOptions) -> Input:
    """Read a file of recipients and the text.

    Raises:
        RefusedError: something in it cannot be right; with all that is.
    """
    template_file = template = None
    if options.template_file is not None:
        template_file = read_text_file(options.template_file, options.encoding)
        # The last end of line is the editor's, not part of the message.
        template = Template.parse(template_file.text.rstrip("\r\n"))
    elif options.template is not None:
        template = Template.parse(options.template)
    recipients = read_recipients(path, options.encoding)
    messages = make_messages(
        recipients,
        template,
        path.parent,
        allow_empty=options.allow_empty,
        allow_repeats=options.allow_repeats,
        is_exact=options.exact_aux_ids,
    )
    return Input(recipients, messages, template_file)
