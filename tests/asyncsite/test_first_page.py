"""The first page of a browser contains the files that later pages link."""

import base64
import hashlib
import re

import pytest
from playwright.sync_api import expect

from asyncsite import first_page
from tests.support.browser import sign_in

NAVIGATION = {"Sec-Fetch-Dest": "document"}
FILES = {"theme.js", "site.css", "notifications.css"}


def read_sizes(page):
    """Return the bytes that were transferred for each file of a page, by the name of the file."""
    entries = page.evaluate(
        "performance.getEntriesByType('resource').map(({ name, transferSize }) => [name, transferSize])"
    )
    return {name.rpartition("/")[2]: size for name, size in entries}


def linked_files(html):
    """Return the files that block the first paint of a page."""
    html = re.sub("<template.*?</template>", "", html, flags=re.DOTALL)
    return re.findall(r'<(?:link rel="stylesheet" href|script src)="/static/([^"]+)"', html)


def test_first_page_contains_its_files_as_the_policy_allows_them(person):
    """The script of the theme and both style sheets; nothing else blocks the first paint."""
    response = person.get("/reports/", headers=NAVIGATION)
    html = response.content.decode()
    assert not linked_files(html)
    inline = re.findall(r"<(?:script|style)>(.*?)</(?:script|style)>", html, re.DOTALL)
    policy = response.headers["Content-Security-Policy"]
    assert len(inline) == 3
    for text in inline:
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy
        assert "@import" not in text
    assert not re.search(r'url\((?!"data:)', "".join(inline))


@pytest.mark.parametrize(
    ("headers", "stored"),
    [({}, ""), ({"Sec-Fetch-Dest": "empty"}, ""), (NAVIGATION, first_page.version())],
    ids=["a browser that says nothing", "a script", "a browser that has stored this version"],
)
def test_other_pages_link_them(person, headers, stored):
    """Those of the app only for users."""
    person.cookies["files"] = stored
    files = ["asyncsite/theme.js", "asyncsite/site.css", "notifications/bundle/notifications.css"]
    assert linked_files(person.get("/reports/", headers=headers).content.decode()) == files
    person.logout()  # which forgets all cookies
    person.cookies["files"] = stored
    assert linked_files(person.get("/accounts/login/", headers=headers).content.decode()) == files[:2]


@pytest.mark.parametrize("headers", [{"Cookie": "files=older"}, {"Cache-Control": "no-cache"}], ids=str)
def test_a_new_version_and_a_page_without_the_cache_contain_them(client, db, headers):
    headers = {"Cookie": f"files={first_page.version()}"} | headers | NAVIGATION
    assert not linked_files(client.get("/accounts/login/", headers=headers).content.decode())


@pytest.mark.browser
def test_the_browser_stores_them_for_later_pages_when_the_user_turns_to_a_link(site_server, new_page):
    page = new_page()
    sign_in(page, site_server.url)
    page.wait_for_function("async () => (await notifications.ready).client.state === 'live'")
    assert not FILES & read_sizes(page).keys()
    page.hover("nav a")
    page.wait_for_function("() => document.cookie.includes('files=')")
    page.goto(f"{site_server.url}/check/")
    expect(page.locator("head > link[rel=stylesheet]")).not_to_have_count(0)
    sizes = read_sizes(page)
    assert [sizes[name] for name in FILES] == [0, 0, 0]
