"""What `healthmsg send-many --resume` says that it is going to do."""

from datetime import UTC, datetime
from pathlib import Path

from healthmsg.bulk.journal import Entry, open_journal
from healthmsg.errors import Outcome
from healthmsg.sandbox import Sandbox
from tests.cli.command_line import run


async def test_what_stays_unknown_for_ever_is_not_counted_as_to_be_sent(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    path = tmp_path / "recall.db"
    chat = f"conversations/{sandbox.add_conversation(aux_id='P1')}"
    async with open_journal(path) as journal:
        await journal.enter([Entry("a", "conversations/c1", "Hallo"), Entry("b", chat, "Dag")])
        (claim,) = await journal.claim(1)
        await journal.begin(claim, datetime.now(UTC), claim.chat)
        await journal.finish(claim, Outcome.UNKNOWN, is_final=True)

    done = await run(sandbox, "send-many", "--resume", "--yes", "--journal", path)

    assert "To be sent 1" in " ".join(done.out.split()), done
    assert [message.body for message in sandbox.messages(chat)] == ["Dag"]
