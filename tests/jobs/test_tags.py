"""Tags: what belongs together is found, counted, cancelled and retried together, in all places."""

import json
import re
from datetime import timedelta
from io import StringIO
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from notifications.api import batch
from notifications.exceptions import TooManyJobs
from notifications.jobs import cancel
from notifications.models import Job, JobTag
from notifications.testing import run_jobs
from tests.jobs import tasks

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]

JOBS = "/notifications/api/jobs/"


@pytest.fixture
def owner_client(client_of, user, settings):
    settings.ROOT_URLCONF = "asyncsite.urls"
    return client_of(user)


def enqueue(owner=None, task=tasks.noop, tags=("import:7",), **options):
    return task.using(owner=owner, tags=tags, **options).enqueue()


def tags_of(result):
    return sorted(JobTag.objects.filter(job=result.id).values_list("tag", flat=True))


def run(*arguments):
    out = StringIO()
    call_command("notifications", "jobs", *map(str, arguments), stdout=out)
    return out.getvalue()


class TestEnqueue:
    def test_each_tag_once(self, user):
        assert tags_of(enqueue(user, tags=["import:7", "nightly", "import:7"])) == ["import:7", "nightly"]

    def test_the_last_call_of_using_counts(self):
        assert tags_of(tasks.noop.using(tags=["a"]).using(title="Title", tags=["b"]).enqueue()) == ["b"]

    @pytest.mark.parametrize(
        ("tags", "error", "text"),
        [
            ("import:7", TypeError, r'tags=\["import:7"\]'),
            ([7], TypeError, "A tag must be a string"),
            ([""], ValueError, "A tag is empty"),
            (["x" * 101], ValueError, "101 characters"),
            (list("abcdefghijk"), ValueError, "at most 10 tags, not 11"),
        ],
    )
    def test_what_is_refused(self, tags, error, text):
        with pytest.raises(error, match=text):
            tasks.noop.using(tags=tags)

    def test_a_job_that_is_refused_leaves_none(self, user, settings):
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 1}
        enqueue(user)
        with pytest.raises(TooManyJobs):
            enqueue(user)
        assert JobTag.objects.count() == 1

    def test_jobs_of_a_batch(self, user):
        with batch(owner=user):
            results = [enqueue(tags=[f"row:{number}", "import:7"]) for number in range(3)]
        assert [tags_of(result) for result in results] == [["import:7", f"row:{n}"] for n in range(3)]

    def test_an_equal_call_changes_no_tags(self, user):
        first = enqueue(user, key="once")
        assert enqueue(user, key="once", tags=["other"]).id == first.id
        assert tags_of(first) == ["import:7"]

    def test_the_newest_call_with_a_queued_key_counts(self, user):
        first = enqueue(user, queued_key="index")
        assert enqueue(user, queued_key="index", tags=["other"]).id == first.id
        assert tags_of(first) == ["other"]

    def test_a_job_without_tags_costs_no_statement(self, user, django_assert_num_queries):
        tasks.noop.using(owner=user).enqueue()
        with django_assert_num_queries(1) as captured:
            tasks.noop.using(owner=user).enqueue()
        assert "tag" not in captured.captured_queries[0]["sql"]


def test_tags_are_deleted_with_their_jobs(user):
    enqueue(user), enqueue(user, tags=["kept"], run_after=timedelta(days=1))
    assert run_jobs() == 1
    Job.objects.filter(state="succeeded").update(finished_at=timezone.now() - timedelta(days=1_000))
    call_command("notifications", "prune", days=100)
    assert list(JobTag.objects.values_list("tag", flat=True)) == ["kept"]


class TestApi:
    def test_only_own_jobs_are_listed_and_counted(self, owner_client, user, other_user):
        mine = [enqueue(user) for _ in range(2)]
        enqueue(other_user), enqueue(user, tags=["import:70"]), enqueue(user, task=tasks.fail)
        listed = owner_client.get(JOBS, {"tag": "import:7"}).json()["items"]
        assert {job["id"] for job in listed} >= {job.id for job in mine} and len(listed) == 3
        run_jobs()
        counts = owner_client.get(f"{JOBS}counts/", {"tag": "import:7"}).json()
        states = {state: count for state, count in counts["states"].items() if count}
        assert (counts["tag"], counts["total"], counts["done"], states) == (
            *("import:7", 3, 3),
            {"succeeded": 2, "failed": 1},
        )

    def test_cancel_and_retry(self, owner_client, user, other_user):
        mine, others, untagged = enqueue(user), enqueue(other_user), enqueue(user, tags=())

        def change(verb):
            return owner_client.post(f"{JOBS}{verb}/", {"tag": "import:7"}, "application/json").json()

        def states():
            return [Job.objects.get(id=result.id).state for result in (mine, others, untagged)]

        assert (change("cancel"), states()) == (
            {"changed": 1, "more": False},
            ["cancelled", "queued", "queued"],
        )
        assert (change("cancel"), change("retry")) == (
            {"changed": 0, "more": False},
            {"changed": 1, "more": False},
        )
        assert states() == ["queued"] * 3

    def test_jobs_of_all_states_are_changed(self, owner_client, user):
        failed, cancelled = enqueue(user, task=tasks.fail), enqueue(user, run_after=timedelta(days=1))
        run_jobs()
        cancel([UUID(cancelled.id)])
        assert [Job.objects.get(id=each.id).state for each in (failed, cancelled)] == ["failed", "cancelled"]
        changed = owner_client.post(f"{JOBS}retry/", {"tag": "import:7"}, "application/json").json()
        assert changed == {"changed": 2, "more": False}

    @pytest.mark.parametrize("tag", [None, "", 7, "\ud800"])
    def test_no_tag(self, owner_client, tag):
        response = owner_client.post(f"{JOBS}cancel/", json.dumps({"tag": tag}), "application/json")
        assert (response.status_code, response.json()["errors"][0]["field"]) == (422, "tag")
        assert owner_client.get(f"{JOBS}counts/").status_code == 422


class TestCommand:
    def test_list_count_cancel_retry(self, user):
        job, other = enqueue(user), enqueue(user, tags=["other"])
        assert job.id in (listed := run("list", "--tag", "import:7")) and other.id not in listed
        assert "Tags:         import:7" in run("show", job.id)
        assert run("cancel", "--tag", "import:7").startswith("1 job cancelled")
        assert run("count", "--tag", "import:7") == "1 of 1 jobs are done: 1 cancelled.\n"
        assert run("retry", "--tag", "import:7").startswith("1 job queued again")
        assert json.loads(run("count", "--tag", "import:7", "--json"))["states"]["queued"] == 1
        assert Job.objects.get(id=other.id).state == "queued"

    def test_nothing_with_the_tag(self, user):
        assert run("count", "--tag", "import:8") == "No job has this tag.\n"
        with pytest.raises(CommandError, match="nobody"):
            run("count", "--tag", "import:8", "--user", "nobody")


def test_the_admin_lists_counts_and_links_them(admin_client, user):
    job, other = enqueue(user, title="Of the import"), enqueue(user, tags=["other"], title="Of another")
    page = admin_client.get(f"/admin/notifications/job/{job.id}/change/").text
    assert re.search(r'<a href="[^"]*/job/\?tag=import%3A7">import:7</a>', page)
    listed = admin_client.get("/admin/notifications/job/", {"tag": "import:7"}).text
    assert job.id in listed and other.id not in listed
    assert "Queued (1)" in listed
