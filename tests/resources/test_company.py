"""The user's company, over the sandbox."""

import pytest

from healthmsg import Client, ImportUser
from healthmsg.resources.company import Company
from healthmsg.sandbox import Sandbox
from tests.foreign_host import ForeignHost


@pytest.fixture
def company(client: Client) -> Company:
    return client.company


async def test_the_company_is_that_of_the_user(client: Client, company: Company) -> None:
    found = await company.get()

    assert found.id == (await client.me.get()).company_id
    assert found.name
    assert found.name not in repr(found)


async def test_who_is_imported_is_given_and_listed(company: Company, sandbox: Sandbox) -> None:
    people = [
        ImportUser(email=f"{name}@x.example", first_name=name, last_name="X", username=name)
        for name in ("Bea", "Cas", "Dirk")
    ]

    imported = await company.import_users((person for person in people), send_email=False)

    assert [user.first_name for user in imported] == ["Bea", "Cas", "Dirk"]
    listed = {user.id async for user in company.users(page_size=2)}
    assert listed >= {user.id for user in imported}
    assert sum(call.method == "POST" for call in sandbox.calls) == 1


async def test_an_import_may_be_answered_with_an_empty_list() -> None:
    async with ForeignHost() as host, host.client() as client:
        host.answer("/company/import", b"[]", status=201)
        person = ImportUser(email="a@b.nl", first_name="", last_name="X")
        assert await client.company.import_users([person], send_email=True) == ()


async def test_an_import_may_be_accepted_without_a_word() -> None:
    person = ImportUser(email="b@x.example", first_name="Bea", last_name="X")
    async with ForeignHost() as host, host.client() as client:
        host.answer("/company/import", b"", status=204)

        assert await client.company.import_users([person], send_email=False) == ()
