"""The page of the sandbox, as a person uses it: in Chromium, without a network."""

import shutil
from collections.abc import AsyncIterator
from typing import Final

import pytest
from attrs import field, frozen
from playwright.async_api import Locator, Page, async_playwright
from yarl import URL

from healthmsg.sandbox import Sandbox

FLAGS: Final = (
    "--headless",
    "--no-sandbox",  # it refuses to start as root otherwise, and opens our own page only
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
CHROMIUM: Final = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"), pytest.mark.slow]


@frozen
class Browsed:
    """A page, where it went, and what it complained about."""

    page: Page
    requests: list[URL] = field(factory=list)
    complaints: list[str] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.page.context.on("request", lambda request: self.requests.append(URL(request.url)))
        self.page.context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        self.page.context.on(
            "console",
            lambda message: self.complaints.append(message.text) if message.type == "error" else None,
        )

    def operation(self, name: str) -> Locator:
        """Return the part of the page that is about one operation."""
        return self.page.locator(f"[id$='-{name}']")

    async def execute(self, name: str) -> str:
        """Try an operation out, and give what the page shows of the answer."""
        operation = self.operation(name)
        await operation.locator(".opblock-summary-control").click()
        await operation.get_by_role("button", name="Try it out").click()
        await operation.get_by_role("button", name="Execute").click()
        return await operation.locator(".live-responses-table").inner_text()


@pytest.fixture
async def browsed(sandbox: Sandbox) -> AsyncIterator[Browsed]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        browsed = Browsed(await browser.new_page())
        browsed.page.set_default_timeout(15_000)
        await browsed.page.goto(f"{sandbox.url}/docs")
        await browsed.page.get_by_role("button", name="Authorize").click()
        yield browsed
        await browser.close()
    assert browsed.complaints == []
    assert {url.origin() for url in browsed.requests} == {URL(sandbox.url)}


async def test_a_call_can_be_tried_with_a_token(browsed: Browsed, sandbox: Sandbox) -> None:
    await browsed.page.get_by_label("auth-bearer-value").fill(sandbox.issue_token())
    await browsed.page.get_by_role("button", name="Apply credentials").click()
    await browsed.page.locator(".btn-done").first.click()

    shown = await browsed.execute("getMe")

    assert "200" in shown
    assert sandbox.store.people[sandbox.user_id].first_name in shown
    assert await browsed.page.locator(".opblock").count() == 71


async def test_a_call_can_be_tried_after_signing_in(browsed: Browsed, sandbox: Sandbox) -> None:
    async with browsed.page.expect_popup():
        await browsed.page.get_by_role("button", name="Apply given OAuth2 credentials").click()
    await browsed.page.get_by_role("button", name="Remove authorization").wait_for()
    await browsed.page.locator(".btn-done").first.click()

    shown = await browsed.execute("getMe")

    assert "200" in shown
    assert sandbox.store.people[sandbox.user_id].first_name in shown
