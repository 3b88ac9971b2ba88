"""Pages of lists: rows that change between two pages are neither repeated nor skipped."""

import pytest
from django.test import Client

from notifications.api import notify
from notifications.models import Job, Notification
from notifications.streams import marking
from tests.data.rows import job
from tests.http.conftest import assert_problem
from tests.realtime.rows import finish

pytestmark = pytest.mark.nightly_on_old_django

JOBS, NOTIFICATIONS = "/notifications/api/jobs/", "/notifications/api/notifications/"

#: For tests with notifications, which are numbered after a commit.
with_commits = pytest.mark.django_db(transaction=True)


def pages(client, url, between, **query):
    """Return the ids of all items, page by page. ``between`` is called with the page number after each page."""
    found, after = [], None
    for number in range(100):
        data = client.get(
            url, {**query, "limit": 3, **({"after": after} if after is not None else {})}
        ).json()
        found.append([item["id"] for item in data["items"]])
        after = data["next"]
        if after is None:
            return found
        between(number)
    raise AssertionError("The list has more than 100 pages.")


def flatten(pages):
    return [id for page in pages for id in page]


def test_jobs_enqueued_between_pages(user_client, user):
    """New jobs come before the first page, so the following pages do not shift."""
    ids = [str(job(user).pk) for _ in range(10)][::-1]
    assert flatten(pages(user_client, JOBS, lambda number: job(user))) == ids


def test_jobs_changed_between_pages(user_client, user):
    """Jobs keep their place when they finish."""
    ids = [job(user) for _ in range(10)]
    done = iter(ids[::-1])
    found = pages(user_client, JOBS, lambda number: finish(next(done)))
    assert flatten(found) == [str(row.pk) for row in ids[::-1]]


def test_jobs_deleted_between_pages(user_client, user):
    """Also when the last job of a page, where the next one continues, is deleted."""
    ids = [str(job(user).pk) for _ in range(10)][::-1]
    found = pages(user_client, JOBS, lambda number: Job.objects.filter(pk=ids[3 * number + 2]).delete())
    assert flatten(found) == ids


def test_jobs_that_leave_the_state(user_client, user):
    """They are left out from then on, and no other job is skipped."""
    ids = [job(user) for _ in range(9)]
    finish(ids[8])
    gone = iter([ids[0], ids[1]])
    found = flatten(pages(user_client, JOBS, lambda number: finish(next(gone)), state="queued"))
    assert found == [str(row.pk) for row in ids[7:1:-1]]


@with_commits
def test_notifications_created_between_pages(user_client, user):
    ids = [str(notify(user, "note")[0]) for _ in range(10)][::-1]
    assert flatten(pages(user_client, NOTIFICATIONS, lambda number: notify(user, "new"))) == ids


@with_commits
def test_notifications_read_between_pages(user_client, user):
    """They get a new seq but keep their place, because the order is that of ``raised``."""
    ids = [str(notify(user, "note")[0]) for _ in range(10)][::-1]

    def read(number):
        marking.mark(user.pk, "read", 10, [Notification.objects.get(pk=ids[9 - number]).pk])

    assert flatten(pages(user_client, NOTIFICATIONS, read)) == ids


@with_commits
def test_notifications_archived_between_pages(user_client, user):
    """Those that come later are left out, and no other one is skipped."""
    ids = [str(notify(user, "note")[0]) for _ in range(10)][::-1]
    found = pages(
        user_client, NOTIFICATIONS, lambda number: marking.mark(user.pk, "archive", 10, [ids[number], ids[9]])
    )
    assert flatten(found) == ids[:9]


@with_commits
@pytest.mark.parametrize(("count", "sizes"), [(0, [0]), (2, [2]), (3, [3]), (4, [3, 1]), (6, [3, 3])])
def test_the_last_page(count, sizes, user_client, user):
    """``next`` is null on the last page, also if it is full: no empty page follows."""
    for _ in range(count):
        job(user)
        notify(user, "note")
    for url in (JOBS, NOTIFICATIONS):
        assert [len(page) for page in pages(user_client, url, lambda number: None)] == sizes


def test_cursor_of_another_user(user_client, user, other_user):
    """A cursor is a position only, and shows no jobs of that user."""
    _, mine, theirs = job(other_user), job(user), job(other_user)
    data = user_client.get(JOBS, {"after": str(theirs.pk)}).json()
    assert [item["id"] for item in data["items"]] == [str(mine.pk)]


def vary_of(response):
    return {name.strip() for name in response["Vary"].split(",")}


class TestHeaders:
    """Headers for caches and clients."""

    @pytest.fixture
    def mine(self, user):
        return job(user)

    @pytest.mark.parametrize("tail", ["jobs/", "jobs/{}/", "notifications/", "sync/"])
    def test_no_store_and_vary(self, tail, user_client, mine):
        response = user_client.get(f"/notifications/api/{tail.format(mine.pk)}")
        assert response.status_code == 200
        assert response["Cache-Control"] == "no-store"
        assert vary_of(response) >= {"Accept", "Cookie", "Prefer"}

    @pytest.mark.parametrize("tail", ["jobs/", "jobs/{}/", "notifications/", "sync/"])
    def test_head_has_the_headers_of_get(self, tail, user_client, mine):
        url = f"/notifications/api/{tail.format(mine.pk)}"
        get, head = user_client.get(url), user_client.head(url)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("ETag", "Cache-Control", "Vary", "Content-Type", "Retry-After"):
            assert head.headers.get(name) == get.headers.get(name), name

    def test_not_modified(self, user_client, mine):
        """304 has the headers of 200 except those of the body."""
        url = f"/notifications/api/jobs/{mine.pk}/"
        whole = user_client.get(url)
        known = user_client.get(url, headers={"If-None-Match": whole["ETag"]})
        assert (known.status_code, known.content) == (304, b"")
        for name in ("ETag", "Cache-Control", "Vary", "Retry-After"):
            assert known[name] == whole[name], name

    def test_etag_changes_with_the_job(self, user_client, mine):
        tags = []
        for change in (lambda: None, lambda: finish(mine)):
            change()
            tags.append(user_client.get(f"/notifications/api/jobs/{mine.pk}/")["ETag"])
        assert len(set(tags)) == 2 and all(tag.startswith('"') for tag in tags)

    @pytest.mark.parametrize("accept", ["application/json", "text/html"])
    def test_accepted(self, accept, user_client):
        """Redirects are not cached either: the back button must not find one that enqueues nothing."""
        response = user_client.post("/plain/", headers={"Accept": accept})
        assert response.status_code in (202, 303) and response["Cache-Control"] == "no-store"
        assert vary_of(response) >= {"Accept", "Cookie", "Prefer"}

    def test_problem(self, db):
        response = Client().get(JOBS)
        assert_problem(response, 401)
        assert vary_of(response) >= {"Accept", "Cookie", "Prefer"}
