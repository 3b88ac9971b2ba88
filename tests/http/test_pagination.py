"""Pages of lists: whatever comes, goes or changes between two of them, none is shown twice and none passed over."""

import pytest
from django.test import Client

from notifications.api import notify
from notifications.models import Job, Notification
from notifications.streams import inbox
from tests.data.rows import job
from tests.http.conftest import assert_problem
from tests.realtime.rows import finish

JOBS, NOTICES = "/notifications/api/jobs/", "/notifications/api/notifications/"

#: For tests in which notifications are numbered, which they are after a commit.
numbered = pytest.mark.django_db(transaction=True)


def pages(client, url, between, **query):
    """Ids of all items, page by page; ``between`` is called after each page with its number."""
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
    raise AssertionError("It does not end.")


def flat(pages):
    return [id for page in pages for id in page]


def test_jobs_that_come_meanwhile(user_client, user):
    """They are newer than what was shown: the pages go on where they were."""
    there = [str(job(user).pk) for _ in range(10)][::-1]
    assert flat(pages(user_client, JOBS, lambda number: job(user))) == there


def test_jobs_that_change_meanwhile(user_client, user):
    """Running, done, with a number: each keeps its place."""
    there = [job(user) for _ in range(10)]
    done = iter(there[::-1])
    found = pages(user_client, JOBS, lambda number: finish(next(done)))
    assert flat(found) == [str(row.pk) for row in there[::-1]]


def test_jobs_that_go_meanwhile(user_client, user):
    """Also the one at which the next page begins."""
    there = [str(job(user).pk) for _ in range(10)][::-1]
    found = pages(user_client, JOBS, lambda number: Job.objects.filter(pk=there[3 * number + 2]).delete())
    assert flat(found) == there


def test_jobs_of_a_state(user_client, user):
    """Those that leave it are left out from then on, and the others stay."""
    there = [job(user) for _ in range(9)]
    finish(there[8])
    gone = iter([there[0], there[1]])
    found = flat(pages(user_client, JOBS, lambda number: finish(next(gone)), state="queued"))
    assert found == [str(row.pk) for row in there[7:1:-1]]


@numbered
def test_notifications_that_come_meanwhile(user_client, user):
    there = [str(notify(user, "note")[0]) for _ in range(10)][::-1]
    assert flat(pages(user_client, NOTICES, lambda number: notify(user, "new"))) == there


@numbered
def test_notifications_that_are_read_meanwhile(user_client, user):
    """They get a new seq, and keep their place: it is ``raised`` that orders."""
    there = [str(notify(user, "note")[0]) for _ in range(10)][::-1]

    def read(number):
        inbox.mark(user.pk, "read", 10, [Notification.objects.get(pk=there[9 - number]).pk])

    assert flat(pages(user_client, NOTICES, read)) == there


@numbered
def test_notifications_that_are_archived_meanwhile(user_client, user):
    """Those that were not shown yet are left out, and nothing else."""
    there = [str(notify(user, "note")[0]) for _ in range(10)][::-1]
    found = pages(
        user_client, NOTICES, lambda number: inbox.mark(user.pk, "archive", 10, [there[number], there[9]])
    )
    assert flat(found) == there[:9]


@numbered
@pytest.mark.parametrize(("count", "sizes"), [(0, [0]), (2, [2]), (3, [3]), (4, [3, 1]), (6, [3, 3])])
def test_the_last_page(count, sizes, user_client, user):
    """It says so, also where it is full: there is no empty one after it."""
    for _ in range(count):
        job(user)
        notify(user, "note")
    for url in (JOBS, NOTICES):
        assert [len(page) for page in pages(user_client, url, lambda number: None)] == sizes


def test_a_cursor_of_somebody_else(user_client, user, other_user):
    """It is a place in time, and shows nothing of theirs."""
    _, mine, theirs = job(other_user), job(user), job(other_user)
    data = user_client.get(JOBS, {"after": str(theirs.pk)}).json()
    assert [item["id"] for item in data["items"]] == [str(mine.pk)]


def depends_on(response):
    return {name.strip() for name in response["Vary"].split(",")}


class TestHeaders:
    """What caches and clients are told."""

    @pytest.fixture
    def mine(self, user):
        return job(user)

    @pytest.mark.parametrize("tail", ["jobs/", "jobs/{}/", "notifications/", "sync/"])
    def test_nothing_is_kept_and_on_what_it_depends(self, tail, user_client, mine):
        response = user_client.get(f"/notifications/api/{tail.format(mine.pk)}")
        assert response.status_code == 200
        assert response["Cache-Control"] == "no-store"
        assert depends_on(response) >= {"Accept", "Cookie", "Prefer"}

    @pytest.mark.parametrize("tail", ["jobs/", "jobs/{}/", "notifications/", "sync/"])
    def test_head_says_what_get_does(self, tail, user_client, mine):
        """The same headers, no body."""
        url = f"/notifications/api/{tail.format(mine.pk)}"
        get, head = user_client.get(url), user_client.head(url)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("ETag", "Cache-Control", "Vary", "Content-Type", "Retry-After"):
            assert head.headers.get(name) == get.headers.get(name), name

    def test_a_job_that_has_not_changed(self, user_client, mine):
        """304 has the headers that 200 has, but those of the body."""
        url = f"/notifications/api/jobs/{mine.pk}/"
        whole = user_client.get(url)
        known = user_client.get(url, headers={"If-None-Match": whole["ETag"]})
        assert (known.status_code, known.content) == (304, b"")
        for name in ("ETag", "Cache-Control", "Vary", "Retry-After"):
            assert known[name] == whole[name], name

    def test_its_tag_changes_with_each_change(self, user_client, mine):
        tags = []
        for change in (lambda: None, lambda: finish(mine)):
            change()
            tags.append(user_client.get(f"/notifications/api/jobs/{mine.pk}/")["ETag"])
        assert len(set(tags)) == 2 and all(tag.startswith('"') for tag in tags)

    @pytest.mark.parametrize("accept", ["application/json", "text/html"])
    def test_an_accepted_one(self, accept, user_client):
        """Also the way to a page: the back button must not find it in a cache and ask for nothing."""
        response = user_client.post("/plain/", headers={"Accept": accept})
        assert response.status_code in (202, 303) and response["Cache-Control"] == "no-store"
        assert depends_on(response) >= {"Accept", "Cookie", "Prefer"}

    def test_an_error(self, db):
        response = Client().get(JOBS)
        assert_problem(response, 401)
        assert depends_on(response) >= {"Accept", "Cookie", "Prefer"}
