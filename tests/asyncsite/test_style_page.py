"""The page /style/, which shows the tokens and the parts of the pages in all their states."""

import re
from pathlib import Path

import pytest
from django.test.signals import template_rendered

from asyncsite.models import Report
from asyncsite.style.tokens import read_tokens
from notifications.models import Job, Notification

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("debug", [False, True])
def test_it_exists_in_development_only(client, user_client, settings, debug):
    settings.DEBUG = debug
    for browser in (client, user_client):
        assert browser.get("/style/").status_code == (200 if debug else 404)


def test_no_page_links_to_it(user_client, development):
    for path in ("/reports/", "/check/", "/notifications/"):
        assert "/style/" not in user_client.get(path).content.decode()


def test_it_has_every_state(client, development):
    """The states of jobs, the levels of notifications, and the texts of an outage and of errors."""
    html = client.get("/style/").content.decode()
    for state in Job.State.values:
        assert f'data-state="{state}"' in html
    for level in Notification.Level.values:
        assert f'data-level="{level}"' in html
    for text in (
        "99+",
        "Queued, retry at",
        "Can&#x27;t reach the server",
        "Nothing is unread.",
        "Line 3 has no host name",
        "The report goes on, and this page continues",
        "Delete this report and 24 recorded calls?",
    ):
        assert text in html.replace("Can't", "Can&#x27;t"), text  # fmt: skip


def test_its_samples_are_not_stored(client, development, django_assert_num_queries):
    with django_assert_num_queries(0):
        client.get("/style/")
    assert not any(model.objects.exists() for model in (Job, Notification, Report))


def test_the_tokens_are_those_of_the_style_sheets():
    tokens = {group: {token.name: token.value for token in found} for group, found in read_tokens().items()}
    assert tokens["colors"]["accent"] == "#1d5fd0 / #7eb0ff"
    assert tokens["spaces"]["space-16"] == "16px"
    assert tokens["radii"] == {"radius": "6px"}
    assert tokens["sizes"] == {"small": "0.875rem", "large": "1.25rem", "huge": "1.75rem"}
    # Both sheets have one palette, so that the app's parts fit into the site.
    app, colors = tokens["app"], tokens["colors"]
    assert len(app) == 11
    assert app["bell"] == "currentColor"  # That of the text around it.
    assert {name: colors[name] for name in app if "#" in app[name] and name != "surface"} == {
        name: value for name, value in app.items() if "#" in value and name != "surface"
    }
    assert set(app) | set(tokens["derived"]) > set(colors)


def test_each_token_of_the_app_says_what_it_is_for():
    found = read_tokens()
    assert all(token.use for token in found["app"] + found["derived"])


def test_its_looks_are_those_of_the_documentation():
    root = Path(__file__).parents[2]
    documented = (root / "docs/how-to/theming.md").read_text()
    looks = (root / "asyncsite/static/asyncsite/looks.css").read_text()
    for name, properties in re.findall(r':root\[data-look="(\w+)"\] \{(.*?)\}', looks, re.S):
        assert f"*{name.capitalize()}*" in documented and f":root {{{properties}}}" in documented


#: Templates of the app that the page does not show, and why.
NOT_SHOWN = {
    "bell.html": "elements that its script would take for live ones",
    "inbox.html": "its parts are shown",
    "inbox_pane.html": "the script of the inbox fills it, with a page that is shown",
    "inbox_part.html": "what it includes is shown",
    "pane.html": "what it surrounds is shown",
    "inbox_shortcuts.html": "a dialog that the script of the inbox opens",
    "inbox_view.html": "a sheet that a button of the toolbar opens",
    "inbox_view_button.html": "a button of a list without rows",
    "preferences.html": "its rows are shown",
    "job_question.html": "what it includes is shown",
    "rate.html": "a line of a job that waits for a limit",
    "file_gone.html": "a page of a file that has expired",
    "file_row.html": "a row of the next two",
    "files_page.html": "its rows are those of the page of a job",
    "job_files.html": "the files of a job that has made some",
    **dict.fromkeys(("schedule_row.html", "schedules_page.html"), "a page that a project opens"),
    "output.html": "an element that reads the output of a job",
    **dict.fromkeys(
        ("digest.html", "email.html", "email_button.html", "email_page.html", "email_row.html"),
        "tests/browser/test_emails.py",
    ),
}


def test_it_shows_every_template_of_the_app(client, development):
    """A new one is shown too, or named above."""
    rendered = []
    template_rendered.connect(record := lambda template, **kwargs: rendered.append(template.name))
    try:
        client.get("/style/")
    finally:
        template_rendered.disconnect(record)
    package = Path(__file__).parents[2] / "notifications"
    names = {path.name for path in package.glob("**/templates/notifications/*.html")}
    assert names - {str(name).removeprefix("notifications/") for name in rendered} == set(NOT_SHOWN)
