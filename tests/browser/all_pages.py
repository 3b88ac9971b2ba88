"""The pages of the site and of the app for tests that look at each of them, with something on all of them."""

import re
from uuid import UUID

from tests.browser.parts import create_report, visit
from tests.support.waiting import wait_until

CREATE = """
from django.contrib.auth import get_user_model
from notifications.api import notify
from tests.jobs import wait_tasks
user = get_user_model().objects.get(username="demo")
wait_tasks.ask_sync.using(owner=user).enqueue()
for n in range(60):
    notify(user, f"Number {n}", body="A body of one line.", url="/check/", category="reports" if n % 2 else "")
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
    "done": "/notifications/?view=done",
    "nothing found": "/notifications/?q=nothing",
    "notification": "/notifications/{notification}/",
    "action": "/notifications/{notification}/actions/0/",
    "preferences": "/notifications/preferences/",
    "job": "/notifications/jobs/{job}/",
    "waiting job": "/notifications/jobs/{waiting}/",
}


def find_job(site, state):
    """Return the id of the first job that reaches a state."""
    query = "SELECT id FROM notifications_job WHERE state = ? ORDER BY id LIMIT 1"
    [(id,)] = wait_until(lambda: site.rows(query, [state]), what=f"a job to be {state}")
    return UUID(str(id))


def create_content(site, page):
    """Sign a page in as the user demo, create what each page shows, and return the addresses by name."""
    output = site.python(CREATE)
    visit(page, site.url)
    report = create_report(page, site.url, [f"{site.url}/upstream/ok?n={n}" for n in range(3)], "Done")
    running = create_report(page, site.url, site.held_urls(3), "Running")
    job, waiting = find_job(site, "succeeded"), find_job(site, "waiting")
    names = {
        "report": report.removeprefix(site.url),
        "running": running.removeprefix(site.url),
        "notification": re.search(r"id: (\S+)", output)[1],
        "job": job,
        "waiting": waiting,
    }
    return {name: site.url + path.format(**names) for name, path in PAGES.items()}
