"""The browser of the tests."""

import pytest
from playwright.sync_api import Error

pytestmark = [pytest.mark.browser, pytest.mark.nightly]


def test_the_next_window_after_a_crash_is_one_of_a_new_chromium(new_page):
    """Otherwise a crash would fail all tests that follow in its module."""
    session = new_page().context.browser.new_browser_cdp_session()
    with pytest.raises(Error):
        session.send("Browser.crash")
    page = new_page()
    page.goto("data:text/html,<title>Alive</title>")
    assert page.title() == "Alive"
