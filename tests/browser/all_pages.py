"""The pages of the site and of the app for tests that look at each of them, with something on all of them."""

import re
from uuid import UUID

from playwright.sync_api import expect

from tests.browser.parts import create_report, visit, wait_until_live
from tests.support.browser import sign_in
from tests.support.push_service import vapid_key
from tests.support.waiting import wait_until

CREATE = """
from django.contrib.auth import get_user_model
from notifications.api import notify
from notifications.contrib.deliveries.models import PushSubscription
from tests.contrib.files import file_tasks
from tests.contrib.questions import question_tasks
from tests.support.push_service import browser_keys
user = get_user_model().objects.get(username="demo")
for task in (question_tasks.ask_sync, question_tasks.ask_by_form, file_tasks.export): task.using(owner=user).enqueue()
seen = dict.fromkeys(("created_at", "seen_at"), "2026-01-01T00:00:00Z") | dict(name="Firefox on Linux", language="en")
PushSubscription.objects.create(user=user, endpoint="https://push.example.com/1", **browser_keys()[1], **seen)
for n in range(60): notify(user, f"Number {n}", body="One line.", url="/check/", category="reports" if n % 2 else "")
actions = [{"label": "Approve", "post": "/accounts/logout/"}, {"label": "Check", "url": "/check/"}]
print("id:", notify(user, "Request", actions=actions)[0])
"""

#: The addresses by the names of the pages; in braces what `create_content()` has created.
PAGES = {
    "reports": "/reports/",
    "report": "{report}",
    "running report": "{running}",
    "check": "/check/",
    "inbox": "/notifications/",
    "unread": "/notifications/?view=unread",
    "questions": "/notifications/?view=questions",
    "done": "/notifications/?view=done",
    "files": "/notifications/files/",
    "nothing found": "/notifications/?q=nothing",
    "notification": "/notifications/{notification}/",
    "action": "/notifications/{notification}/actions/0/",
    "preferences": "/notifications/preferences/",
    "job": "/notifications/jobs/{job}/",
    "waiting job": "/notifications/jobs/{waiting}/",
    "question": "/notifications/jobs/{waiting}/questions/{question}/",
    "question with a form": "/notifications/jobs/{asked}/questions/{form}/",
    "devices": "/notifications/devices/",
    "style": "/style/",
}
#: The page of the admin that is the app's own, and the element with what is not Django's.
COMPOSER, COMPOSER_PART = "/admin/notifications_broadcasts/broadcast/add/", ".notifications-composer"


def start_with_push(site):
    """Start a site that has all pages."""
    keys = {"private_key": vapid_key(), "subject": "mailto:admin@site.example"}
    site.notifications["WEB_PUSH"] = keys
    site.start_web()
    return site


def wait_for_page(page):
    """Wait until a page is connected, if it has the client."""
    if page.locator("script[data-notifications]").count():
        wait_until_live(page)


def open_composer(site, page):
    """Sign in as staff, and fill in the composer, until it shows the message and the number of its recipients."""
    # Django's own navigation, which it moves when its script runs, stays closed.
    page.add_init_script("localStorage.setItem('django.admin.navSidebarIsOpen', 'false')")
    sign_in(page, site.url, "admin")
    page.goto(site.url + COMPOSER)
    page.get_by_label("Title").first.fill("Maintenance on Sunday, 22:00 to 23:00")
    page.get_by_label("Everybody").check()
    expect(page.locator(f"{COMPOSER_PART} [role=status]")).to_have_text("3 active users get it.")
    expect(page.locator(f"{COMPOSER_PART} .notifications-title").first).to_contain_text("Maintenance")


def find_job(site, state):
    """Return the id of the first job that reaches a state."""
    query = "SELECT id FROM notifications_job WHERE state = ? ORDER BY id LIMIT 1"
    return UUID(str(wait_until(lambda: site.rows(query, [state]), what=f"a job to be {state}")[0][0]))


def read_questions(site):
    """Return the ids of both questions and of their jobs by name, None until there are both."""
    rows = dict(site.rows("SELECT name, id || ' ' || job FROM notifications_wait WHERE kind = 'question'"))
    if {"ship", "approve"} - set(rows):
        return None
    (question, waiting), (form, asked) = (map(UUID, rows[name].split()) for name in ("ship", "approve"))
    return {"question": question, "waiting": waiting, "form": form, "asked": asked}


def create_content(site, page):
    """Sign a page in as the user demo, create what each page shows, and return the addresses by name."""
    output = site.python(CREATE)
    visit(page, site.url)
    report = create_report(page, site.url, [f"{site.url}/upstream/ok?n={n}" for n in range(3)], "Done")
    running = create_report(page, site.url, site.held_urls(3), "Running")
    questions = wait_until(lambda: read_questions(site), what="both questions")
    names = {
        **questions,
        "report": report.removeprefix(site.url),
        "running": running.removeprefix(site.url),
        "notification": re.search(r"id: (\S+)", output)[1],
        "job": find_job(site, "succeeded"),
    }
    return {name: site.url + path.format(**names) for name, path in PAGES.items()}
