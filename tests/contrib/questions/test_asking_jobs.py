"""What users may see of the job of another one that asks them: title, progress and output, while it does."""

import re

import pytest
from django.contrib.auth.models import Group, Permission
from django.test.utils import CaptureQueriesContext

from notifications.contrib.output.models import OutputChunk
from notifications.contrib.questions.models import AskedQuestion
from notifications.contrib.questions.testing import answer_question
from notifications.db import connection
from notifications.jobs import cancel
from notifications.models import Job
from notifications.testing import run_jobs
from tests.contrib.questions import question_tasks
from tests.http.conftest import job_url

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.with_all_apps("a question shows the output of its job"),
]

OUTPUT = "Dear customer,\n<b>no</b>.\n"
HIDDEN = ("a secret argument", "a step", "a result")


@pytest.fixture
def asked(make_user):
    return make_user("carol")


@pytest.fixture
def job(user, asked, jobs_clock):
    """A job that has written a draft, and asks another user about it."""
    task = question_tasks.ask_about_draft.using(owner=user, title="Answer of Mr. Grant")
    result = task.enqueue([asked.pk], "a secret argument")
    run_jobs()
    job = Job.objects.get(id=result.id)
    assert job.state == "waiting"
    return job


def question_page(job):
    return f"/notifications/jobs/{job.id}/questions/{AskedQuestion.objects.get(job=job.id).id}/"


def is_output_shown(client, job):
    response = client.get(job_url(job, "output/"))
    assert response.status_code in (200, 404)
    return response.status_code == 200


def test_the_page_of_the_question_shows_what_the_job_has_written(job, asked, client_of):
    """As text. It shows neither arguments nor steps."""
    text = client_of(asked).get(question_page(job)).content.decode()
    assert "Answer of Mr. Grant" in text and "Page 3" in text and "3 of 7" in text
    assert "Dear customer,\n&lt;b&gt;no&lt;/b&gt;." in text
    assert not [hidden for hidden in HIDDEN if hidden in text]


def test_the_api_returns_the_output(job, asked, client_of):
    """What there is, from any offset. Nobody follows a job that waits."""
    client = client_of(asked)
    response = client.get(job_url(job, "output/"))
    assert response.content.decode() == OUTPUT
    assert client.get(job_url(job, "output/"), {"offset": 15}).content.decode() == OUTPUT[15:]
    assert client.head(job_url(job, "output/"))["Stream-Next-Offset"] == f"{len(OUTPUT):016d}"


def test_nothing_else_is_shown(job, asked, client_of):
    client = client_of(asked)
    for path in (job_url(job), job_url(job, "result/"), f"/notifications/jobs/{job.id}/"):
        assert client.get(path).status_code == 404
    for verb in ("cancel", "retry"):
        assert client.post(job_url(job, f"{verb}/")).status_code == 404
        assert client.post(f"/notifications/jobs/{job.id}/{verb}/").status_code == 404


async def test_others_do_not_follow_it(job, asked, async_client):
    await async_client.aforce_login(asked)
    for live in ("long-poll", "sse"):
        response = await async_client.get(job_url(job, "output/"), {"offset": "-1", "live": live})
        assert response.status_code == 404


def test_only_those_who_may_answer(job, asked, other_user, make_user, client_of):
    """The owner always may read the output."""
    staff = make_user("staff")
    staff.user_permissions.add(Permission.objects.get(codename="answer_question"))
    shown = [is_output_shown(client_of(one), job) for one in (job.user, asked, staff, other_user)]
    assert shown == [True, True, True, False]


def test_reads_of_the_owner_look_for_no_question(job, user_client):
    """Pages read the output of running jobs often. It costs these queries and those of the session."""
    with CaptureQueriesContext(connection()) as queries:
        assert user_client.get(job_url(job, "output/")).content.decode() == OUTPUT
    tables = [re.search(r'FROM "(\w+)"', query["sql"])[1] for query in queries.captured_queries]
    assert [table for table in tables if table.startswith("notifications_")] == [
        "notifications_job",
        "notifications_output_outputchunk",
        "notifications_output_outputchunk",
    ]


@pytest.mark.parametrize("end", ["answered", "cancelled"])
def test_only_while_the_question_is_open(job, asked, client_of, end):
    client = client_of(asked)
    assert is_output_shown(client, job)
    if end == "answered":
        answer_question("yes", by=asked)
        assert not is_output_shown(client, job)
        run_jobs()
    else:
        cancel([job.id])
    assert not is_output_shown(client, job)
    text = client.get(question_page(job), follow=True).content.decode()
    assert text and "Dear customer" not in text and "Answer of Mr. Grant" not in text
    assert is_output_shown(client_of(job.user), job)


def test_not_to_those_who_have_lost_the_right(user, other_user, client_of, jobs_clock):
    group = Group.objects.create(name="shop")
    group.user_set.add(other_user)
    result = question_tasks.ask_staff_of.using(owner=user).enqueue("group", group.pk)
    run_jobs()
    job, client = Job.objects.get(id=result.id), client_of(other_user)
    assert is_output_shown(client, job)
    group.user_set.clear()
    assert not is_output_shown(client, job)


def test_a_long_output_is_shown_from_its_end(job, asked, client_of, monkeypatch):
    """With a link to all of it."""
    client, link = client_of(asked), job_url(job, "output/")
    assert link not in client.get(question_page(job)).content.decode()
    OutputChunk.objects.create(
        job=job.id,
        start=len(OUTPUT),
        text="More of it.\nThe end.\n",
        attempt=1,
        fence=1,
        created_at=job.created_at,
    )
    monkeypatch.setattr("notifications.contrib.output.pages.MAX_END_BYTES", 5)
    text = client.get(question_page(job)).content.decode()
    assert f'href="{link}"' in text and "The end." in text and "Dear customer" not in text
