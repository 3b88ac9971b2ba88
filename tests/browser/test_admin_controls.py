"""No page of the admin hides a control beside the window, or beside the edge of a box, in any language and width."""

import pytest

from tests.browser.test_admin import CREATE_LIMITS, PAGES, admin_site  # noqa: F401 (a fixture)
from tests.support.browser import sign_in
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

#: Widths of the window, and whether Django's sidebar is open, which it hides on a phone.
WINDOWS = ((360, "true"), (768, "true"), (1280, "true"), (1280, "false"))

#: Failures of two owners, of a task with a long name, and with a long message.
FAIL = """
from django.contrib.auth import get_user_model
from tests.jobs import tasks
for owner in get_user_model().objects.filter(username__in=["demo", "admin"]):
    tasks.fail_with_what_is_no_json.using(owner=owner).enqueue()
    tasks.fail_sync.using(owner=owner).enqueue("GET https://partner.example/v1/orders?since=2026-11-30 timed out")
"""

#: Controls that are drawn, but not to be seen without scrolling sideways. What has no size or is clipped on purpose,
#: as a link to skip to the content, is not drawn.
FIND_HIDDEN = """() => {
    const found = [];
    const controls = "a[href], button, input:not([type=hidden]), select, textarea, summary";
    for (const node of document.querySelectorAll(`#content :is(${controls})`)) {
        const { left, right, width, height } = node.getBoundingClientRect();
        if (!node.checkVisibility({ visibilityProperty: true }) || width < 2 || height < 2) continue;
        let [from, to] = [0, document.documentElement.clientWidth];
        for (let box = node.parentElement; box; box = box.parentElement) {
            const { overflowX, clipPath } = getComputedStyle(box);
            if (clipPath !== "none") [from, to] = [-Infinity, Infinity];
            if (overflowX === "visible" || box === document.documentElement) continue;
            const edge = box.getBoundingClientRect();
            [from, to] = [Math.max(from, edge.left), Math.min(to, edge.right)];
        }
        if (left < from - 1 || right > to + 1)
            found.push([node.localName, node.name || node.textContent.trim(), left, right, from, to].join(" "));
    }
    return found;
}"""


@pytest.fixture
def full_site(admin_site):  # noqa: F811
    """A running site with all that operators change, as well as failures with long texts."""
    admin_site.python(CREATE_LIMITS)
    admin_site.python(FAIL)
    count = "SELECT count(*) FROM notifications_job WHERE state = 'failed'"
    wait_until(lambda: admin_site.rows(count)[0][0] == 29, what="all jobs to fail")
    return admin_site


def find_hidden(site, page, names):
    """Return the hidden controls by the name of the page, the width of the window and the state of the sidebar."""
    [(job,)] = site.rows("SELECT id FROM notifications_job WHERE state = 'failed' LIMIT 1")
    found = {}
    page.goto(f"{site.url}{PAGES['index']}")
    for width, is_open in WINDOWS:
        page.set_viewport_size({"width": width, "height": 800})
        page.evaluate("(value) => localStorage.setItem('django.admin.navSidebarIsOpen', value)", is_open)
        for name in names:
            page.goto(site.url + PAGES[name].format(job=job))
            if controls := page.evaluate(FIND_HIDDEN):
                found[name, width, is_open] = controls
    return found


@pytest.mark.nightly
@pytest.mark.parametrize("language", ["en", "de", "es", "fr"])
def test_on_all_pages(full_site, new_page, language):
    page = sign_in(new_page(errors=False, locale=language), full_site.url, "admin")
    assert find_hidden(full_site, page, PAGES) == {}


def test_on_the_overview_in_a_language_with_long_words(full_site, new_page):
    page = sign_in(new_page(errors=False, locale="fr"), full_site.url, "admin")
    assert find_hidden(full_site, page, ["overview"]) == {}
