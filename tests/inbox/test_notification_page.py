"""The page of one notification: its whole text, what became of it, and what its user can do with it."""

import html
import json
import re
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from notifications.api import notify
from notifications.contrib.deliveries.models import Delivery
from notifications.contrib.steps.models import Step
from notifications.models import Job, Notification
from notifications.streams import marking_seen
from tests.http.test_page_views import make_job

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]

BODY = "Line one.\n" + "A long text. " * 60
ERROR = "SMTPServerDisconnected: mail-7.internal.example"


def address(id):
    return reverse("notifications:notification", args=[id])


def read(client, id, **query):
    response = client.get(address(id), query)
    assert response.status_code == 200
    return html.unescape(response.content.decode())


def history(page):
    """Return the texts of the events on a page."""
    return re.findall(r"<li><span>(.*?)</span>", page)


def add_delivery(id, user, **fields):
    return Delivery.objects.create(
        notification=id,
        user=user,
        **{"channel": "email", "due_at": timezone.now(), "ended_at": timezone.now(), **fields},
    )


def add_job(id, user, **fields):
    """Give a notification its job."""
    now = timezone.now()
    job = make_job(user, **{"state": "succeeded", "started_at": now, "finished_at": now, **fields})
    Notification.objects.filter(id=id).update(job=job.pk)
    return job


def add_step(job, name):
    now = timezone.now()
    Step.objects.create(job=job.pk, name=name, attempt=1, result="1", started_at=now, ended_at=now)


def test_whole_text(user, user_client):
    (id,) = notify(user, "The export is ready", body=BODY, level="warning", url="/files/")
    page = read(user_client, id)
    assert BODY.strip() in page
    assert "Warning" in page
    assert 'href="/files/">Open<' in page
    assert history(page) == [] and "How you were notified" not in page


def test_inbox_links_to_it(user, user_client):
    (id,) = notify(user, "The export is ready")
    page = user_client.get("/notifications/").content.decode()
    assert f'href="{address(id)}"' in page


def test_events_for_the_user(user, user_client):
    """They are without ids of jobs and without the errors of servers, which are for the staff."""
    (id,) = notify(user, "The export is ready")
    marking_seen.mark_seen(user.pk, Notification.objects.get(id=id).raised)
    job = uuid4()
    add_delivery(id, user, state="failed", error=ERROR, job=job)
    add_delivery(id, user, channel="push", state="queued", error=ERROR, job=job, ended_at=None)
    page = read(user_client, id)
    assert set(history(page)) == {
        "E-mail: could not be sent.",
        "Push: is being sent.",
        "Shown in the bell or the inbox.",
    }
    assert "internal.example" not in page
    assert str(job) not in page


def test_delivery_that_is_to_come(user, user_client):
    """It has no time: how long ago it will be cannot be said."""
    (id,) = notify(user, "The export is ready")
    before = read(user_client, id).count("<time")
    add_delivery(id, user, state="pending", due_at=timezone.now() + timedelta(minutes=10), ended_at=None)
    page = read(user_client, id)
    assert history(page)[-1] == "E-mail: will be sent later, unless you see or read this before."
    assert page.count("<time") == before
    marking_seen.mark_seen(user.pk, Notification.objects.get(id=id).raised)
    assert "E-mail: not sent. The notification had been seen." in history(read(user_client, id))


def test_of_another_user(user, other_user, user_client):
    """It is answered like an id that does not exist."""
    (id,) = notify(other_user, "A secret")
    assert user_client.get(address(id)).status_code == 404
    assert user_client.get(address(uuid4())).status_code == 404


def test_signed_out(user, client):
    (id,) = notify(user, "The export is ready")
    response = client.get(address(id))
    assert response.status_code == 302
    assert "login" in response["Location"]


def test_verbs(user, user_client):
    (id,) = notify(user, "The export is ready")
    for verb, then in (("read", "unread"), ("archive", "unarchive")):
        page = read(user_client, id)
        assert f'value="{verb}.{id}"' in page
        (up_to,) = set(re.findall(r'name="up_to" value="(\d+)"', page))
        response = user_client.post(
            reverse("notifications:inbox-mark"), {"up_to": up_to, "one": f"{verb}.{id}"}
        )
        assert response.status_code == 303
        assert f'value="{then}.{id}"' in read(user_client, id)


def test_get_writes_nothing(user, user_client):
    (id,) = notify(user, "The export is ready")
    read(user_client, id)
    with CaptureQueriesContext(connection) as queries:
        read(user_client, id)
    statements = [query["sql"] for query in queries]
    assert not [sql for sql in statements if sql.startswith(("INSERT", "UPDATE", "DELETE"))]
    assert Notification.objects.get(id=id).read_at is None


@pytest.mark.parametrize("query", [{}, {"part": "pane"}], ids=["page", "pane"])
def test_number_of_queries_does_not_grow(user, user_client, query):
    def count():
        with CaptureQueriesContext(connection) as queries:
            read(user_client, id, **query)
        return len(queries)

    (id,) = notify(user, "The export is ready")
    job = add_job(id, user)
    add_delivery(id, user, channel="email", state="sent", address="a@b.example")
    add_delivery(id, user, channel="push", state="sent", address=str(uuid4()))
    add_step(job, "first")
    read(user_client, id)
    before = count()
    for number in range(3):
        notify(user, "Another one")
        add_step(job, f"step {number}")
    add_delivery(id, user, channel="push", state="sent", address=str(uuid4()))
    read(user_client, id)
    assert count() == before


def test_the_job(user, user_client, other_user):
    """Its state and its steps are shown, but not those of another user's."""
    (id,) = notify(user, "The export is ready")
    assert "data-job-row" not in read(user_client, id)
    job = add_job(id, user, state="failed")
    add_step(job, "read rows")
    page = read(user_client, id)
    assert 'data-state="failed"' in page and "read rows" in page
    job.user = other_user
    job.save()
    assert "data-job-row" not in read(user_client, id)


def test_content_of_the_pane(user, user_client):
    """It is that of the page, without the layout and without what would reload the inbox around it."""
    (id,) = notify(user, "The export is ready", body=BODY)
    add_job(id, user, state="running", finished_at=None)
    page, pane = read(user_client, id), read(user_client, id, part="pane")
    for text in (BODY.strip(), f'value="archive.{id}"', "<notifications-job"):
        assert text in page and text in pane
    for text in ("<html", "<title", "<script", "<h1", " reload "):
        assert text in page and text not in pane
    assert '<h2 dir="auto">The export is ready</h2>' in pane
    assert all(f'name="until" value="tomorrow.{id}"' in shown for shown in (page, pane))


@pytest.mark.parametrize("query", [{}, {"part": "pane"}], ids=["page", "pane"])
def test_the_outcome_of_its_job_and_the_buttons_come_before_the_tools(user, user_client, query):
    """The state and the reason are in place of the default body, which is the reason once more or "Succeeded."."""
    (id,) = notify(user, "Export", body="The disk is full.", level="error", category="job")
    error = json.dumps({"type": "task-failed", "title": "Failed", "detail": "The disk is full."})
    job = add_job(id, user, state="failed", error=error, title="Export")
    Notification.objects.filter(id=id).update(key=f"job:{job.pk}", url=f"/notifications/jobs/{job.pk}/")
    add_step(job, "read rows")
    page = read(user_client, id, **query).partition('<div class="notifications-page"')[2]
    texts = (
        *('dir="auto">Export<', "Category", ">Failed<", "The disk is full.", ">Try again<", ">Open<"),
        *(">Mark as read<", ">Done<", ">Snooze<", ">Mute “", ">read rows<"),
    )
    places = [page.index(text) for text in texts]
    assert places == sorted(places)
    assert page.count("The disk is full.") == 1 and page.count(f'/jobs/{job.pk}/"') == 1
    Job.objects.filter(pk=job.pk).update(state="succeeded", error=None)
    Notification.objects.filter(id=id).update(body="Succeeded.", level="success")
    page = read(user_client, id, **query).partition('<div class="notifications-page"')[2]
    assert page.partition("</main>")[0].count("Succeeded") == 1 and ">Try again<" not in page


def test_the_inbox_has_the_pane(user, user_client):
    """Of a group it shows the notification whose texts its row has."""
    levels = ["success", "error", "success"]
    _, failed, _ = [notify(user, "Import", group="Imports", level=level)[0] for level in levels]
    page = user_client.get("/notifications/").content.decode()
    assert 'aria-label="Reading pane"' in page
    assert f'data-named="{failed}"' in page
