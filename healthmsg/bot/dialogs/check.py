"""Open dialogs against the code that is to be deployed."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from attrs import field, frozen

from healthmsg.bot.dialogs.exits import DialogExit
from healthmsg.bot.dialogs.journal import Divergence, called
from healthmsg.bot.dialogs.registration import RegisteredDialog
from healthmsg.bot.dialogs.replay import advance, run_of
from healthmsg.bot.dialogs.run import Run, Tools
from healthmsg.bot.store.records import DialogRecord, StepRecord
from healthmsg.log import class_name


@frozen
class Problem:
    """An open dialog that does not fit the code."""

    dialog: str
    """Its id."""
    name: str
    version: int
    result: Literal["held", "asked_again"]
    """What would become of it: it sends nothing until a person decides, or it asks again from there."""
    what: str
    """Where they differ, without a text."""
    step: int | None = None
    """The number of the step; `None`: it is not about one."""
    key: str | None = field(default=None, repr=False)
    """That of the step, which may be a text that the user has seen."""


def check_dialog(
    tools: Tools,
    registry: Mapping[str, RegisteredDialog[Any]],
    record: DialogRecord,
    steps: Iterable[StepRecord],
) -> Problem | None:
    """Replay one dialog, without asking or sending anything. Return why it does not fit; `None`: it does."""
    code = registry.get(record.name)
    if code is None:
        return _problem(record, "held", "there is no dialog of that name in the code")
    run: Run | None = None
    standing: object = None
    try:
        run = run_of(tools, code, record, steps)
        standing = advance(run)
    except DialogExit:
        standing = run.journal.rest() if run else None
    except Exception as error:  # noqa: BLE001 - of the author's code
        return _problem(record, "held", f"the code raises {class_name(error)}")
    finally:
        if run is not None:
            run.close()
    return problem_of(run, standing) if run and isinstance(standing, Divergence) else None


def problem_of(run: Run, divergence: Divergence) -> Problem:
    """Return what a divergence means for its dialog."""
    can_forget = run.journal.can_forget(divergence)
    row = divergence.row
    return _problem(
        run.record,
        "asked_again" if can_forget else "held",
        described(divergence),
        row.number if row else None,
        row.key if row else None,
    )


def described(divergence: Divergence) -> str:
    """Return where the code and the journal differ, without a text."""
    row, kind = divergence.row, divergence.kind
    if row is None:
        return f"the code goes on with {called(kind)}, and messages before it were others"
    if not kind:
        return f"the code ends before step {row.number}, {called(row.kind)}"
    if kind == row.kind:
        return f"step {row.number}, {called(kind)}, has another key, or a value that does not fit"
    return f"step {row.number} was {called(row.kind)}, and the code has {called(kind)}"


def _problem(
    record: DialogRecord,
    result: Literal["held", "asked_again"],
    what: str,
    step: int | None = None,
    key: str | None = None,
) -> Problem:
    return Problem(record.id, record.name, record.version, result, what, step, key)
