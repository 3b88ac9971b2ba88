"""The inbox without JavaScript."""

import re
import uuid

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.urls import resolve, reverse

from notifications import times
from notifications.api import notify, unread_count
from notifications.inbox import read_numbered_position
from notifications.models import Notification, Stream, uuid7
from notifications.streams.marking_seen import mark_seen

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]

INBOX = "/notifications/"


def html_of(response):
    return response.content.decode()


def unread_titles(user):
    rows = Notification.objects.filter(user=user, read_at__isnull=True, archived_at__isnull=True)
    return list(rows.order_by("raised").values_list("title", flat=True))


@pytest.mark.parametrize("url", [INBOX, f"/notifications/jobs/{uuid.UUID(int=7)}/"])
def test_signed_out_users_are_redirected_to_login(client, settings, url):
    """They get LOGIN_URL with ``next``. LoginRequiredMiddleware changes nothing."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    response = client.get(url)
    assert response.status_code == 302
    assert response["Location"] == f"{reverse(settings.LOGIN_URL)}?next={url}"


def test_signed_out_post_returns_to_the_inbox_after_login(client):
    """The URL of the form cannot be ``next``, because it takes POST only."""
    response = client.post(reverse("notifications:inbox-mark"), {"up_to": "1"})
    assert response["Location"].endswith(f"?next={INBOX}")


def test_pages_are_exempt_from_project_settings():
    """They number rows and commit at once, also with ATOMIC_REQUESTS."""
    for url in (INBOX, f"{INBOX}mark/", f"{INBOX}undo/", f"{INBOX}jobs/{uuid.UUID(int=7)}/"):
        view = resolve(url).func
        assert "default" in view._non_atomic_requests
        assert view.login_required is False


def test_empty_inbox(user_client):
    """It has a text, but no button."""
    page = html_of(user_client.get(INBOX))
    assert "When a job of yours finishes or asks you something, you'll see it here." in page
    assert "Mark all as read" not in page.split("</header>")[1]


def test_new_notifications_do_not_shift_pages(user_client, user):
    """No notification is shown on two pages."""
    for n in range(1, 31):
        notify(user, f"Number {n};")
    first = html_of(user_client.get(INBOX))
    assert first.index("Number 30;") < first.index("Number 6;")
    assert "Number 5;" not in first
    assert "?after=6" in first
    notify(user, "Number 31;")
    second = html_of(user_client.get(INBOX, {"after": "6"}))
    assert [f"Number {n};" in second for n in (6, 5, 1)] == [False, True, True]
    assert 'rel="next"' not in second


def test_full_last_page(user_client, user):
    for n in range(25):
        notify(user, f"Number {n}")
    assert 'rel="next"' not in html_of(user_client.get(INBOX))


def test_pending_notifications_are_numbered(user_client, user):
    """The process that created them was killed before numbering."""
    Notification.objects.create(
        id=uuid7(), user=user, title="Left over", created_at="2026-01-01T00:00:00Z", data="{}"
    )
    assert "Left over" in html_of(user_client.get(INBOX))


def test_position_of_the_page_matches_its_rows(user_client, user):
    """The client of the page resumes from the position of the list."""
    notify(user, "One")
    page = html_of(user_client.get(INBOX))
    position = read_numbered_position(user.pk)
    assert f'data-seq="{position.seq}"' in page
    assert f'newest="{position.seq}"' in page
    assert f'data-epoch="{position.epoch}"' in page


def test_archived_and_foreign_notifications_are_left_out(user_client, user, other_user):
    notify(user, "Kept")
    notify(user, "Put away")
    notify(other_user, "Not mine")
    Notification.objects.filter(title="Put away").update(archived_at="2026-01-01T00:00:00Z")
    page = html_of(user_client.get(INBOX))
    assert [title in page for title in ("Kept", "Put away", "Not mine")] == [True, False, False]


def test_text_is_escaped_and_external_links_have_no_opener(user_client, user):
    notify(user, "<b>bold</b>", body="<i>", url="https://example.org/?a=1&b=2")
    page = html_of(user_client.get(INBOX))
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert 'href="https://example.org/?a=1&amp;b=2" rel="noopener noreferrer"' in page


def test_mark_all_leaves_later_notifications_unread(user_client, user):
    """The form names the position of the page."""
    notify(user, "Seen")
    position_of_page = read_numbered_position(user.pk).seq
    notify(user, "Not seen")
    response = user_client.post(
        reverse("notifications:inbox-mark"), {"up_to": position_of_page, "all": "read"}
    )
    assert response.status_code == 303
    assert response["Location"].startswith(f"{INBOX}?changed=read-all-1-")
    assert unread_titles(user) == ["Not seen"]


def test_mark_all_counts_what_the_bell_has_counted(user_client, user):
    """Also what is in Done is read, and is unread again after Undo."""
    for title in ("One", "Two", "Three"):
        notify(user, title)
    Notification.objects.filter(title="One").update(archived_at=times.now(), seq=None)
    up_to = read_numbered_position(user.pk).seq
    page = user_client.post(
        reverse("notifications:inbox-mark"), {"up_to": up_to, "all": "read"}, follow=True
    ).text
    assert "2 marked as read." in page
    assert not Notification.objects.filter(read_at=None).exists()
    changed = re.search(r'name="changed" value="([^"]+)"', page)[1]
    user_client.post(reverse("notifications:inbox-undo"), {"changed": changed})
    assert Notification.objects.filter(read_at=None).count() == 3


def test_seen_is_marked_by_forms_and_not_by_reading_the_page(user_client, user):
    """The forms name the newest notification of their page: what was raised later stays unseen."""
    for title in ("One", "Two"):
        notify(user, title)
    page = html_of(user_client.get(INBOX))
    assert Stream.objects.get(user=user).unseen == 2
    assert page.count('name="seen" value="2"') == 1
    notify(user, "Later")
    one = Notification.objects.get(title="One")
    form = {"up_to": "1", "verb": "read", "id": str(one.pk), "seen": "2"}
    user_client.post(reverse("notifications:inbox-mark"), form)
    assert (unread_count(user), Stream.objects.get(user=user).unseen) == (2, 1)


def test_bell_without_javascript_shows_the_unseen(user_client, user):
    for title in ("One", "Two", "Three"):
        notify(user, title)
    mark_seen(user.pk, 2)
    assert '<span class="notifications-count">1</span>' in html_of(user_client.get(INBOX))
    mark_seen(user.pk, 3)
    assert "notifications-count" not in html_of(user_client.get(INBOX))


def test_mark_one_returns_to_the_same_page(user_client, user):
    for title in ("One", "Two"):
        notify(user, title)
    one = Notification.objects.get(title="One")
    form = {"up_to": one.raised, "one": f"read.{one.pk}", "query": "after=2"}
    response = user_client.post(reverse("notifications:inbox-mark"), form)
    assert response["Location"] == f"{INBOX}?after=2&changed=read-{one.pk.hex}"
    assert unread_titles(user) == ["Two"]


def test_notifications_of_other_users_are_not_marked(user_client, other_user):
    """Ids of other users are ignored."""
    notify(other_user, "Theirs")
    theirs = Notification.objects.get()
    form = {"up_to": "99", "verb": "read", "id": str(theirs.pk)}
    assert user_client.post(reverse("notifications:inbox-mark"), form).status_code == 303
    assert unread_titles(other_user) == ["Theirs"]


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"up_to": "-1"},
        {"up_to": "x"},
        {"up_to": "9" * 20},
        {"up_to": "1"},
        {"up_to": "1", "verb": "read", "id": "x"},
        {"up_to": "1", "verb": "delete", "id": str(uuid.UUID(int=7))},
        {"up_to": "1", "one": "read"},
        {"up_to": "1", "all": "unread"},
        {"up_to": "1", "all": "archive", "query": "view=unread"},
        {"up_to": "1", "all": "read", "query": "view=done"},
        {"up_to": "1", "all": "read", "query": "q=word"},
        {"up_to": "1", "all": "read", "query": "view=x"},
    ],
)
def test_invalid_form(user_client, form):
    """400, not 500."""
    assert user_client.post(reverse("notifications:inbox-mark"), form).status_code == 400


@pytest.mark.parametrize("after", ["x", "-1", "", "1e3", "9" * 20])
def test_invalid_page(user_client, after):
    """400, not 500."""
    assert user_client.get(INBOX, {"after": after}).status_code == 400


@pytest.mark.parametrize("method", ["get", "post"])
def test_database_unavailable(user_client, caplog, method, forgotten_log):
    """503 with Retry-After and a page, and the error is logged."""

    def fail(execute, sql, *args):
        if "notifications_" in sql:
            raise OperationalError("database is locked")
        return execute(sql, *args)

    with connection.execute_wrapper(fail):
        response = (
            user_client.get(INBOX)
            if method == "get"
            else user_client.post(reverse("notifications:inbox-mark"), {"up_to": 1, "all": "read"})
        )
    assert (response.status_code, response["Retry-After"]) == (503, "2")
    assert "<h1>Not available</h1><p>The database is not available. Go back and try again" in html_of(
        response
    )
    (record,) = [record for record in caplog.records if record.name == "notifications"]
    assert record.levelname == "WARNING" and record.getMessage().endswith(": database is locked")


def test_forms_need_a_csrf_token(user, client_of):
    """Also without CsrfViewMiddleware in the project."""
    strict = client_of(user, enforce_csrf_checks=True)
    assert strict.post(reverse("notifications:inbox-mark"), {"up_to": "1"}).status_code == 403


def test_methods_and_caching(user_client):
    assert user_client.head(INBOX).status_code == 200
    assert user_client.post(INBOX).status_code == 405
    assert user_client.get(reverse("notifications:inbox-mark")).status_code == 405
    assert "no-store" in user_client.get(INBOX)["Cache-Control"]


@pytest.mark.parametrize(
    "path", ["mark/", "undo/", f"jobs/{uuid.UUID(int=7)}/cancel/", f"jobs/{uuid.UUID(int=7)}/retry/"]
)
def test_user_is_checked_before_the_csrf_token(user, path):
    """Signed-out users are redirected to login. Signed-in ones get 403."""
    browser = Client(enforce_csrf_checks=True)
    response = browser.post(f"/notifications/{path}")
    assert response.status_code == 302 and "login" in response["Location"]
    browser.force_login(user)
    assert browser.post(f"/notifications/{path}").status_code == 403
