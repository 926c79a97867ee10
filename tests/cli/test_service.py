"""Which service a command goes to, and which way."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from healthmsg import ConfigurationError, Environment
from healthmsg.cli.files import JournalLocation
from healthmsg.cli.sending.options import Options
from healthmsg.cli.service import Service, describe, hide_password
from healthmsg.sandbox import Sandbox
from tests.cli.command_line import invoke, run, variables_of

SANDBOX = Environment("from HEALTHMSG_API_URL", "http://127.0.0.1:8030/v1")
BOTH = {
    "HEALTHMSG_TOKEN": "t",
    "HEALTHMSG_ENVIRONMENT": "kpn",
    "HEALTHMSG_API_URL": "http://127.0.0.1:8030/v1",
}
PROXY = "http://zorg:s3cret@proxy.example:3128"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "lijst.csv"
    path.write_text("aux_id;body\nP1;x\n")
    return path


@pytest.mark.parametrize("arguments", [("--yes",), ("--dry-run",)])
def test_two_services_at_once_are_refused(path: Path, arguments: tuple[str, ...]) -> None:
    done = invoke("send-many", path, *arguments, env=BOTH)

    assert done.code == 2
    assert "HEALTHMSG_API_URL and HEALTHMSG_ENVIRONMENT are both set" in done.err
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        (Environment.kpn(), f"KPN Healthcare Messenger ({Environment.kpn().api_url})"),
        (Environment.ALTERDESK, "Alterdesk (https://api.alterdesk.com/v1)"),
        (
            Environment("x", "https://API.alterdesk.com:443/v1"),
            "Alterdesk (https://API.alterdesk.com:443/v1)",
        ),
        (SANDBOX, "A SANDBOX on this machine, or a tunnel that begins here (http://127.0.0.1:8030/v1)"),
        (Environment("kpn", "https://localhost:8443"), "A SANDBOX on this machine, or a tunnel"),
        (Environment("x", "https://sandbox.example"), "Neither KPN's nor Alterdesk's own, but https://sand"),
    ],
)
def test_a_person_reads_where_something_goes(environment: Environment, name: str) -> None:
    assert describe(environment).startswith(name)


async def test_what_goes_to_a_sandbox_says_so(sandbox: Sandbox, path: Path) -> None:
    sandbox.add_conversation(aux_id="P1")
    journal = path.parent / "j.db"
    # What other programs need for the internet stands in no sandbox's way.
    away = {"ALL_PROXY": "socks5://x:1"}
    done = await run(sandbox, "send-many", path, "--yes", "--journal", journal, env=away)

    assert done.code == 0, done
    before, _, after = done.out.replace("\n", " ").partition("delivered 1")
    assert "A SANDBOX on this machine" in before
    assert f"Service: A SANDBOX on this machine, or a tunnel that begins here ({sandbox.url}/v1)" in after

    looked = await asyncio.to_thread(invoke, "journal", "unknown", journal, env=variables_of(sandbox))
    assert looked.out.startswith("The chats are read from: A SANDBOX on this machine")


def test_the_command_to_go_on_with_goes_the_same_way() -> None:
    way: dict[str, Any] = {"proxy": PROXY, "ca": Path("house.pem"), "no_x509_strict": True}
    said = "--proxy 'http://zorg:***@proxy.example:3128' --ca house.pem --no-x509-strict"

    assert Options(Path("lijst.csv"), **way).command == f"healthmsg send-many lijst.csv {said}"
    resuming = Options(**way).command_to_resume(JournalLocation.parse("j.db"))
    assert resuming.endswith(said)
    words = ["--proxy=http://zorg:***@proxy.example:3128", "--ca=house.pem", "--no-x509-strict"]
    assert list(Options(**way).service.arguments()) == words
    assert list(Service().arguments()) == []


@pytest.mark.parametrize("url", ["http://proxy:3128", "http://zorg@proxy:3128", "https://[::1]:8443"])
def test_a_url_without_a_password_stays_as_it_is(url: str) -> None:
    assert hide_password(url) == url


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--proxy", "socks5://proxy:1080", "proxy must be a URL"),
        ("--ca", "missing.pem", "--ca names a file that cannot be read"),
    ],
)
def test_an_option_for_the_way_that_cannot_work_is_refused(
    path: Path, option: str, value: str, problem: str
) -> None:
    account = {"HEALTHMSG_TOKEN": "t", "HEALTHMSG_API_URL": SANDBOX.api_url}
    journal = path.parent / "j.db"
    for command in (("send-many", path, "--yes"), ("journal", "unknown", journal)):
        done = invoke(*command, option, value, env=account)

        assert done.code == 2
        assert problem in done.err


@pytest.mark.parametrize(
    ("name", "trusts"), [("https://api.example/v1", True), ("http://127.0.0.1:8030/v1", False)]
)
def test_the_environments_proxy_counts_for_other_machines(
    name: str, *, trusts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEALTHMSG_TOKEN", "t")
    monkeypatch.setenv("HEALTHMSG_API_URL", name)
    monkeypatch.setenv("HTTPS_PROXY", "socks5://canary:1080")

    if not trusts:
        Service().client()
        return
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY must be a URL"):
        Service().client()
