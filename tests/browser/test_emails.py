"""The HTML of the e-mails in Chromium: light, dark, narrow and from right to left.

SCREENSHOTS=folder keeps a picture of each, to be looked at.
"""

import os
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone, translation

from notifications.api import notify
from notifications.contrib.deliveries.models import Delivery, Preference
from notifications.models import Job
from notifications.testing import run_jobs
from tests.browser.test_style_page import FIND_WIDE
from tests.contrib.questions import question_tasks
from tests.support import pseudo_locale
from tests.support.axe import find_violations
from tests.support.driver import driver
from tests.support.duties import enqueue_deliveries

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

User = get_user_model()
LONG = "https://files.example/" + "a-very-long-name-" * 9


def send(kind, language):
    """Send an e-mail of a kind to a new user."""
    user = User.objects.create_user(kind, email=f"{kind}@users.example")
    with translation.override(language):
        if kind == "question":
            other = User.objects.create_user("lovelace", first_name="Ada", last_name="Lovelace")
            task = question_tasks.ask_about_draft.using(owner=user, title=f"Letters of {LONG}")
            task.enqueue(to=[user.pk, other.pk], argument="")
            run_jobs()
        elif kind == "notification":
            body = f"It has 12,480 rows.\n\nIt is stored for 30 days at {LONG}"
            notify(user, "The export of all orders of October is ready", body=body, url="/exports/1/")
        else:
            for category in ("export", "comments", ""):
                choice = {"channel": "email", "choice": "hourly", "changed_at": timezone.now()}
                Preference.objects.create(user=user, category=category, **choice)
                for number in range(20):
                    title = f"The export {number} is ready" if number else f"Ready: {LONG}"
                    notify(user, title, body="It has 12,480 rows. " * (number % 3 * 8), category=category)
    Delivery.objects.update(due_at=timezone.now())
    enqueue_deliveries()
    Job.objects.filter(state="queued").update(run_after=None, due_at=None)
    run_jobs()


KINDS = ("notification", "digest", "question")
WINDOWS = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "narrow": {"viewport": {"width": 380, "height": 800}},
    "narrow-dark": {"viewport": {"width": 380, "height": 800}, "color_scheme": "dark"},
}
#: Rules for pages, which the text of an e-mail has not: the program that shows it has the landmarks.
RULES_OF_PAGES = ("region", "landmark-one-main")
#: Cells with text that have less than half of the card: a column beside them takes their place.
FIND_NARROW = """() => {
    const width = document.querySelector(".card").clientWidth;
    return [...document.querySelectorAll(".card td:not(.button, .choice)")]
        .filter((cell) => cell.innerText.trim().length > 2 && cell.clientWidth < 0.5 * width)
        .map((cell) => cell.outerHTML.slice(0, 120));
}"""
READ_COLORS = """() => {
    const style = getComputedStyle(document.querySelector(".card"));
    return [style.backgroundColor, style.color];
}"""


@pytest.fixture(scope="module", params=["en", pseudo_locale.CODE])
def emails(request, sites, tmp_path_factory):
    """The HTML of the e-mails by their kinds, in a language."""
    site = sites.make()
    site.environment["TEST_LOCALE_PATH"] = str(pseudo_locale.write_catalog(tmp_path_factory.mktemp("locale")))
    site.notifications |= {"SITE_URL": "https://site.example", "DELIVERY": {"*": [{"email": 0}]}}
    with driver(site, __name__) as actions:
        for kind in KINDS:
            actions.call("send", kind=kind, language=request.param)
    site.close()
    found = {}
    files = (site.folder / "mail").iterdir()
    for text in b"\n".join(path.read_bytes() for path in files).split(b"\n" + b"-" * 79 + b"\n"):
        if text.strip():
            message = message_from_bytes(text.lstrip(), policy=policy.default)
            found[message["To"].partition("@")[0]] = message.get_body(["html"]).get_content()
    assert sorted(found) == sorted(KINDS)
    return request.param, found


@pytest.mark.nightly
@pytest.mark.parametrize("window", WINDOWS)
def test_it_fits_and_is_accessible(emails, new_page, window):
    language, found = emails
    page = new_page(**WINDOWS[window])
    for kind, html in found.items():
        page.set_content(html)
        if folder := os.environ.get("SCREENSHOTS"):
            name = f"email-{kind}-{language}-{window}.png"
            page.screenshot(path=Path(folder) / name, full_page=True)
        width, available = page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert width <= available, kind
        assert page.evaluate(FIND_WIDE) == [], kind
        assert find_violations(page, disabled=RULES_OF_PAGES) == [], kind
        assert page.evaluate(FIND_NARROW) == [], kind
        background, color = page.evaluate(READ_COLORS)
        light, dark = (max(map(int, text[4:-1].split(", "))) for text in (background, color))
        assert (light < dark) == ("dark" in window), (kind, background, color)


@pytest.mark.nightly_names("*[he]")
def test_it_loads_nothing(emails, new_page):
    """No picture and no font: what an e-mail loads tells the sender that it was read."""
    page, requests = new_page(), []
    page.on("request", lambda request: requests.append(request.url))
    for html in emails[1].values():
        page.set_content(html, wait_until="networkidle")
    assert requests == []
