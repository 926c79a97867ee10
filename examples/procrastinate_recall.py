"""A procrastinate task that enters a recall into a campaign. It sends nothing: `healthmsg worker` does.

A queue of tasks runs a task again when it has lost the worker that had it, and cannot know how far that one
came. So a task that sends would send twice. This one *enters* messages into the journal, by which they are
known: run again, or killed in the middle and run again, it enters what is missing.

What is a patient's stays out of the task: its arguments are rows of the queue, and in procrastinate's log.
It is given the name of the campaign alone, and reads the patients where the practice keeps them. The queue
may be in the database of the journal: their tables have names of their own.

    export RECALL_QUEUE='host=db.example dbname=healthmsg' PYTHONPATH=.
    procrastinate --app examples.procrastinate_recall.app schema --apply
    procrastinate --app examples.procrastinate_recall.app worker
    procrastinate --app examples.procrastinate_recall.app defer recall '{"campaign": "recall-2026"}'
    healthmsg worker --journal postgresql://…
"""

import os

from procrastinate import App, JobContext, PsycopgConnector, RetryStrategy

from examples import practice
from healthmsg import open_journal
from healthmsg.errors import JournalError

# Seconds without a sign of life after which a worker counts as dead.
DEAD_AFTER = float(os.environ.get("RECALL_AGAIN_AFTER", "30"))

app = App(connector=PsycopgConnector(conninfo=os.environ.get("RECALL_QUEUE", "")))


# While the database is away, it is run again, later and later.
@app.task(
    name="recall",
    retry=RetryStrategy(max_attempts=20, exponential_wait=2, retry_exceptions=[JournalError]),
)
async def recall(campaign: str) -> None:
    """Enter the recall of today's patients."""
    async with open_journal(os.environ["HEALTHMSG_JOURNAL"]) as journal:
        await journal.enter(practice.recall(), campaign=campaign)


@app.periodic(cron="* * * * *")
@app.task(name="run-again", queueing_lock="run-again", pass_context=True)
async def run_again(context: JobContext, timestamp: int) -> None:
    """Run again what a dead worker had: procrastinate leaves that to those who know that it does no harm."""
    del timestamp
    for job in await context.app.job_manager.get_stalled_jobs(seconds_since_heartbeat=DEAD_AFTER):
        await context.app.job_manager.retry_job(job)
