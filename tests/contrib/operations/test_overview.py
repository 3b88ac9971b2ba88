"""The overview shows what waits, runs and fails, to staff with the permission, and retries groups of failures."""

import html
import itertools
import json
import re
from datetime import timedelta

import pytest
from django.contrib.admin import AdminSite
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import include, path, set_script_prefix
from django.utils import timezone

from notifications.contrib.operations.admin import OverviewAdmin
from notifications.contrib.operations.models import BUCKET_COLUMNS, JobStatistics, Overview
from notifications.management import pause_queue
from notifications.models import Job, ServerProcess, Worker, uuid7
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.support import core_alone
from tests.support.checks import doctor
from tests.support.claims import claim_rows
from tests.support.duties import run_duty
from tests.support.statements import refused

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.nightly_on_postgres,
    pytest.mark.nightly_on_old_django,
]

PAGE = "/admin/notifications_operations/overview/"
FIGURES = f"{PAGE}figures/"
RETRY = f"{PAGE}retry/"
TELL = f"{PAGE}tell/"
#: The queries of the figures; and of the page, with the session, user, permissions and bell.
MAX_QUERIES_OF_PAGE = 18


@pytest.fixture
def staff_client(make_user, client_of):
    """Return a function that makes a client of a staff user with these permissions: staff_client(*codenames)."""

    def make_client(*codenames, name="staff"):
        user = make_user(name, is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        return client_of(user)

    return make_client


def messages_of(response):
    return [str(message) for message in response.context["messages"]]


def text_of(response):
    """Return the text of a page without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.text))


def read_figures(client, period, **selection):
    """Return the figures of the page."""
    return client.get(FIGURES, {"period": period, **selection}).context["figures"]


def fail_jobs(count, task=tasks.fail):
    for _ in range(count):
        task.enqueue()
    run_jobs()


def add_worker(**fields):
    now = timezone.now()
    row = {
        "host": "web-1",
        "process": "boot ns 4711 99",
        "started_at": now,
        "lease_until": now + timedelta(seconds=20),
        "concurrency": 8,
        **fields,
    }
    return Worker.objects.create(**row)


@pytest.mark.parametrize("address", [PAGE, FIGURES, RETRY])
@pytest.mark.parametrize("codenames", [(), ("view_job", "change_job", "view_worker", "receive_alerts")])
def test_without_the_permission_there_is_no_figure(staff_client, address, codenames):
    """Not in the page, the fragment or the retry, and the index has no link."""
    client = staff_client(*codenames)
    fail_jobs(1)
    for response in (client.get(address), client.post(address, {"confirm": "1"})):
        assert response.status_code == 403
        assert "tasks.fail" not in response.text
    assert PAGE not in client.get("/admin/").text


def test_anonymous_users_have_to_sign_in(client):
    """As for each page of the admin."""
    for address in (PAGE, FIGURES, RETRY):
        assert client.get(address).status_code == 302


def test_the_index_links_to_the_page(staff_client):
    """For staff with the permission."""
    client = staff_client("view_overview")
    assert f'href="{PAGE}"' in client.get("/admin/").text
    assert client.get(PAGE).status_code == 200


def test_empty(admin_client):
    """A project without a job has a page that says what to do."""
    text = text_of(admin_client.get(PAGE))
    assert "No queue has jobs." in text
    assert "Start one: manage.py run_jobs." in text


def test_depth_and_wait_of_queues(admin_client):
    """Due, delayed and running jobs of each queue, and how long the oldest has waited, whatever its priority."""
    old = tasks.noop.using(priority=-5).enqueue().id
    for _ in range(3):
        tasks.noop.enqueue()
    tasks.noop.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()
    late = tasks.noop.using(queue_name="other", run_after=timezone.now() + timedelta(hours=1)).enqueue().id
    Job.objects.filter(id=old).update(queued_at=timezone.now() - timedelta(minutes=10))
    Job.objects.filter(id=late).update(
        run_after=timezone.now() - timedelta(hours=3), due_at=timezone.now() - timedelta(hours=3)
    )
    claim_rows(uuid7(), 1, queues=["default"])
    pause_queue("other")
    by_name = {row.now.name: row for row in read_figures(admin_client, "hour").queues}
    default, other = by_name["default"], by_name["other"]
    assert (default.now.due, default.now.delayed, default.running) == (3, 1, 1)
    assert not default.now.is_paused
    assert 600 <= default.wait_seconds < 700
    assert (other.now.due, other.now.delayed, other.now.is_paused) == (1, 0, True)
    assert 3 * 3600 <= other.wait_seconds < 3 * 3600 + 100
    text = text_of(admin_client.get(PAGE))
    assert "10 min" in text and "3 h" in text and "Paused" in text


@pytest.fixture
def two_counted(set_bounds):
    """Two jobs of a queue are counted."""
    set_bounds(counted=2)


def test_a_long_backlog_is_not_counted_to_its_end(admin_client, two_counted):
    """The page says that there are more."""
    for _ in range(5):
        tasks.noop.enqueue()
    [row] = read_figures(admin_client, "hour").queues
    assert (row.now.due, row.now.is_capped) == (2, True)
    assert "over 2" in text_of(admin_client.get(PAGE))


def test_an_exact_number_has_no_plus(admin_client, two_counted):
    """More delayed jobs than are counted say nothing of those that are due, and the last one counted is no more."""
    for _ in range(2):
        tasks.noop.enqueue()
    for _ in range(3):
        tasks.noop.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()
    [row] = read_figures(admin_client, "hour").queues
    assert (row.now.due, row.now.is_capped) == (2, False)
    assert (row.now.delayed, row.now.is_delayed_capped) == (2, True)
    text = text_of(admin_client.get(PAGE))
    assert "2+" in text and "over 2" not in text


def test_a_large_share_is_named(admin_client, make_user):
    """The one that ``doctor`` names, of a queue of which it holds over half for over a minute."""
    flood = make_user("flood")
    for _ in range(30):
        tasks.noop.using(owner=flood).enqueue()
    tasks.noop.enqueue()
    assert "jobs that wait" not in text_of(admin_client.get(PAGE))
    Job.objects.update(queued_at=timezone.now() - timedelta(minutes=10))
    text = text_of(admin_client.get(PAGE))
    assert f"user:{flood.pk} has 30 of 31 jobs that wait in default , the first for 10 min." in text
    assert f"user:{flood.pk} has 30 of 31 in default" in doctor("shares")[0]["message"]
    Job.objects.update(executor="email")  # jobs that the lists leave out
    assert f"user:{flood.pk} has 30 of 31 jobs" in text_of(admin_client.get(PAGE))


def test_failures_are_grouped_by_task_exception_and_location(admin_client):
    """Each group with its number of jobs; jobs that were retried or failed before the period are left out."""
    fail_jobs(3)
    fail_jobs(1)
    [group] = read_figures(admin_client, "hour").failures.groups
    assert group.task_path == "tests.jobs.tasks.fail"
    assert group.count == 4
    assert re.fullmatch(r"tests\.jobs\.tasks\.fail, line \d+", group.location)
    assert f"<code>{group.exception.replace('.', '.<wbr>')}</code>" in admin_client.get(PAGE).text
    Job.objects.filter(id=Job.objects.first().id).update(finished_at=timezone.now() - timedelta(hours=2))
    assert read_figures(admin_client, "hour").failures.groups[0].count == 3
    assert read_figures(admin_client, "day").failures.groups[0].count == 4


def test_a_group_says_since_when_whom_and_why(staff_client, make_user):
    """The message of an exception may be a secret, as its traceback is."""
    users = [make_user(name) for name in ("bea", "cem")]
    for owner in (*users, users[0], None):
        tasks.fail.using(owner=owner).enqueue("Partner: no answer")
    run_jobs()
    first = timezone.now() - timedelta(minutes=30)
    Job.objects.filter(pk=Job.objects.order_by("id")[1].pk).update(finished_at=first)
    client = staff_client("view_overview", "view_attempt", "view_traceback")
    [group] = read_figures(client, "hour").failures.groups
    assert (group.owners, group.message, group.first_at) == (2, "Partner: no answer", first)
    text = text_of(client.get(PAGE))
    assert "Partner: no answer" in text and f"{timezone.localtime(first):%H:%M}" in text
    other = staff_client("view_overview", "view_attempt", name="other")
    assert "Partner: no answer" not in other.get(PAGE).text


def test_who_may_not_write_is_not_offered_to_tell(staff_client, user):
    tasks.fail.using(owner=user).enqueue()
    run_jobs()
    run_duty("record failures")
    client = staff_client("view_overview", "change_job")
    assert "Tell those affected" not in client.get(PAGE).text
    assert client.get(TELL, retry_fields(client)).status_code == 403


def retry_fields(client):
    """Return the fields of the form of the first group."""
    form = re.search(r"<form method=\"get\".*?</form>", client.get(PAGE).text)[0]
    return dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))


def test_retry_asks_first(staff_client):
    """A GET, and a POST without the confirmation, change nothing and show the number of jobs."""
    client = staff_client("view_overview", "change_job")
    fail_jobs(3)
    fields = retry_fields(client)
    for response in (client.get(RETRY, fields), client.post(RETRY, fields)):
        assert "<h1>Retry 3 jobs?</h1>" in response.text
    assert set(Job.objects.values_list("state", flat=True)) == {"failed"}


BULK = "notifications.contrib.operations.admin.bulk_changes.change_matching_jobs"


def test_retry_of_a_group(staff_client):
    """A job queues the confirmed group again, no other failed job; its result and the log say what was done."""
    client = staff_client("view_overview", "change_job")
    fail_jobs(3)
    fields = retry_fields(client)
    failed = set(Job.objects.values_list("pk", flat=True))
    fail_jobs(1)
    elsewhere, old = max(Job.objects.values_list("pk", flat=True)), min(failed)
    Job.objects.get(pk=elsewhere).attempts.update(location="tests.jobs.tasks.other, line 1")
    Job.objects.filter(pk=old).update(finished_at=timezone.now() - timedelta(days=2))
    question = client.get(RETRY, fields).text
    assert "<h1>Retry 2 jobs?</h1>" in question and "more since" not in question
    response = client.post(RETRY, {**fields, "confirm": "1"}, follow=True)
    bulk = Job.objects.get(task_path=BULK)
    assert response.redirect_chain == [(f"/admin/notifications/job/{bulk.pk}/change/", 302)]
    assert response.status_code == 200 and bulk.title == "Retry 2 jobs"
    assert {(job.state, job.attempt) for job in Job.objects.exclude(pk=bulk.pk)} == {("failed", 1)}, "not yet"
    run_jobs()
    assert set(Job.objects.filter(attempt=2).values_list("pk", flat=True)) == failed - {old}
    assert json.loads(Job.objects.get(pk=bulk.pk).result)["text"] == "2 queued again, 0 skipped."
    logged = {(entry.object_id, entry.user.username) for entry in LogEntry.objects.all()}
    assert logged == {(str(id), "staff") for id in {*failed, bulk.pk} - {old}}
    Job.objects.filter(pk__in=failed).update(state="succeeded")
    again = client.post(RETRY, {**fields, "confirm": "1"}, follow=True)
    assert messages_of(again) == ["No job was queued again, because none of them is failed any more."]


def test_retry_of_what_was_counted(staff_client):
    """Jobs that failed since the page was loaded are named, and stay as they are."""
    client = staff_client("view_overview", "change_job")
    fail_jobs(2)
    fields = retry_fields(client)
    counted = set(Job.objects.values_list("pk", flat=True))
    fail_jobs(1)
    question = client.get(RETRY, fields).text
    assert "<h1>Retry 2 jobs?</h1>" in question and "1 more since then. It stays as it is." in question
    form = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', question))
    fail_jobs(1)
    client.post(RETRY, {**form, "confirm": "1"})
    run_jobs()
    assert set(Job.objects.filter(attempt=2).values_list("pk", flat=True)) == counted


def test_retry_of_all_groups(staff_client):
    """Those that failed in the period. It is offered where there are several groups, whether they are shown or not."""
    client = staff_client("view_overview", "view_job", "change_job")
    fail_jobs(22)
    old, *failed = Job.objects.order_by("id")
    assert "Retry all" not in client.get(PAGE).text
    for line, job in enumerate(failed):
        job.attempts.update(location=f"tests.jobs.tasks.other, line {line}")
    Job.objects.filter(pk=old.pk).update(finished_at=timezone.now() - timedelta(hours=2))
    page = client.get(PAGE).text
    [form] = re.findall(r"<form(?:(?!</form>).)*Retry all<", page, re.DOTALL)
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))
    question = client.get(RETRY, fields).text
    assert "<h1>Retry 21 jobs?</h1>" in question and 'name="all"' in question
    client.post(RETRY, {**fields, "confirm": "1"})
    run_jobs()
    assert {*Job.objects.filter(attempt=2)} == {*failed}
    assert "?state__exact=failed&amp;finished=hour" in page


def test_retry_of_jobs_that_raised_nothing(staff_client):
    """The worker of one was lost, another failed before its first attempt. They are a group."""
    client = staff_client("view_overview", "change_job")
    fail_jobs(3)
    lost, not_begun, raised = Job.objects.order_by("id")
    lost.attempts.update(exception_class_path="", location="", outcome="lost")
    not_begun.attempts.all().delete()
    fields = {
        "task_path": "tests.jobs.tasks.fail",
        "since": (timezone.now() - timedelta(hours=1)).isoformat(),
    }
    assert "<h1>Retry 2 jobs?</h1>" in client.get(RETRY, fields).text
    client.post(RETRY, {**fields, "confirm": "1"})
    run_jobs()
    bulk = Job.objects.get(task_path=BULK)
    assert json.loads(bulk.result)["changed"] == 2
    assert Job.objects.get(pk=raised.pk).attempt == 1


def test_retry_of_a_large_group_is_counted_to_a_limit(staff_client, set_bounds):
    """The page says that there may be more, and the job retries all."""
    client = staff_client("view_overview", "change_job")
    fail_jobs(3)
    set_bounds(counted=2)
    fields = retry_fields(client)
    assert "<h1>Retry at least 2 jobs?</h1>" in client.get(RETRY, fields).text
    client.post(RETRY, {**fields, "confirm": "1"})
    run_jobs()
    assert json.loads(Job.objects.get(task_path=BULK).result)["changed"] == 3


def test_a_range_of_time(staff_client, make_user):
    """Its figures, its list of jobs and what is retried are of the jobs that failed in it."""
    users = [make_user(name) for name in ("bea", "cem", "dora")]
    for owner in users:
        tasks.fail.using(owner=owner).enqueue()
    run_jobs()
    now = timezone.now()
    for job, minutes in zip(Job.objects.order_by("id"), (50, 30, 10), strict=True):
        Job.objects.filter(pk=job.pk).update(finished_at=now - timedelta(minutes=minutes))
    begin, end = (f"{now - timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%SZ}" for minutes in (40, 20))
    period = f"{begin}/{end}"
    client = staff_client("view_overview", "change_job", "view_job", "view_attempt")
    page = client.get(PAGE, {"period": period})
    [group] = page.context["figures"].failures.groups
    assert (group.count, group.owners) == (1, 1)
    link = html.unescape(re.search(r'href="(/admin/notifications/job/[^"]*failure=[^"]*)"', page.text)[1])
    assert [job.user for job in client.get(link).context["cl"].result_list] == [users[1]]
    assert client.get(PAGE, {"from": begin[:16], "until": end[:16]}).context["period"][:16] == begin[:16]
    form = re.search(r"<form method=\"get\" action=\"[^\"]*/retry/\"><input.*?</form>", page.text)[0]
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))
    assert "Retry 1 job?" in client.get(RETRY, fields).text
    client.post(RETRY, {**fields, "confirm": "1"})
    run_jobs()
    assert list(
        Job.objects.filter(task_path="tests.jobs.tasks.fail", attempt=2).values_list("user", flat=True)
    ) == [users[1].pk]
    assert len(client.get(PAGE, {"period": "today"}).context["figures"].failures.groups) == 1
    for wrong in (f"{end}/{begin}", f"{begin}/", "2020-01-01T00:00:00Z/2020-01-01T01:00:00Z", "x/y"):
        assert client.get(PAGE, {"period": wrong}).context["period"] == "hour"
        assert client.get("/admin/notifications/job/", {"finished": wrong}).status_code == 302


@pytest.mark.with_all_apps("the jobs are those of notifications.contrib.deliveries")
def test_jobs_that_send_messages_are_there_when_they_are_asked_for(staff_client, make_user):
    """In figures, queues, charts, tasks and failures, in what is retried, and in the lists to which the page links."""
    fail_jobs(5)
    sent = list(Job.objects.values_list("pk", flat=True)[:3])
    task = "notifications.contrib.deliveries.sending.deliver"
    Job.objects.filter(pk__in=sent).update(task_path=task, queue_name="deliveries", user=make_user("bea"))
    JobStatistics.objects.filter(queue_name="default").update(count=2)
    JobStatistics.objects.create(
        **{field: value for field, value in JobStatistics.objects.values()[0].items() if field != "id"}
        | {"task_path": task, "queue_name": "deliveries", "count": 3}
    )
    tasks.noop.using(queue_name="other").enqueue()
    waiting, running = (tasks.noop.using(queue_name="deliveries").enqueue().id for _ in range(2))
    Job.objects.filter(pk__in=[waiting, running]).update(task_path=task, executor="email")
    claim_rows(uuid7(), 1, queues=["deliveries"])
    client = staff_client("view_overview", "view_job", "change_job")
    hidden, shown = client.get(PAGE), client.get(PAGE, {"deliveries": "shown"})
    facts = [
        (
            {row.now.name for row in page.context["figures"].queues},
            page.context["figures"].queued,
            page.context["figures"].running,
            page.context["figures"].history.totals.failed,
            sum(point.failed for point in page.context["figures"].history.points),
            [group.count for group in page.context["figures"].failures.groups],
            task in page.context["task_choices"],
        )
        for page in (hidden, shown)
    ]
    assert facts[0] == ({"default", "other"}, 1, 0, 2, 2, [2], False)
    assert facts[1] == ({"default", "other", "deliveries"}, 2, 1, 5, 5, [3, 2], True)
    assert "deliveries=shown" not in hidden.text and "finished=hour&amp;deliveries=shown" not in hidden.text
    assert "?deliveries=shown&amp;state__exact=failed" in shown.text
    assert [len(client.get(f"{PAGE}tasks/{q}").context["tasks"].rows) for q in ("", "?deliveries=shown")] == [
        1,
        2,
    ]
    since = hidden.context["figures"].since.isoformat()
    for fields, count in (({}, 2), ({"deliveries": "shown"}, 5)):
        question = client.get(RETRY, {"all": "1", "since": since} | fields).text
        assert f"<h1>Retry {count} jobs?</h1>" in question and ("shown" in question) == bool(fields)
    client.post(RETRY, {"all": "1", "since": since, "confirm": "1"})
    Job.objects.filter(pk__in=[waiting, running]).delete()
    run_jobs()
    assert set(Job.objects.filter(state="failed", attempt=1).values_list("pk", flat=True)) == set(sent)


@pytest.mark.parametrize("codenames", [("view_overview",), ("view_overview", "view_job")])
def test_retry_needs_the_permission_to_change_jobs(staff_client, codenames):
    """No button, and 403."""
    client = staff_client(*codenames)
    fail_jobs(1)
    assert "tests.jobs.tasks.fail" in client.get(PAGE).text
    assert RETRY not in client.get(PAGE).text
    fields = {"task_path": "tests.jobs.tasks.fail", "since": timezone.now().isoformat(), "confirm": "1"}
    assert client.post(RETRY, fields).status_code == 403
    assert Job.objects.get().state == "failed"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"task_path": "a", "since": "yesterday"},
        {"task_path": "a", "since": "2026-02-31T00:00:00Z"},
        {"task_path": "a", "since": "2001-01-01T00:00:00Z"},
        {"since": "2026-01-01T00:00:00Z"},
        {"task_path": "a\0", "since": timezone.now().isoformat()},
    ],
)
def test_retry_of_an_unknown_group(admin_client, fields):
    """The page says so."""
    for response in (
        admin_client.get(RETRY, fields, follow=True),
        admin_client.post(RETRY, fields, follow=True),
    ):
        assert response.redirect_chain[-1][0] == PAGE
        [text] = messages_of(response)
        assert text.startswith(("This group is unknown.", "No job was queued again"))


def test_main_processes_of_celery_workers_have_no_slots(admin_client):
    add_worker(queues="celery:celery", concurrency=0)
    text = text_of(admin_client.get(PAGE))
    assert "nothing; its processes run jobs" in text and not re.search(r"\d of 0\b", text)
    add_worker(load=3)
    assert "3 of 8 slots" in text_of(admin_client.get(PAGE))


def test_workers_servers_and_circuits(admin_client):
    """Live workers with load and lease, lost ones, web processes with sockets, and an open circuit."""
    outbound = (
        '{"origins": [{"origin": "https://api.example", "circuit": "open", "busy": 1, "waiting": 2, '
        '"failed": 3, "calls": 4}]}'
    )
    add_worker(load=3, outbound=outbound, memory=53687091)
    add_worker(host="web-2", lease_until=timezone.now() - timedelta(seconds=5), outbound="damaged")
    now = timezone.now()
    for host, seconds in (("web-3", 20), ("gone", -1)):
        ServerProcess.objects.create(
            host=host,
            pid=17,
            started_at=now,
            lease_until=now + timedelta(seconds=seconds),
            sockets=5,
            users=4,
        )
    text = text_of(admin_client.get(PAGE))
    assert "web-1 4711 all queues 3 of 8 51.2 MB Alive" in text.replace("\xa0", " ")
    assert "web-2 4711 all queues 0 of 8 - Lost" in text
    assert "web-3 17 5 4" in text and "gone" not in text
    assert "https://api.example web-1 4711 Open 1 2 3 of 4" in text


def test_only_so_many_processes_are_read(admin_client):
    """The oldest ones."""
    for _ in range(101):
        add_worker()
    assert len(read_figures(admin_client, "hour").workers) == 100


def test_number_of_queries(admin_client):
    """It does not grow with the jobs, queues and workers."""
    for number in range(5):
        tasks.noop.using(queue_name="other" if number % 2 else "default").enqueue()
        add_worker()
    fail_jobs(2)
    counts = []
    for _ in range(3):  # Content types and the difference of the clocks are cached, the latter for seconds.
        with CaptureQueriesContext(connection) as queries:
            assert admin_client.get(PAGE).status_code == 200
        counts.append(len(queries))
    assert min(counts) <= MAX_QUERIES_OF_PAGE


def test_fragment_with_an_etag(admin_client):
    """The same figures are not read again; a ring of the doorbell changes the ETag."""
    first = admin_client.get(FIGURES)
    assert "<html" not in first.text and "Queues" in first.text
    etag = first.headers["ETag"]
    second = admin_client.get(FIGURES, headers={"If-None-Match": etag})
    assert second.status_code in (200, 304)  # 200 when a step of 5 s has begun in between
    tasks.noop.enqueue()
    third = admin_client.get(FIGURES, headers={"If-None-Match": etag})
    assert third.status_code == 200 and third.headers["ETag"] != etag
    assert "default" in text_of(third)


def test_unknown_period(admin_client):
    """It is that of the default."""
    assert admin_client.get(f"{PAGE}?period=century").context["period"] == "hour"
    assert admin_client.get(f"{PAGE}?period=week").context["period"] == "week"


def test_database_is_unavailable(admin_client):
    """A page says so, with a status after which the script keeps the figures that it shows."""

    with refused("notifications_"):
        response = admin_client.get(PAGE)
    assert response.status_code == 503
    assert "The database is not available" in response.text


class CustomSiteUrls:
    """A URLconf in which another admin site is mounted."""

    site = AdminSite(name="operations")
    site.register(Overview, OverviewAdmin)
    urlpatterns = [path("operations/", site.urls), path("", include(core_alone.host_urls()))]


def test_custom_admin_site(admin_client, settings):
    """Its page links to itself, not to the default site."""
    settings.ROOT_URLCONF = CustomSiteUrls
    fail_jobs(1)
    custom = PAGE.replace("/admin/", "/operations/")
    text = admin_client.get(custom).text
    assert f'data-overview-figures="{custom}figures/?period=hour&amp;background=1"' in text
    assert f'action="{custom}retry/"' in text
    assert f'href="{custom}"' in admin_client.get("/operations/").text
    assert admin_client.get(f"{custom}figures/").status_code == 200


def test_charts_begin_before_the_first_job(admin_client):
    """A project of today has no chart of six empty days, and the table no rows of zeros."""
    tasks.noop.enqueue()
    run_jobs()
    points = read_figures(admin_client, "hour").history.points
    assert len(points) == 12
    assert [point.has_jobs for point in points[:-2]] == [False] * (12 - 2)
    rows = re.search(r'id="overview-points".*?</details>', admin_client.get(PAGE).text, re.DOTALL)[0]
    assert rows.count('<th scope="row">') == sum(point.has_jobs for point in points) <= 2
    Job.objects.update(queued_at=timezone.now() - timedelta(minutes=50))
    Job.objects.update(state="queued", created_at=timezone.now() - timedelta(minutes=50))
    points = read_figures(admin_client, "hour").history.points
    assert len(points) > 45 and not points[0].has_jobs and points[1].has_jobs


def test_distribution_of_a_task(admin_client):
    """Waits and run times of its jobs, from the shortest to the longest; beside the charts of a task or queue only."""
    for _ in range(6):
        tasks.noop.enqueue()
    run_jobs()
    nothing = dict.fromkeys(itertools.chain(*BUCKET_COLUMNS.values()))
    JobStatistics.objects.update(**{**nothing, "wait_2": 6, "run_3": 5, "run_5": 1})
    buckets = read_figures(admin_client, "hour", task="tests.jobs.tasks.noop").history.buckets
    assert [(bucket.until_seconds, bucket.wait, bucket.run) for bucket in buckets] == [
        (0.004, (6, 100), (0, 0)),
        (0.008, (0, 0), (5, 100)),
        (0.016, (0, 0), (0, 0)),
        (0.032, (0, 0), (1, 20)),
    ]
    assert "up to 4 ms 6 0 up to 8 ms 0 5" in text_of(admin_client.get(f"{PAGE}?queue=default"))
    assert "up to 4 ms" not in text_of(admin_client.get(PAGE))
    assert read_figures(admin_client, "hour", task="none").history.buckets == []


@pytest.mark.parametrize("value", ["x" * 10_000, "a\0b"])
def test_charts_of_an_impossible_name(admin_client, value):
    """They are of all jobs, and the page says so."""
    response = admin_client.get(PAGE, {"queue": value, "task": "none"})
    assert messages_of(response) == [
        "The charts are of all jobs, because no queue or task can have the name in the address."
    ]
    assert value not in response.text and "<option selected>none</option>" in response.text


def test_script_name(admin_client):
    """The addresses begin with it."""
    fail_jobs(1)
    set_script_prefix("/app/")
    try:
        text = admin_client.get(PAGE).text
    finally:
        set_script_prefix("/")
    assert f'data-overview-figures="/app{PAGE}figures/?period=hour&amp;background=1"' in text
    assert f'action="/app{RETRY}"' in text


def test_throughput_and_durations_outlast_the_jobs(admin_client):
    """They are those of the statistics: pruned jobs stay in them, and active jobs count as enqueued."""
    for _ in range(4):
        tasks.noop.enqueue()
    fail_jobs(1)
    tasks.noop.enqueue()
    Job.objects.filter(state="succeeded").delete()
    past = read_figures(admin_client, "hour").history
    assert (past.totals.enqueued, past.totals.ended, past.totals.failed) == (6, 5, 1)
    assert past.totals.failed_percent == 20
    assert past.queues["default"].ended == 5
    assert past.totals.run.p50 is not None and past.totals.wait.p99 is not None
    assert sum(point.ended for point in past.points) == 5
    response = admin_client.get(PAGE)
    assert response.text.count('<svg class="lines"') == 3
    assert "20 %" in text_of(response)
