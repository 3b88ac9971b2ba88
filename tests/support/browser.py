"""Chromium, driven by Playwright."""

import shutil
from contextlib import contextmanager

from tests.support.requirements import missing, program

ARGUMENTS = [
    "--no-sandbox",  # Chromium refuses to run as root with it.
    "--disable-quic",
    "--disable-background-networking",
]

#: Milliseconds within which a page is as it should be.
WAIT = 40_000


@contextmanager
def chromium():
    """A running Chromium, as Playwright's Browser.

    While it is open Playwright keeps an event loop in this thread: async tests and Django's ORM fail in it.
    """
    path = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or program("chromium", package="chromium")
    )
    try:
        from playwright.sync_api import expect, sync_playwright
    except ImportError:
        missing("playwright is not installed (pip install -r requirements-dev.txt).")
    expect.set_options(timeout=WAIT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


def sign_in(page, site_url, username="demo", password=None):
    """Sign in through the form and wait for the page that follows. The password is the name unless told."""
    page.goto(f"{site_url}/accounts/login/")
    page.locator("input[name=username]").fill(username)
    page.locator("input[name=password]").fill(password or username)
    page.locator("input[name=password]").press("Enter")
    page.wait_for_url(lambda url: "/accounts/login/" not in url)
    return page


def watch(page):
    """Errors of the page from now on, as a growing list: exceptions, and what Chromium logs as errors."""
    errors = []
    page.on("pageerror", lambda error: errors.append(f"exception: {error}"))
    page.on(
        "console",
        lambda message: errors.append(f"console: {message.text}") if message.type == "error" else None,
    )
    return errors
