"""Staff write a notification, see a preview with the number of recipients, confirm, and it is sent by a job."""

import re
from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError

from notifications.contrib.broadcasts.models import Broadcast
from notifications.exceptions import TooManyJobs
from notifications.models import Job, Notification
from notifications.testing import run_jobs
from tests.support.statements import refused

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/notifications_broadcasts/broadcast/"
COMPOSER = f"{LIST}add/"
MESSAGE = {"title": "Maintenance at 22:00", "level": "warning"}
TO_EVERYBODY = {**MESSAGE, "audience_kind": "everybody"}


@pytest.fixture
def staff(sign_in_staff):
    return sign_in_staff("add_notification", "withdraw_broadcast", "view_notification")


@pytest.fixture
def preview(client):
    """preview(form) sends the form and returns the page of the preview."""

    def send(form):
        response = client.post(COMPOSER, form)
        assert response.status_code == 200
        return response

    return send


def hidden_fields(page):
    """Return the fields that the buttons of a preview send, in lists."""
    fields = {}
    for tag in re.findall(r"<input type=\"hidden\"[^>]*>", page):
        name, value = (re.search(rf'{key}="([^"]*)"', tag) for key in ("name", "value"))
        fields.setdefault(name[1], []).append(unescape(value[1]) if value else "")
    return {name: values for name, values in fields.items() if name != "csrfmiddlewaretoken"}


def errors_of(response):
    return {name: list(errors) for name, errors in response.context["adminform"].form.errors.items()}


def said(response):
    return [str(message) for message in response.context["messages"]]


def test_from_form_to_recipients(client, staff, user, other_user, preview):
    """Nothing is sent before the confirmation. The page of the broadcast shows how it goes, the log who sent it."""
    assert "Send a notification" in client.get(COMPOSER).text
    form = {
        **TO_EVERYBODY,
        "body": "For an hour.\r\nSorry.",
        "url": "/status/",
        "category": "ops",
    }
    page = preview(form)
    assert "Send to 3 users" in page.text
    assert not Broadcast.objects.exists() and not Job.objects.exists()
    sent = client.post(COMPOSER, {**hidden_fields(page.text), "_send": "1"}, follow=True)
    broadcast = Broadcast.objects.get()
    assert sent.redirect_chain == [(f"{LIST}{broadcast.pk}/change/", 302)]
    assert "Waiting to be sent" in sent.text
    run_jobs(raise_errors=True)
    rows = Notification.objects.filter(broadcast=broadcast.pk)
    assert sorted(rows.values_list("user_id", flat=True)) == sorted([staff.pk, user.pk, other_user.pk])
    note = rows.get(user=user)
    assert (note.title, note.body) == ("Maintenance at 22:00", "For an hour.\nSorry.")
    assert (note.url, note.level, note.category) == ("/status/", "warning", "ops")
    assert Job.objects.get().user_id == staff.pk
    [entry] = LogEntry.objects.filter(user=staff)
    assert (entry.object_id, entry.change_message) == (str(broadcast.pk), "Sent to 3 users. Everybody")


def test_preview_has_the_markup_of_the_inbox(client, staff, preview):
    """Icon, link, text and time are those that a reader sees."""
    form = {
        **MESSAGE,
        "body": "For <b>an</b> hour.",
        "url": "https://status.example/",
        "audience_kind": "staff",
    }

    def summary(page):
        found = re.search(r'<div class="notifications-summary">.*?</div>', page, re.S)[0]
        return re.sub(r"\s+", " ", re.sub(r" target=\"_blank\"|<time.*?</time>", "", found))

    page = preview(form).text
    client.post(COMPOSER, {**hidden_fields(page), "_send": "1"})
    run_jobs(raise_errors=True)
    Notification.objects.filter(broadcast=None).delete()
    inbox = client.get("/notifications/").text
    assert summary(page) == summary(inbox) and "For &lt;b&gt;an&lt;/b&gt; hour." in page


def test_sent_twice_is_sent_once(client, staff, preview):
    """By a double click, or with the browser's button to go back."""
    fields = hidden_fields(preview(TO_EVERYBODY).text)
    for _click in range(2):
        response = client.post(COMPOSER, {**fields, "_send": "1"}, follow=True)
    assert "It is not sent again." in said(response)[-1]
    assert Broadcast.objects.count() == Job.objects.count() == 1
    assert LogEntry.objects.count() == 1


def test_edit_shows_what_was_typed(client, staff, preview):
    group = Group.objects.create(name="editors")
    staff.groups.add(group)
    form = {**MESSAGE, "body": "One\nTwo", "audience_kind": "groups", "groups": [group.pk]}
    fields = hidden_fields(preview(form).text)
    page = client.post(COMPOSER, {**fields, "_edit": "1"}).text
    assert 'value="Maintenance at 22:00"' in page and "One\nTwo</textarea>" in page
    assert re.search(rf'name="groups" value="{group.pk}"[^>]*checked', page)
    assert re.search(r'name="audience_kind" value="groups"[^>]*checked', page)


AUDIENCES = {
    "users": ({"users": "ada, bob\ngone"}, "Users: ada, bob, gone", "Send to 2 users"),
    "groups": ({"groups": ["1"]}, "Members of groups: editors", "Send to 1 user"),
    "permission": (
        {"permission": "notifications.view_notification"},
        "Holders of a permission: notifications.view_notification",
        "Send to 1 user",
    ),
    "staff": ({}, "All staff", "Send to 1 user"),
    "everybody": ({}, "Everybody", "Send to 3 users"),
}


@pytest.mark.parametrize("kind", AUDIENCES)
def test_each_audience(client, staff, user, other_user, make_user, preview, kind):
    """Users who are not active are left out, and the preview says so if they were named."""
    make_user("gone", is_active=False)
    Group.objects.create(pk=1, name="editors")
    user.groups.add(1)
    fields, description, button = AUDIENCES[kind]
    page = preview({**MESSAGE, "audience_kind": kind, **fields}).text
    assert f"<dd>{description}</dd>" in page and f'value="{button}"' in page
    assert ("1 of the named users is not active and left out" in page) == (kind == "users")
    client.post(COMPOSER, {**hidden_fields(page), "_send": "1"})
    run_jobs(raise_errors=True)
    sent = Notification.objects.exclude(broadcast=None).count()
    assert str(sent) in button and Broadcast.objects.get().audience_text == description


BAD_FORMS = {
    "nothing": (
        {"title": "", "audience_kind": ""},
        {"title": "This field is required.", "audience_kind": "Choose who gets it."},
    ),
    "long title": ({"title": "x" * 201}, {"title": "at most 200 characters (it has 201)"}),
    "long text": ({"body": "x" * 2001}, {"body": "at most 2000 characters (it has 2001)"}),
    "NUL": ({"body": "a\0b"}, {"body": "Null characters are not allowed."}),
    "script": ({"url": "javascript:alert(1)"}, {"url": "It must be a path that begins with one '/'"}),
    "other host": ({"url": "//example.com"}, {"url": "It must be a path that begins with one '/'"}),
    "space": ({"url": "/a b"}, {"url": "contains a space"}),
    "level": ({"level": "loud"}, {"level": "loud is not one of the available choices"}),
    "audience": ({"audience_kind": "aliens"}, {"audience_kind": "aliens is not one of"}),
    "no users": ({"audience_kind": "users"}, {"users": "Write the name of at least one user."}),
    "unknown": (
        {"audience_kind": "users", "users": "ada, adda\nbobb"},
        {"users": "There are no users with these names: adda, bobb. Check the spelling."},
    ),
    "inactive only": (
        {"audience_kind": "users", "users": "gone"},
        {"users": "No active user is among the recipients."},
    ),
    "many names": (
        {"audience_kind": "users", "users": "\n".join(map(str, range(1001)))},
        {"users": "These are 1001 names. At most 1000 are allowed."},
    ),
    "no group": ({"audience_kind": "groups"}, {"groups": "Choose at least one group."}),
    "unknown group": ({"audience_kind": "groups", "groups": ["77"]}, {"groups": "77 is not one of"}),
    "empty group": ({"audience_kind": "groups", "groups": ["1"]}, {"groups": "No active user is among"}),
    "no permission": ({"audience_kind": "permission"}, {"permission": "Choose a permission."}),
    "unknown permission": (
        {"audience_kind": "permission", "permission": "a.b"},
        {"permission": "a.b is not one of"},
    ),
}


@pytest.mark.parametrize("case", BAD_FORMS)
@pytest.mark.parametrize("button", ["_preview", "_send"])
def test_bad_input_is_named_at_its_field(client, staff, user, make_user, case, button):
    """And keeps what was typed. A confirmation is checked as the form is."""
    make_user("gone", is_active=False)
    Group.objects.create(pk=1, name="empty")
    fields, expected = BAD_FORMS[case]
    form = {**TO_EVERYBODY, **fields}
    response = client.post(COMPOSER, {**form, button: "1"})
    errors = errors_of(response)
    assert set(errors) == set(expected)
    for name, text in expected.items():
        assert text in " ".join(errors[name])
        assert f'href="#id_{name}' in response.text
    if "body" in fields and "\0" not in fields["body"]:
        assert fields["body"] in response.text
    if "users" in fields:
        assert fields["users"].splitlines()[-1] in response.text
    assert not Broadcast.objects.exists()


def test_fields_of_other_audiences_are_not_checked(staff, preview):
    """They are hidden when another audience is chosen."""
    form = {**TO_EVERYBODY, "users": "no-such-user", "groups": ["77"], "permission": "a.b"}
    assert "Send to 1 user" in preview(form).text


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TooManyJobs(5), "There are 5 active jobs already."),
        (ImproperlyConfigured("The engine has no broker."), "The engine has no broker."),
    ],
    ids=["too many jobs", "no engine"],
)
def test_failed_confirmation_can_be_repeated(client, staff, preview, error, expected):
    """The preview is shown again with a message, and its button sends the same notification."""
    fields = hidden_fields(preview(TO_EVERYBODY).text)
    with refused('INTO "notifications_broadcasts_broadcast"', error=lambda text: error):
        response = client.post(COMPOSER, {**fields, "_send": "1"})
    assert expected in said(response)[0]
    assert hidden_fields(response.text) == fields
    client.post(COMPOSER, {**fields, "_send": "1"})
    assert Broadcast.objects.count() == 1


def test_a_confirmation_while_the_database_is_busy(client, staff, preview):
    """A page says so. Going back shows the preview, whose button sends the same notification."""
    fields = hidden_fields(preview(TO_EVERYBODY).text)
    error = OperationalError("database is locked")
    with refused('INTO "notifications_broadcasts_broadcast"', error=lambda text: error):
        response = client.post(COMPOSER, {**fields, "_send": "1"})
    assert response.status_code == 503 and "Go back and try again" in response.text
    client.post(COMPOSER, {**fields, "_send": "1"})
    assert Broadcast.objects.count() == 1


def test_many_groups_are_a_list(client, staff):
    Group.objects.bulk_create([Group(name=f"group {number}") for number in range(31)])
    assert re.search(r'<select name="groups"[^>]* multiple', client.get(COMPOSER).text)


def test_others_have_no_button(client, sign_in_staff):
    link = f'href="{COMPOSER}" class="addlink">Send a notification</a>'
    sign_in_staff("view_notification", "view_broadcast")
    pages = ("/admin/notifications/notification/", LIST)
    assert not any(link in client.get(page).text for page in pages)


def test_senders_have_a_button_on_both_lists(client, staff):
    link = f'href="{COMPOSER}" class="addlink">Send a notification</a>'
    for page in ("/admin/notifications/notification/", LIST):
        assert link in client.get(page).text
