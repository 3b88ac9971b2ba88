"""The inbox and the page of a job, as a browser without JavaScript meets them."""

import json
import uuid

import pytest
from django.db import OperationalError
from django.test import Client
from django.urls import reverse

from notifications.api import notify
from notifications.http import page_views
from notifications.ids import uuid7
from notifications.jobs.transitions import manual
from notifications.models import Job, Notification
from notifications.streams import pages
from tests.data.rows import finish_job, job
from tests.support.claims import claim_rows

pytestmark = pytest.mark.django_db(transaction=True)

INBOX = "/notifications/"


def text(response):
    return response.content.decode()


def unread(user):
    rows = Notification.objects.filter(user=user, read_at__isnull=True, archived_at__isnull=True)
    return list(rows.order_by("raised").values_list("title", flat=True))


def make_job(user, **fields):
    now = fields.pop("created_at", None) or "2026-01-01T00:00:00Z"
    defaults = {
        "task_path": "t.task",
        "backend": "default",
        "queue_name": "default",
        "title": "Count the rows",
    }
    return Job.objects.create(id=uuid7(), user=user, created_at=now, queued_at=now, **defaults | fields)


@pytest.mark.parametrize("address", [INBOX, f"/notifications/jobs/{uuid.UUID(int=7)}/"])
def test_signed_out_leads_to_the_sign_in_and_back(client, settings, address):
    """LOGIN_URL, with the page as next; a middleware that requires a login changes nothing."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    response = client.get(address)
    assert response.status_code == 302
    assert response["Location"] == f"{reverse(settings.LOGIN_URL)}?next={address}"


def test_signed_out_marking_leads_back_to_the_inbox(client):
    """A form that was open while the session ended: the sign-in, then the inbox, which a GET can show."""
    response = client.post(reverse("notifications:inbox-read"), {"up_to": "1"})
    assert response["Location"].endswith(f"?next={INBOX}")


def test_pages_hold_no_transaction_open():
    """ATOMIC_REQUESTS leaves them alone: what they number is committed at once."""
    for view in (page_views.inbox, page_views.mark_read, page_views.job_detail):
        assert "default" in view._non_atomic_requests
        assert view.login_required is False


def test_an_empty_inbox_says_what_it_is_for(user_client):
    """One sentence, no button to mark nothing."""
    page = text(user_client.get(INBOX))
    assert "There are no notifications." in page
    assert "Mark all as read" not in page.split("</header>")[1]


def test_newest_first_in_pages_that_do_not_shift(user_client, user):
    """25 a page; what comes meanwhile does not push a row onto the next page again."""
    for n in range(1, 31):
        notify(user, f"Number {n};")
    first = text(user_client.get(INBOX))
    assert first.index("Number 30;") < first.index("Number 6;")
    assert "Number 5;" not in first
    assert "?after=6" in first
    notify(user, "Number 31;")
    second = text(user_client.get(INBOX, {"after": "6"}))
    assert [f"Number {n};" in second for n in (6, 5, 1)] == [False, True, True]
    assert 'rel="next"' not in second


def test_exactly_a_page_has_no_next_one(user_client, user):
    """25 notifications are one page."""
    for n in range(pages.PAGE_SIZE):
        notify(user, f"Number {n}")
    assert 'rel="next"' not in text(user_client.get(INBOX))


def test_what_waits_for_its_number_is_numbered_first(user_client, user):
    """Committed by a process that died before numbering: on the page all the same."""
    Notification.objects.create(
        id=uuid7(), user=user, title="Left over", created_at="2026-01-01T00:00:00Z", data="{}"
    )
    assert "Left over" in text(user_client.get(INBOX))


def test_the_page_carries_the_position_that_its_rows_have(user_client, user):
    """The bell on it starts where the list ends."""
    notify(user, "One")
    page = text(user_client.get(INBOX))
    here = pages.read_stream_position(user.pk)
    assert f'data-seq="{here.seq}"' in page
    assert f'newest="{here.seq}"' in page
    assert f'data-epoch="{here.epoch}"' in page


def test_archived_and_others_are_left_out(user_client, user, other_user):
    """Mine only, and none that I put away."""
    notify(user, "Kept")
    notify(user, "Put away")
    notify(other_user, "Not mine")
    Notification.objects.filter(title="Put away").update(archived_at="2026-01-01T00:00:00Z")
    page = text(user_client.get(INBOX))
    assert [title in page for title in ("Kept", "Put away", "Not mine")] == [True, False, False]


def test_text_is_escaped_and_links_outside_have_no_opener(user_client, user):
    """Markup is shown as it was written."""
    notify(user, "<b>bold</b>", body="<i>", url="https://example.org/?a=1&b=2")
    page = text(user_client.get(INBOX))
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert 'href="https://example.org/?a=1&amp;b=2" rel="noopener noreferrer"' in page


def test_marking_all_spares_what_came_after_the_page(user_client, user):
    """The form says up to where the user_client has seen."""
    notify(user, "Seen")
    seen = pages.read_stream_position(user.pk).seq
    notify(user, "Not seen")
    response = user_client.post(reverse("notifications:inbox-read"), {"up_to": seen})
    assert (response.status_code, response["Location"]) == (303, INBOX)
    assert unread(user) == ["Not seen"]


def test_marking_one_leaves_the_rest_and_comes_back_to_the_same_page(user_client, user):
    """The id that the form names, and the page it stood on."""
    for title in ("One", "Two"):
        notify(user, title)
    one = Notification.objects.get(title="One")
    form = {"up_to": one.raised, "id": str(one.pk), "after": "2"}
    assert user_client.post(reverse("notifications:inbox-read"), form)["Location"] == f"{INBOX}?after=2"
    assert unread(user) == ["Two"]


def test_marking_more_than_one_call_takes(user_client, user, monkeypatch):
    """All means all, although each transaction takes a limited number."""
    monkeypatch.setattr("notifications.streams.inbox.MAX_MARKED_ROWS", 2)
    for n in range(5):
        notify(user, f"Number {n}")
    user_client.post(reverse("notifications:inbox-read"), {"up_to": "5"})
    assert unread(user) == []


def test_nobody_marks_for_another(user_client, other_user):
    """Somebody else's id is ignored."""
    notify(other_user, "Theirs")
    theirs = Notification.objects.get()
    user_client.post(reverse("notifications:inbox-read"), {"up_to": "99", "id": str(theirs.pk)})
    assert unread(other_user) == ["Theirs"]


@pytest.mark.parametrize(
    "form", [{}, {"up_to": "-1"}, {"up_to": "x"}, {"up_to": "9" * 20}, {"up_to": "1", "id": "x"}]
)
def test_a_form_that_is_wrong_is_a_bad_request(user_client, form):
    """400, never an error of ours."""
    assert user_client.post(reverse("notifications:inbox-read"), form).status_code == 400


@pytest.mark.parametrize("after", ["x", "-1", "", "1e3", "9" * 20])
def test_a_wrong_page_is_a_bad_request(user_client, after):
    """400, never an error of ours."""
    assert user_client.get(INBOX, {"after": after}).status_code == 400


@pytest.mark.parametrize("place", ["pages.read_stream_position", "mark_all_read"])
def test_a_database_that_is_away_is_said_in_words(user_client, monkeypatch, caplog, place):
    """503 with Retry-After, not an error of ours; the log says what it was."""

    def away(*args):
        raise OperationalError("no such table")

    monkeypatch.setattr(f"notifications.http.page_views.{place}", away)
    response = (
        user_client.get(INBOX)
        if place != "mark_all_read"
        else user_client.post(reverse("notifications:inbox-read"), {"up_to": 1})
    )
    assert (response.status_code, response["Retry-After"]) == (503, "2")
    assert "The database is not available. Go back and try again" in text(response)
    assert_logged_with_its_traceback(caplog)


def assert_logged_with_its_traceback(caplog):
    (record,) = [record for record in caplog.records if record.name == "notifications"]
    assert (record.levelname, record.exc_info[0]) == ("WARNING", OperationalError)


def test_forms_need_their_token(user, client_of):
    """CSRF protection holds, whatever middleware the project has."""
    strict = client_of(user, enforce_csrf_checks=True)
    assert strict.post(reverse("notifications:inbox-read"), {"up_to": "1"}).status_code == 403


def test_methods_and_storing(user_client):
    """Pages answer HEAD, refuse what they do not do, and are never stored."""
    assert user_client.head(INBOX).status_code == 200
    assert user_client.post(INBOX).status_code == 405
    assert user_client.get(reverse("notifications:inbox-read")).status_code == 405
    assert "no-store" in user_client.get(INBOX)["Cache-Control"]


def test_a_job_that_runs_shows_how_far_it_is(user_client, user):
    """Progress in the HTML, reloaded without a script, replaced live with one."""
    job = make_job(user, state="running", attempt=2, max_attempts=3, progress_current=3, progress_total=8)
    page = text(user_client.get(f"/notifications/jobs/{job.pk}/"))
    assert '<progress aria-label="Progress" max="8" value="3">' in page
    assert "3 of 8" in page
    assert "attempt 2 of 3" in page
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in page
    assert f'<notifications-progress job="{job.pk}" href="/notifications/api/jobs/{job.pk}/" reload>' in page


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"state": "succeeded", "result": json.dumps({"rows": 3})}, "{\n  &quot;rows&quot;: 3\n}"),
        ({"state": "succeeded", "result": json.dumps("<done>")}, "&lt;done&gt;"),
        ({"state": "succeeded", "result": "null", "url": "/reports/7/"}, 'href="/reports/7/"'),
        ({"state": "failed", "error": json.dumps({"title": "Failed", "detail": "No answer."})}, "No answer."),
        ({"state": "cancelled"}, "Cancelled"),
    ],
)
def test_a_job_that_is_done_shows_what_came_out(user_client, user, fields, shown):
    """The result, the link to it, or the error in words; and it does not reload."""
    job = make_job(user, seq=1, **fields)
    page = text(user_client.get(f"/notifications/jobs/{job.pk}/"))
    assert shown in page
    assert "http-equiv" not in page
    assert "<notifications-progress" not in page


def test_somebody_elses_job_is_not_found(user_client, other_user):
    """Exactly like one that does not exist."""
    job = make_job(other_user)
    for id in (job.pk, uuid.uuid4()):
        assert user_client.get(f"/notifications/jobs/{id}/").status_code == 404


@pytest.mark.parametrize(
    ("url", "page"), [("/exports/7/", "/exports/7/"), ("", None), ("https://example.com/", None)]
)
def test_cancel_and_try_again_lead_to_where_the_job_is_shown(user_client, user, url, page):
    """Its own address in this site, or its page here: never to another site."""
    row = make_job(user, state="queued", url=url)
    page = page or f"/notifications/jobs/{row.pk}/"
    for verb, state in (("cancel", "cancelled"), ("retry", "queued")):
        response = user_client.post(f"/notifications/jobs/{row.pk}/{verb}/")
        assert (response.status_code, response["Location"]) == (303, page)
        assert Job.objects.get().state == state


@pytest.mark.parametrize(
    "path", ["read/", f"jobs/{uuid.UUID(int=7)}/cancel/", f"jobs/{uuid.UUID(int=7)}/retry/"]
)
def test_who_is_signed_out_is_asked_to_sign_in_before_the_token(user, path):
    """Who is signed in, and sends none, is refused."""
    browser = Client(enforce_csrf_checks=True)
    response = browser.post(f"/notifications/{path}")
    assert response.status_code == 302 and "login" in response["Location"]
    browser.force_login(user)
    assert browser.post(f"/notifications/{path}").status_code == 403


class TestJobButtons:
    """Cancel and retry on the page of a job, which work without JavaScript."""

    def page(self, client, row):
        return client.get(reverse("notifications:job", args=[row.pk])).content.decode()

    def test_cancel_and_try_again(self, user_client, user):
        """A button for what can be done, without JavaScript; both lead back to the page."""
        row = job(user)
        cancel_at, retry_at = (
            reverse(f"notifications:job-{verb}", args=[row.pk]) for verb in ("cancel", "retry")
        )
        assert [at in self.page(user_client, row) for at in (cancel_at, retry_at)] == [True, False]
        response = user_client.post(cancel_at)
        assert (response.status_code, response["Location"]) == (
            303,
            reverse("notifications:job", args=[row.pk]),
        )
        page = self.page(user_client, row)
        assert [at in page for at in (cancel_at, retry_at)] == [False, True]
        assert "It was cancelled." in page
        user_client.post(retry_at)
        assert Job.objects.get().state == "queued"

    def test_while_it_is_being_cancelled(self, user_client, user):
        row = job(user)
        claim_rows(uuid7(), 1)
        manual.cancel([row.pk], by=user.pk)
        page = self.page(user_client, row)
        assert "This job is being cancelled." in page and "job-cancel" not in page
        assert reverse("notifications:job-cancel", args=[row.pk]) not in page

    def test_a_success_offers_nothing(self, user_client, user):
        finish_job(row := job(user), uuid7())
        assert "<form" not in self.page(user_client, row).partition("<main>")[2]

    @pytest.mark.parametrize("verb", ["cancel", "retry"])
    def test_somebody_elses(self, verb, user_client, other_user):
        row = job(other_user)
        assert user_client.post(reverse(f"notifications:job-{verb}", args=[row.pk])).status_code == 404
        assert user_client.post(reverse(f"notifications:job-{verb}", args=[uuid.uuid4()])).status_code == 404
        assert Job.objects.get().version == 1

    def test_too_many(self, user_client, user, settings):
        row = job(user)
        manual.cancel([row.pk])
        job(user)
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 1}
        response = user_client.post(reverse("notifications:job-retry", args=[row.pk]))
        assert response.status_code == 429 and b"too many unfinished jobs" in response.content
