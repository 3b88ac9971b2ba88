"""No page of the admin hides a control beside the window, or beside the edge of a box, in any language and width."""

import pytest

from tests.browser.test_admin import CREATE_LIMITS, DJANGO, EXCESS, PAGES, admin_site  # noqa: F401 (a fixture)
from tests.support.axe import find_violations
from tests.support.browser import sign_in
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

#: Widths of the window, and whether Django's sidebar is open, which it hides on a phone.
WINDOWS = ((360, "true"), (768, "true"), (1280, "true"), (1280, "false"))

#: Failures of two owners, of a task with a long name, and with a long message; a row in each of the other lists.
FAIL = """
from django.contrib.auth import get_user_model
from django.utils import timezone
from notifications.contrib.broadcasts.models import Broadcast
from notifications.contrib.deliveries.models import Preference
from notifications.contrib.operations.models import Alert
from notifications.contrib.webhooks.models import WebhookEndpoint
now, user = timezone.now(), get_user_model().objects.get(username="demo")
detail = "Failing since 01:13: 154 of 437, ConnectTimeout at shop.tasks.fetch_orders, line 12, 61 people"
Alert.objects.create(kind="failures", subject="shop.tasks.fetch_orders", detail=detail, opened_at=now, seen_at=now)
times = {"created_at": now, "sent_at": now}
audience = {"audience_kind": "everybody", "audience_text": "Those affected by a failure: shop.tasks.fetch_orders"}
Broadcast.objects.create(title="Maintenance on Sunday", sender_id=user.pk, recipients=9, **audience, **times)
endpoint = {"url": "https://hooks.partner.example/notifications", "events": "job.succeeded job.failed"}
WebhookEndpoint.objects.create(user=user, secret="x", created_at=now, off_at=now, off_reason="failing", **endpoint)
choice = {"category": "a-category-with-a-long-name", "channel": "email", "choice": "hourly"}
Preference.objects.create(user=user, changed_at=now, **choice)
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


def find_hidden(site, page, names, *, with_axe=False):
    """Return hidden controls, and lists that scroll sideways, by page, width of the window and state of the sidebar."""
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
            for list_ in page.locator("#changelist-form .results").all():
                if (excess := list_.evaluate(EXCESS)) > 0:
                    found[name, width, is_open] = f"{excess} px of the list are beside its edge"
            if with_axe and (violations := find_violations(page, "#content", DJANGO)):
                found[name, width, is_open, "axe"] = violations
    return found


@pytest.mark.nightly
@pytest.mark.parametrize("language", ["en", "de", "es", "fr"])
def test_on_all_pages(full_site, new_page, language):
    page = sign_in(new_page(errors=False, locale=language), full_site.url, "admin")
    assert find_hidden(full_site, page, PAGES, with_axe=language == "en") == {}


def test_on_the_overview_in_a_language_with_long_words(full_site, new_page):
    page = sign_in(new_page(errors=False, locale="fr"), full_site.url, "admin")
    assert find_hidden(full_site, page, ["overview"]) == {}
