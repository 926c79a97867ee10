"""A Celery task that enters a recall into a campaign. It sends nothing: `healthmsg worker` does.

A queue of tasks runs a task again when it has lost the worker that had it, and cannot know how far that one
came. So a task that sends would send twice. This one *enters* messages into the journal, by which they are
known: run again, or killed in the middle and run again, it enters what is missing.

What is a patient's stays out of the task: its arguments are in the broker and in Celery's log for all to
read. It is given the name of the campaign alone, and reads the patients where the practice keeps them.

    celery --app examples.celery_recall worker --concurrency 1
    python -c 'from examples.celery_recall import recall; recall.delay("recall-2026")'
    healthmsg worker --journal postgresql://…
"""

import asyncio
import os

from celery import Celery

from examples import practice
from healthmsg import open_journal
from healthmsg.errors import JournalError

app = Celery("recall", broker=os.environ.get("RECALL_BROKER", "redis://localhost:6379/0"))
app.conf.update(
    # The broker forgets a task only when it has ended, so that one whose worker died is run again: after this
    # time, in seconds, which must be longer than a task takes.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    broker_transport_options={"visibility_timeout": float(os.environ.get("RECALL_AGAIN_AFTER", "3600"))},
    worker_prefetch_multiplier=1,
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
)


# While the database is away, it is run again: later and later, every 10 minutes in the end.
@app.task(autoretry_for=(JournalError,), retry_backoff=True, retry_backoff_max=600, max_retries=None)  # type: ignore[untyped-decorator]
def recall(campaign: str) -> dict[str, int]:
    """Enter the recall of today's patients. What it returns is in Celery's log: figures alone."""
    return asyncio.run(enter(campaign))


async def enter(campaign: str) -> dict[str, int]:
    """Enter it, and return what became of it."""
    async with open_journal(os.environ["HEALTHMSG_JOURNAL"]) as journal:
        report = await journal.enter(practice.recall(), campaign=campaign)
    return {"entered": report.entered, "known": report.known, "refused": report.refused}
