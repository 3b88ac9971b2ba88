"""Every page in a language of tests: what is not translated has no brackets."""

import json
import re
from ast import literal_eval
from datetime import timedelta
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import django
import pytest
from django.urls import reverse
from django.utils import timezone

from notifications.api import notify
from notifications.models import Job, uuid7
from tests.support import pseudo_locale
from tests.support.pseudo_locale import CLOSING, OPENING

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.any_database,
    pytest.mark.nightly_on_old_django,
]

WORD = re.compile(r"[A-Za-z]{2,}")
SHOWN_ATTRIBUTES = {
    "title",
    "alt",
    "placeholder",
    "aria-label",
    "data-label",
    "data-notifications-send",
    "data-done",
}
#: Elements whose content is data, code or nothing that people read.
SKIPPED_ELEMENTS = {"script", "style", "code", "pre", "textarea", "time", "kbd"}
VOID_ELEMENTS = {"meta", "link", "input", "br", "img", "hr", "path", "line", "rect", "circle", "option"}


@cache
def read_django_texts():
    """Return a pattern of the English texts of Django, which not all of its languages translate."""
    folder = Path(django.__file__).parent
    catalogs = [
        *folder.glob("contrib/*/locale/en/LC_MESSAGES/django.po"),
        folder / "conf/locale/en/LC_MESSAGES/django.po",
    ]
    blocks = re.findall(
        r'^msgid(?:_plural)? ((?:".*"\n)+)', "".join(map(Path.read_text, catalogs)), re.MULTILINE
    )
    texts = {normalize("".join(map(literal_eval, block.splitlines()))) for block in blocks}
    placeholder = re.compile(r"%\(\w+\)\w|%\w|\{\w*\}")
    with_words = (placeholder.split(text) for text in texts if WORD.search(placeholder.sub("", text)))
    return re.compile("|".join(".*".join(map(re.escape, parts)) for parts in with_words))


def normalize(text):
    return " ".join(text.split())


def find_untranslated(html, allowed=()):
    """Return the texts and attributes of a page that have words outside of the brackets.

    ``allowed``
        Regular expressions of words that are data or the same in all languages.
    """
    collector = _Collector()
    collector.feed(html)
    known = read_django_texts()
    names = re.compile("|".join([r"https?://\S+", *allowed]))
    return [
        text
        for text in collector.texts
        if not known.fullmatch(text) and WORD.search(names.sub("", remove_brackets(text)))
    ]


def remove_brackets(text):
    """Return a text without what is in brackets, also in nested ones."""
    inner = re.compile(f"{OPENING}[^{OPENING}{CLOSING}]*{CLOSING}")
    while inner.search(text):
        text = inner.sub("", text)
    # A text that was shortened has lost its end.
    return re.sub(f"{OPENING}[^{CLOSING}]*…", "", text)


class _Collector(HTMLParser):
    """Collects the texts of a page, and its attributes that people see or hear."""

    def __init__(self):
        super().__init__()
        self.texts = []
        self.open = []
        self.depth = 0

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag not in VOID_ELEMENTS:
            self.open.append(tag)
        shown = [values[name] for name in SHOWN_ATTRIBUTES & values.keys()]
        if tag == "input" and values.get("type") in ("submit", "button"):
            shown.append(values.get("value", ""))
        self.texts += [text for value in shown if (text := normalize(value or ""))]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID_ELEMENTS:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        if SKIPPED_ELEMENTS & set(self.open) or not (text := normalize(data)):
            return
        # A translation with elements in it begins in one text and ends in another.
        text = OPENING * self.depth + text
        self.depth = max(0, text.count(OPENING) - text.count(CLOSING)) if not text.endswith("…") else 0
        self.texts.append(text + CLOSING * self.depth)


#: Names, units, formats, and the languages in their own words.
ALLOWED = [
    "Asyncsite", "Deutsch", "English", "Español", "Français", r"\bms\b", r"\bmin\b", "Django", "default",
    "application/json", r"Can \w+ [\w ]+", "SQLite file", "p50", "p95", "p99", "UTF-8", "F8", r"demo\w*", "text/plain",
    r"api\.example\.com\S*", r"\bUTC\b",
]  # fmt: skip


@pytest.fixture(autouse=True)
def pseudo(settings, tmp_path):
    settings.LOCALE_PATHS = [pseudo_locale.write_catalog(tmp_path)]
    settings.LANGUAGES = [*settings.LANGUAGES, (pseudo_locale.CODE, "Hebrew")]


@pytest.fixture
def person(make_user, client_of):
    user = make_user("demo1", is_staff=True, is_superuser=True)
    client = client_of(user)
    client.user = user
    client.cookies["django_language"] = pseudo_locale.CODE
    client.defaults["HTTP_ACCEPT"] = "text/html,*/*;q=0.8"
    return client


def expect_translated(response, allowed=()):
    html = response.content.decode()
    assert 'dir="rtl"' in html
    assert pseudo_locale.OPENING in html
    assert find_untranslated(html, [*ALLOWED, *allowed]) == []


def make_job(user, state, **fields):
    now = timezone.now()
    is_done = state in ("succeeded", "failed", "cancelled")
    return Job.objects.create(
        id=uuid7(), user=user, title="7", task_path="7", state=state, attempt=1, max_attempts=3,
        backend="default", queue_name="default", created_at=now, queued_at=now,
        started_at=now - timedelta(seconds=20), finished_at=now if is_done else None, **fields,
    )  # fmt: skip


def test_what_is_not_translated_is_found():
    """In texts and attributes, but not where the words are data."""
    html = (
        '<p title="⟦A ⟦b⟧ ~⟧">⟦Šàvé ~⟧ now</p><button aria-label="Fasten">⟦x⟧</button><code>raise</code>3 ms'
    )
    assert sorted(find_untranslated(html, [r"\bms\b"])) == ["Fasten", "⟦Šàvé ~⟧ now"]


def test_the_sign_in_and_errors(client):
    client.cookies["django_language"] = pseudo_locale.CODE
    expect_translated(client.get("/accounts/login/"))
    expect_translated(client.post("/accounts/login/", {"username": ""}))


def test_the_list_of_reports(person, make_report):
    expect_translated(person.get("/reports/"))
    make_report(owner=person.user, ok=[12], failed=1, refused=1, missing=2, title="7")
    expect_translated(person.get("/reports/"))
    for urls in ("", "x\nhttp://\nhttps://a b\nhttp://x:0/\n" + "y" * 2001, "x\n" * 1001):
        expect_translated(person.post("/reports/", {"urls": urls}), ["http\\w*", "x+", "y+"])
    html = person.get("/reports/").content.decode()
    strings = json.loads(re.search(r'id="paste-strings" type="application/json">(.*?)</script>', html)[1])
    assert all(text.startswith(pseudo_locale.OPENING) for text in strings.values())


@pytest.mark.parametrize("state", ["queued", "running", "succeeded", "failed", "cancelled"])
def test_a_report(person, make_report, state):
    error = json.dumps({"type": "error", "title": "7", "detail": "7"}) if state == "failed" else None
    job = make_job(person.user, state, progress_current=3, progress_total=9, error=error)
    report = make_report(
        owner=person.user, ok=[12, 700, 3000], failed=1, refused=1, missing=4, title="7", job_id=job.id
    )
    report.calls.exclude(error="").update(error="7")
    expect_translated(person.get(report.get_absolute_url()))
    expect_translated(person.get(report.get_absolute_url() + "?outcome=failed&q=7"))
    expect_translated(person.get(report.get_absolute_url() + "?outcome=refused&q=none"), ["none"])


def test_the_check_of_one_url(person):
    expect_translated(person.get("/check/"))
    expect_translated(person.post("/check/", {"url": ""}))
    expect_translated(person.post("/check/", {"url": "http://127.0.0.1:1/"}), ["http\\w*"])


def test_a_page_that_does_not_exist(person):
    expect_translated(person.get("/reports/99/"))


@pytest.mark.parametrize("state", ["queued", "running", "succeeded", "failed", "cancelled"])
def test_the_page_of_a_job(person, state):
    error = json.dumps({"type": "error", "title": "7", "detail": "7"}) if state == "failed" else None
    job = make_job(person.user, state, progress_current=3, progress_total=9, error=error)
    expect_translated(person.get(reverse("notifications:job", args=[job.id])))


def test_the_inbox_and_the_texts_of_the_client(person):
    expect_translated(person.get("/notifications/"))
    for level in ("info", "success", "warning", "error"):
        notify(person.user, "7", level=level)
    response = person.get("/notifications/")
    expect_translated(response)
    data = re.search(
        r'id="notifications-data" type="application/json">(.*?)</script>', response.content.decode()
    )[1]
    strings = json.loads(data)["strings"]
    assert [text for text in strings.values() if not text.startswith(pseudo_locale.OPENING)] == []


@pytest.mark.parametrize(
    "name",
    ["operations_overview_changelist", "job_changelist", "notification_changelist", "broadcasts_broadcast_changelist",
     "broadcasts_broadcast_add",
     "schedules_schedule_changelist", "operations_alert_changelist"],
)  # fmt: skip
def test_the_admin(person, name):
    make_job(person.user, "failed", error=json.dumps({"type": "error", "title": "7", "detail": "7"}))
    make_job(person.user, "running")
    notify(person.user, "7")
    expect_translated(person.get(reverse(f"admin:notifications_{name}")))


@pytest.mark.parametrize("state", ["queued", "running", "failed"])
def test_the_admin_of_a_job(person, state):
    error = json.dumps({"type": "error", "title": "7", "detail": "7"}) if state == "failed" else None
    job = make_job(person.user, state, progress_current=3, progress_total=9, error=error)
    expect_translated(person.get(reverse("admin:notifications_job_change", args=[job.id])), [str(job.id)])


def test_the_admin_of_a_notification(person):
    (id,) = notify(person.user, "7", data={"7": 7})
    expect_translated(
        person.get(reverse("admin:notifications_notification_change", args=[id])), [str(id), "UTC", "·"]
    )


def test_the_admin_of_the_site(person, make_report):
    report = make_report(owner=person.user, ok=[12], failed=1, title="7")
    report.calls.exclude(error="").update(error="7")
    for name, key in (("report", report.pk), ("call", report.calls.first().pk)):
        expect_translated(person.get(reverse(f"admin:asyncsite_{name}_changelist")))
        expect_translated(person.get(reverse(f"admin:asyncsite_{name}_change", args=[key])))


def test_preferences(person):
    notify(person.user, "7", category="7")
    expect_translated(person.get(reverse("notifications:preferences")))
    expect_translated(person.get("/notifications/?view=done"))
    expect_translated(person.get("/notifications/?q=7"))
