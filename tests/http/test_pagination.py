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
        told = client.get(
            url, {**query, "limit": 3, **({"after": after} if after is not None else {})}
        ).json()
        found.append([item["id"] for item in told["items"]])
        after = told["next"]
        if after is None:
            return found
        between(number)
    raise AssertionError("It does not end.")


def flat(pages):
    return [id for page in pages for id in page]


def test_jobs_that_come_meanwhile(client, ada):
    """They are newer than what was shown: the pages go on where they were."""
    there = [str(job(ada).pk) for _ in range(10)][::-1]
    assert flat(pages(client, JOBS, lambda number: job(ada))) == there


def test_jobs_that_change_meanwhile(client, ada):
    """Running, done, with a number: each keeps its place."""
    there = [job(ada) for _ in range(10)]
    done = iter(there[::-1])
    found = pages(client, JOBS, lambda number: finish(next(done)))
    assert flat(found) == [str(row.pk) for row in there[::-1]]


def test_jobs_that_go_meanwhile(client, ada):
    """Also the one at which the next page begins."""
    there = [str(job(ada).pk) for _ in range(10)][::-1]
    found = pages(client, JOBS, lambda number: Job.objects.filter(pk=there[3 * number + 2]).delete())
    assert flat(found) == there


def test_jobs_of_a_state(client, ada):
    """Those that leave it are left out from then on, and the others stay."""
    there = [job(ada) for _ in range(9)]
    finish(there[8])
    gone = iter([there[0], there[1]])
    found = flat(pages(client, JOBS, lambda number: finish(next(gone)), state="queued"))
    assert found == [str(row.pk) for row in there[7:1:-1]]


@numbered
def test_notifications_that_come_meanwhile(client, ada):
    there = [str(notify(ada, "note")[0]) for _ in range(10)][::-1]
    assert flat(pages(client, NOTICES, lambda number: notify(ada, "new"))) == there


@numbered
def test_notifications_that_are_read_meanwhile(client, ada):
    """They get a new seq, and keep their place: it is ``raised`` that orders."""
    there = [str(notify(ada, "note")[0]) for _ in range(10)][::-1]

    def read(number):
        inbox.mark(ada.pk, "read", 10, [Notification.objects.get(pk=there[9 - number]).pk])

    assert flat(pages(client, NOTICES, read)) == there


@numbered
def test_notifications_that_are_archived_meanwhile(client, ada):
    """Those that were not shown yet are left out, and nothing else."""
    there = [str(notify(ada, "note")[0]) for _ in range(10)][::-1]
    found = pages(
        client, NOTICES, lambda number: inbox.mark(ada.pk, "archive", 10, [there[number], there[9]])
    )
    assert flat(found) == there[:9]


@numbered
@pytest.mark.parametrize(("count", "sizes"), [(0, [0]), (2, [2]), (3, [3]), (4, [3, 1]), (6, [3, 3])])
def test_the_last_page(count, sizes, client, ada):
    """It says so, also where it is full: there is no empty one after it."""
    for _ in range(count):
        job(ada)
        notify(ada, "note")
    for url in (JOBS, NOTICES):
        assert [len(page) for page in pages(client, url, lambda number: None)] == sizes


def test_a_cursor_of_somebody_else(client, ada, bob):
    """It is a place in time, and shows nothing of theirs."""
    _, mine, theirs = job(bob), job(ada), job(bob)
    told = client.get(JOBS, {"after": str(theirs.pk)}).json()
    assert [item["id"] for item in told["items"]] == [str(mine.pk)]


def depends_on(answer):
    return {name.strip() for name in answer["Vary"].split(",")}


class TestHeaders:
    """What caches and clients are told."""

    @pytest.fixture
    def mine(self, ada):
        return job(ada)

    @pytest.mark.parametrize("tail", ["jobs/", "jobs/{}/", "notifications/", "sync/"])
    def test_nothing_is_kept_and_on_what_it_depends(self, tail, client, mine):
        answer = client.get(f"/notifications/api/{tail.format(mine.pk)}")
        assert answer.status_code == 200
        assert answer["Cache-Control"] == "no-store"
        assert depends_on(answer) >= {"Accept", "Cookie", "Prefer"}

    @pytest.mark.parametrize("tail", ["jobs/", "jobs/{}/", "notifications/", "sync/"])
    def test_head_says_what_get_does(self, tail, client, mine):
        """The same headers, no body."""
        url = f"/notifications/api/{tail.format(mine.pk)}"
        get, head = client.get(url), client.head(url)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("ETag", "Cache-Control", "Vary", "Content-Type", "Retry-After"):
            assert head.headers.get(name) == get.headers.get(name), name

    def test_a_job_that_has_not_changed(self, client, mine):
        """304 has the headers that 200 has, but those of the body."""
        url = f"/notifications/api/jobs/{mine.pk}/"
        whole = client.get(url)
        known = client.get(url, headers={"If-None-Match": whole["ETag"]})
        assert (known.status_code, known.content) == (304, b"")
        for name in ("ETag", "Cache-Control", "Vary", "Retry-After"):
            assert known[name] == whole[name], name

    def test_its_tag_changes_with_each_change(self, client, mine):
        tags = []
        for change in (lambda: None, lambda: finish(mine)):
            change()
            tags.append(client.get(f"/notifications/api/jobs/{mine.pk}/")["ETag"])
        assert len(set(tags)) == 2 and all(tag.startswith('"') for tag in tags)

    @pytest.mark.parametrize("accept", ["application/json", "text/html"])
    def test_an_accepted_one(self, accept, client):
        """Also the way to a page: the back button must not find it in a cache and ask for nothing."""
        answer = client.post("/plain/", headers={"Accept": accept})
        assert answer.status_code in (202, 303) and answer["Cache-Control"] == "no-store"
        assert depends_on(answer) >= {"Accept", "Cookie", "Prefer"}

    def test_an_error(self, db):
        answer = Client().get(JOBS)
        assert_problem(answer, 401)
        assert depends_on(answer) >= {"Accept", "Cookie", "Prefer"}
