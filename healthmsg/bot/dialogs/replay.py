"""A dialog's coroutine, brought to where its journal ends; nothing is asked or sent on the way."""

from collections.abc import Iterable
from typing import Any

from healthmsg.bot.dialogs.dialog import Dialog
from healthmsg.bot.dialogs.document import Document
from healthmsg.bot.dialogs.journal import Divergence, Journal
from healthmsg.bot.dialogs.registration import RegisteredDialog
from healthmsg.bot.dialogs.run import Finished, Run, Tools, Wanted
from healthmsg.bot.store.records import DialogRecord, StepRecord


def run_of(
    tools: Tools, code: RegisteredDialog[Any], record: DialogRecord, steps: Iterable[StepRecord]
) -> Run:
    """Return a dialog in memory, before its first step."""
    document = Document.of(record.document)
    journal = Journal.of(record.id, steps, first=document.first, taken=document.taken)
    run = Run(tools, record, document, journal, code)
    begin(run)
    return run


def begin(run: Run) -> None:
    """Make the coroutine of a dialog.

    Raises:
        ConfigurationError: its arguments cannot be filled.
    """
    run.failed = True
    code = run.code.code_of(run.record.version)
    run.coroutine = code.called(Dialog(run), run.document.arguments, run.tools.resolve)
    run.failed = False


def advance(run: Run, value: object = None, error: Exception | None = None) -> Wanted | Divergence | Finished:
    """Let a dialog go on. An exception that comes out is its code's.

    Raises:
        Exception: whatever its code raises; `run.failed` is set.
    """
    run.failed = True
    standing = run.advance(value, error)
    run.failed = False
    return standing
