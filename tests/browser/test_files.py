"""The files of a user: in the bell, in the inbox, on the page of the job, and on a page of their own."""

import pytest
from playwright.sync_api import expect

from tests.browser.parts import find_bell, visit, wait_until_live
from tests.support.axe import find_violations

pytestmark = pytest.mark.browser

CREATE = """
from datetime import timedelta
from django.contrib.auth import get_user_model
from django.utils import timezone
from notifications.contrib.files.models import ResultFile
from notifications.testing import run_jobs
from tests.contrib.files import file_tasks
user = get_user_model().objects.get(username="demo")
of_orders = {"rows": 4_000, "name": "orders-2026.csv", "keep_days": 7}
file_tasks.export.using(owner=user, title="Export of orders 2026").enqueue(**of_orders)
names = ["Jahresbericht größe.pdf", f"{'a-very-long-name-' * 8}.xlsx", "old.zip"]
file_tasks.export_several.using(owner=user, title="Year end reports").enqueue(names)
while ResultFile.objects.count() < 4:  # the embedded worker may have got the jobs
    run_jobs()
ResultFile.objects.filter(name="old.zip").update(expires_at=timezone.now() - timedelta(days=1))
for row in ResultFile.objects.all(): print(row.name[:4], row.pk, row.job)
"""


def create(site):
    """Return the paths of the downloads and of the jobs, by the first letters of the names."""
    printed = site.python(CREATE)
    lines = [line.split() for line in printed.splitlines() if line.count(" ") == 2]
    return {key: (f"/notifications/files/{file}/", f"/notifications/jobs/{job}/") for key, file, job in lines}


@pytest.fixture
def page(new_page):
    """The page of a file that is gone is an error to the browser."""
    return new_page(errors=False, accept_downloads=True)


def download(page, link):
    """Follow a link, and return the name of the file and the beginning of what it leads to."""
    with page.expect_download() as found:
        link.click()
    return found.value.suggested_filename, found.value.path().read_text()[:10]


def test_it_is_downloaded_where_it_is_offered(site_server, page):
    """In the toast, the bell, the inbox, its page, and that of its job; and the page stays."""
    visit(page, site_server.url, "/check/")
    wait_until_live(page)
    paths = create(site_server)
    expected = ("orders-2026.csv", "0,größe 0\n")
    toast = page.locator(".notifications-toast", has_text="Export of orders")
    assert download(page, toast.get_by_role("link", name="Download")) == expected
    find_bell(page).click()
    panel = page.locator(".notifications-panel")
    assert download(page, panel.get_by_role("link", name="Download")) == expected
    assert page.url.endswith("/check/")
    page.goto(f"{site_server.url}/notifications/")
    inbox = page.locator("notifications-inbox")
    assert download(page, inbox.get_by_role("link", name="Download")) == expected
    inbox.get_by_role("link", name="Show files").click()
    files = page.get_by_role("region", name="Files")
    expect(files.get_by_role("listitem")).to_have_count(3)
    expect(files.get_by_role("link")).to_have_count(2)
    expect(files).to_contain_text("Expired")
    for path in ("/notifications/files/", paths["orde"][1]):
        page.goto(site_server.url + path)
        assert download(page, page.get_by_role("link", name="Download: orders-2026.csv")) == expected


@pytest.mark.nightly
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible(site_server, page, scheme):
    page.emulate_media(color_scheme=scheme)
    visit(page, site_server.url, "/check/")
    paths = create(site_server)
    for width in (1280, 380):
        page.set_viewport_size({"width": width, "height": 800})
        for path in ("/notifications/files/", paths["old."][1], paths["old."][0], "/notifications/"):
            page.goto(site_server.url + path)
            assert not find_violations(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.goto(site_server.url + paths["old."][0])
    expect(page.get_by_role("main")).to_contain_text("This file has expired.")
    page.get_by_role("link", name="Show the job").click()
    assert page.url.endswith(paths["old."][1])


def test_a_phone_has_the_link_to_files_in_the_preferences(site_server, page):
    page.set_viewport_size({"width": 380, "height": 800})
    visit(page, site_server.url, "/notifications/")
    page.locator(".notifications-heading").get_by_role("link", name="Preferences").click()
    expect(page.get_by_role("link", name="My files")).to_be_visible()
