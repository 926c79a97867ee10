"""`healthmsg send` and `healthmsg chats`, and what they have in common with all commands."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping

import pytest

import healthmsg
from healthmsg.cli.app import app
from healthmsg.cli.problems import RefusedError
from healthmsg.cli.send import parse_address
from healthmsg.errors import InvalidIdError
from healthmsg.resources.chat import Chat
from healthmsg.sandbox import AnswerStatus, CutAfter, Sandbox
from tests.cli.command_line import RUNNER, Done, bodies, invoke, run, variables_of


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(sample_data=False) as sandbox:
        yield sandbox


async def invoked(
    sandbox: Sandbox, *arguments: str, stdin: str | bytes | None = None, env: Mapping[str, str] | None = None
) -> Done:
    """Run it in this process, in a thread: the sandbox answers from this one."""
    variables = {**variables_of(sandbox), **(env or {})}
    result = await asyncio.to_thread(RUNNER.invoke, app, arguments, env=variables, input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def service_line(sandbox: Sandbox, starts: str = "Service") -> str:
    url = sandbox.environment.api_url
    return f"{starts}: A SANDBOX on this machine, or a tunnel that begins here ({url})\n"


# --- send


async def test_a_message_is_sent_and_its_id_said(sandbox: Sandbox) -> None:
    chat = f"conversations/{sandbox.add_conversation()}"

    done = await run(sandbox, "send", chat, "Tot morgen!")

    (message,) = sandbox.messages(chat)
    assert (done.code, done.out, done.err) == (0, f"Sent: message {message.id}\n", service_line(sandbox))
    assert message.body == "Tot morgen!"


async def test_it_goes_to_every_kind_of_address(sandbox: Sandbox) -> None:
    patient = sandbox.add_user("Zoë", "Mulder")
    chat = sandbox.add_conversation(user=patient, aux_id="José 7")
    group = sandbox.add_group_chat("Wijkteam", aux_id="wijk 1")

    for to in (f"conversations/{chat}", f"users/{patient}", f"groupchats/{group}", "aux/groupchats/wijk 1"):
        assert (await invoked(sandbox, "send", to, to)).code == 0, to
    exactly = ("aux/conversations/José 7", "exact", "--exact-aux-id")
    assert (await invoked(sandbox, "send", *exactly)).code == 0

    expected = [f"conversations/{chat}", f"users/{patient}", "exact"]
    assert bodies(sandbox, f"conversations/{chat}") == expected
    assert bodies(sandbox, f"groupchats/{group}") == [f"groupchats/{group}", "aux/groupchats/wijk 1"]


@pytest.mark.parametrize(("stdin", "body"), [("Beste Jan,\n\nTot morgen!\n", "Beste Jan,\n\nTot morgen!")])
async def test_the_text_can_come_from_the_standard_input(sandbox: Sandbox, stdin: str, body: str) -> None:
    chat = f"conversations/{sandbox.add_conversation()}"

    done = await invoked(sandbox, "send", chat, "-", stdin=stdin)

    assert done.code == 0
    assert bodies(sandbox, chat) == [body]


@pytest.mark.parametrize(
    ("to", "text", "stdin", "problem"),
    [
        ("conversations/c1", "", None, "a message needs a text"),
        ("conversations/c1", " \n\t", None, "a message needs a text"),
        ("conversations/c1", "-", "", "a message needs a text"),
        ("conversations/c1", "-", b"\xff", "no text in UTF-8"),
        ("conversations/c1", "half \udcff", None, "cannot be written as JSON in UTF-8"),
        ("c1", "Hallo", None, "it must begin with what it is the id of: conversations/…"),
        ("", "Hallo", None, "it must begin with what it is the id of: conversations/…"),
        ("conversations/", "Hallo", None, "the id of a chat must not be empty"),
        ("users/..", "Hallo", None, "a user's id"),
        ("aux/conversations/José", "Hallo", None, "give --exact-aux-id if it is meant as it is"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
async def test_what_cannot_be_right_is_refused_before_anything_is_sent(  # noqa: PLR0917 - parametrized
    sandbox: Sandbox, to: str, text: str, stdin: str | bytes | None, problem: str, as_json: bool
) -> None:
    done = await invoked(sandbox, "send", to, text, *(["--json"] if as_json else []), stdin=stdin)

    assert done.code == 2
    assert problem in done.err
    assert "Nothing was sent." in done.err
    assert not sandbox.calls
    if as_json:
        assert json.loads(done.out)["outcome"] == "not sent"
        assert problem in json.loads(done.out)["error"]


async def test_without_a_token_it_says_which_variable_is_missing(sandbox: Sandbox) -> None:
    done = await invoked(sandbox, "send", "conversations/c1", "Hallo", env={"HEALTHMSG_TOKEN": ""})

    assert done.code == 2
    assert "HEALTHMSG_TOKEN" in done.err


async def test_what_is_not_sent_is_1_and_says_why(sandbox: Sandbox) -> None:
    done = await invoked(sandbox, "send", "conversations/nowhere", "Hallo")

    assert (done.code, done.out) == (1, "")
    assert done.err == f"{service_line(sandbox)}Not sent: answered 404 Not Found\n"


async def test_what_may_have_arrived_is_looked_for_and_found(sandbox: Sandbox) -> None:
    chat = f"conversations/{sandbox.add_conversation()}"
    sandbox.faults.add(kind=CutAfter(), method="POST")

    done = await invoked(sandbox, "send", chat, "Hallo", "--json")

    (message,) = sandbox.messages(chat)
    assert done.code == 0
    assert json.loads(done.out) == {
        "outcome": "delivered",
        "message_id": message.id,
        "error": None,
        "service": sandbox.environment.api_url,
    }
    assert "looking for it in the chat, for up to 90 s" in done.err


async def test_what_stays_unknown_is_3_and_not_sent_again(sandbox: Sandbox) -> None:
    chat = f"conversations/{sandbox.add_conversation()}"
    sandbox.faults.add(kind=AnswerStatus(500), method="POST")

    done = await invoked(sandbox, "send", chat, "Hallo", "--settle", "0")

    assert done.code == 3
    assert "Unknown: it may have arrived. Look in the chat before you send it again: " in done.err
    assert sum(call.method == "POST" for call in sandbox.calls) == 1
    assert "UnknownError" not in done.err


@pytest.mark.parametrize("status", [401, 403])
async def test_what_cannot_be_looked_for_stays_unknown(sandbox: Sandbox, status: int) -> None:
    chat = f"conversations/{sandbox.add_conversation()}"
    sandbox.faults.add(kind=CutAfter(), method="POST")
    sandbox.faults.add(kind=AnswerStatus(status), method="GET", times=None)

    done = await invoked(sandbox, "send", chat, "Hallo", "--settle", "0", "--json")

    assert bodies(sandbox, chat) == ["Hallo"]
    assert done.code == 3
    document = json.loads(done.out)
    assert document["outcome"] == "unknown"
    assert document["error"].startswith("the connection was lost; it could not be looked for: ")


async def test_an_interruption_leaves_it_unknown(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = f"conversations/{sandbox.add_conversation()}"

    async def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Chat, "send", interrupted)
    done = await invoked(sandbox, "send", chat, "Hallo", "--json")

    assert done.code == 130
    assert json.loads(done.out)["outcome"] == "unknown"


def test_an_address_is_read_as_it_is_written() -> None:
    assert parse_address("users/u1") == "u1"
    assert (
        str(parse_address("aux/conversations/é", is_exact=True)) == "<ChatAddress aux/conversations/{aux_id}>"
    )
    for wrong in ("foo/x", "conversations", "Conversations/c1"):
        with pytest.raises(RefusedError):
            parse_address(wrong)
    with pytest.raises(InvalidIdError):
        parse_address("groupchats/..")


# --- chats


async def test_chats_are_listed_with_address_kind_and_name(sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation(user=sandbox.add_user("Zoë", "Mulder\x1b[2J\n"))
    group = sandbox.add_group_chat("Wijkteam Noord")

    done = await invoked(sandbox, "chats")

    assert (done.code, done.err) == (0, service_line(sandbox, "The chats are read from"))
    assert [line.split(maxsplit=1) for line in done.out.splitlines()] == [
        [f"conversations/{chat}", "conversation  Zoë Mulder\\x1b[2J\\x0a"],
        [f"groupchats/{group}", "group chat    Wijkteam Noord"],
    ]


async def test_chats_can_be_listed_for_a_program(sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation(user=sandbox.add_user("Zoë", "Mulder"), aux_id="patient 7")
    sandbox.add_conversation()

    done = await invoked(sandbox, "chats", "--json", "--limit", "1")

    (document,) = map(json.loads, done.out.splitlines())
    assert (document["id"], document["address"]) == (chat, f"conversations/{chat}")
    assert (document["kind"], document["name"], document["aux_id"]) == (
        *("conversation", "Zoë Mulder"),
        "patient 7",
    )


async def test_without_chats_it_says_so(sandbox: Sandbox) -> None:
    assert (await invoked(sandbox, "chats")).out == "There are no chats.\n"
    assert (await invoked(sandbox, "chats", "--json")).out == ""


async def test_chats_that_cannot_be_read_are_one_clear_line(sandbox: Sandbox) -> None:
    done = await invoked(sandbox, "chats", env={"HEALTHMSG_TOKEN": "wrong"})

    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[1].startswith("Error: GET conversations: answered 401")


# --- every command


def test_the_version_is_printed() -> None:
    assert invoke("--version") == Done(0, f"healthmsg {healthmsg.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("send-many", "list.csv", "--template", "x", "--journal", "a.db", "--journal", "b.db", "--yes"),
        ("send-many", "list.csv", "--template", "x", "--template=y"),
        ("send", "users/u1", "Hallo", "--settle", "1", "--settle", "2"),
        ("chats", "--limit", "1", "--limit", "2"),
        ("journal", "export", "a.db", "--to", "a.csv", "--to", "b.csv"),
        ("journal", "decide", "a.db", "key", "delivered", "--by", "An", "--by", "Bo"),
        ("sandbox", "--port", "1", "--port", "2"),
    ],
)
def test_an_option_that_is_given_twice_is_refused(arguments: tuple[str, ...]) -> None:
    done = invoke(*arguments)

    assert done.code == 2
    assert "is given 2 times" in done.err


def test_an_option_without_a_value_may_be_given_twice() -> None:
    assert "HEALTHMSG_TOKEN" in invoke("chats", "--json", "--json", env={"HEALTHMSG_TOKEN": None}).err
