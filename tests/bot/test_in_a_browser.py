"""The vendor's example bot, as a patient meets it: on the sandbox's page, in Chromium."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import async_playwright

from examples.vendor_bot.bot import set_up
from healthmsg import Client
from healthmsg.bot import Bot, Texts
from healthmsg.sandbox import Sandbox
from tests.sandbox.test_docs_browser import CHROMIUM, FLAGS
from tests.waiting import until

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
    *(pytest.mark.slow, pytest.mark.thorough),
]


@asynccontextmanager
async def example_bot(sandbox: Sandbox, store: Path) -> AsyncIterator[None]:
    """Run the bot."""
    async with Client(sandbox.issue_token(), environment=sandbox.environment) as client:
        bot = Bot(client, store=store, texts=Texts.english())
        set_up(bot)
        async with bot:
            running = asyncio.create_task(bot.run(signals=False))
            await until(lambda: bot.is_ready or running.done())
            try:
                yield
            finally:
                bot.stop()
                await running


async def test_a_patient_types_presses_buttons_and_sees_the_answers(tmp_path: Path) -> None:
    async with Sandbox(rate_limit=None, sample_data=False) as sandbox:
        chat = sandbox.add_conversation()
        async with example_bot(sandbox, tmp_path / "bot.db"), async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = await browser.new_page()
            page.set_default_timeout(15_000)
            await page.goto(f"{sandbox.url}/sandbox/")
            await page.locator("#chats button").first.click()
            await page.get_by_label("Message", exact=True).fill("Hi bot")
            await page.keyboard.press("Enter")
            said = page.locator("#messages")
            await said.get_by_text("I did not understand what you said").wait_for()
            await said.get_by_role("button", name="Help", exact=True).click()
            await said.get_by_text("'ping' - Ping me").wait_for()
            await said.get_by_role("button", name="Ping", exact=True).click()
            await said.get_by_text("PONG!").wait_for()
            assert await page.locator("#problem").inner_text() == ""
            await browser.close()
        mine = [
            one.body for one in sandbox.messages(f"conversations/{chat}") if one.sender_id == sandbox.user_id
        ]
    assert mine[-1] == "PONG!"
    assert len(mine) == 3
