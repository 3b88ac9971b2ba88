"""Spans of OpenTelemetry: of enqueueing, claims, executions and notifications; and none, at no cost, when off."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from notifications import outbound
from notifications.api import batch, notify
from notifications.exceptions import TooManyJobs
from notifications.models import Job
from notifications.testing import run_jobs
from notifications.tracing import spans
from tests.jobs import tasks
from tests.jobs.conftest import (  # noqa: F401 (fixtures)
    gate,
    longest_backoff,
    short_join_idle,
    start_worker,
    until_done,
)
from tests.support.site import ROOT
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.nightly_on_postgres,
    pytest.mark.nightly_on_old_django,
]

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def configure(settings):
    """configure(provider, on=True) sets ``OPENTELEMETRY``, as for a process that is started with it."""

    def change(provider=None, *, on=True):
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "OPENTELEMETRY": on}
        spans.configure(provider)

    yield change
    change(on=False)


@pytest.fixture
def provider():
    return TracerProvider()


@pytest.fixture
def exporter(configure, provider):
    """All spans of this process from now on."""
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    configure(provider)
    return exporter


@pytest.fixture
def finished(exporter):
    """finished(name) returns the finished spans whose names begin so, in the order of their ends."""
    tasks.seen.clear()
    return lambda name="": [
        span for span in exporter.get_finished_spans() if span.name.split()[0] == name or not name
    ]


def ids_of(context):
    return context.trace_id, context.span_id


def attributes_of(span):
    """Return the attributes without those that all spans of one kind have in common."""
    assert span.attributes["messaging.system"] == "notifications"
    return {key: value for key, value in span.attributes.items() if key != "messaging.system"}


def test_job_and_the_request_that_enqueued_it(finished, provider):
    """The enqueueing is a child of the request's span; the execution is a trace of its own, linked to the former."""
    with provider.get_tracer("tests").start_as_current_span("request") as request:
        job = tasks.current_span.using(queue_name="mail").enqueue()
    run_jobs()
    [enqueue], [execute] = finished("enqueue"), finished("execute")
    assert (enqueue.name, enqueue.kind.name, enqueue.parent.span_id) == (
        "enqueue mail",
        "PRODUCER",
        request.get_span_context().span_id,
    )
    assert attributes_of(enqueue) == {
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
        "messaging.destination.name": "mail",
        "messaging.message.id": job.id,
        "messaging.notifications.task": "tests.jobs.tasks.current_span",
    }
    assert (execute.name, execute.kind.name, execute.parent) == ("execute mail", "CONSUMER", None)
    assert execute.context.trace_id != enqueue.context.trace_id
    assert [ids_of(link.context) for link in execute.links] == [ids_of(enqueue.context)]
    assert attributes_of(execute) == {
        "messaging.operation.name": "execute",
        "messaging.operation.type": "process",
        "messaging.destination.name": "mail",
        "messaging.message.id": job.id,
        "messaging.notifications.task": "tests.jobs.tasks.current_span",
        "messaging.notifications.attempt": 1,
        "messaging.notifications.state": "succeeded",
    }
    assert execute.status.status_code.name == "UNSET"
    assert tasks.seen == [ids_of(execute.context)], "the execution is current in the task"
    stored = Job.objects.get().trace.split("-")
    assert (stored[1], stored[2]) == (
        f"{enqueue.context.trace_id:032x}",
        f"{enqueue.context.span_id:016x}",
    )


@pytest.mark.parametrize("task", [tasks.notify_and_enqueue, tasks.notify_and_enqueue_sync])
def test_what_a_task_does_is_below_its_execution(start_worker, finished, task, user):  # noqa: F811
    """In async tasks, and on the threads of sync ones: notifications and jobs that it enqueues."""
    start_worker()
    job = task.enqueue(user.pk)
    until_done(job)
    wait_until(lambda: len(finished("execute")) == 2, what="both executions to end")
    first, second = sorted(finished("execute"), key=lambda span: span.start_time)
    [notified] = finished("notify")
    [_, inner] = sorted(finished("enqueue"), key=lambda span: span.start_time)
    assert notified.parent.span_id == inner.parent.span_id == first.context.span_id
    assert attributes_of(notified) == {
        "messaging.operation.name": "notify",
        "messaging.operation.type": "send",
        "messaging.batch.message_count": 1,
        "messaging.message.id": notified.attributes["messaging.message.id"],
    }
    assert [ids_of(link.context) for link in second.links] == [ids_of(inner.context)]


def test_claims_that_find_jobs(start_worker, finished):  # noqa: F811
    """One span for the jobs of a claim, with links to their enqueueing; none for a claim that finds nothing."""
    jobs = [tasks.noop.using(queue_name="mail").enqueue() for _ in range(5)]
    start_worker()
    until_done(*jobs)
    claims = finished("claim")
    assert {span.name for span in claims} == {"claim mail"}
    assert {span.kind.name for span in claims} == {"CLIENT"}
    assert sum(span.attributes["messaging.batch.message_count"] for span in claims) == 5
    assert all(span.attributes["messaging.batch.message_count"] for span in claims)
    linked = [link for span in claims for link in span.links]
    assert sorted(link.attributes["messaging.message.id"] for link in linked) == sorted(
        job.id for job in jobs
    )
    assert {ids_of(link.context) for link in linked} == {ids_of(span.context) for span in finished("enqueue")}
    assert all(0 < span.start_time <= span.end_time for span in claims)


@pytest.mark.parametrize("task", [tasks.fail, tasks.fail_sync])
def test_errors_have_a_type_and_nothing_that_shows_arguments(finished, task):
    """Neither the message nor the traceback of the exception."""
    task.enqueue("customer@example.com")
    run_jobs()
    [execute] = finished("execute")
    assert (execute.status.status_code.name, execute.status.description) == ("ERROR", None)
    assert execute.attributes["error.type"] == "builtins.ValueError"
    assert execute.attributes["messaging.notifications.state"] == "failed"
    assert [dict(event.attributes) for event in execute.events] == [{"exception.type": "builtins.ValueError"}]
    assert "customer@example.com" not in "".join(span.to_json() for span in finished())


def test_each_attempt_is_a_span(finished):
    """Linked to the same enqueueing. That of a failed attempt says that the job is queued again."""
    job = tasks.busy.enqueue(1)
    run_jobs()
    Job.objects.update(run_after=None, due_at=None)
    run_jobs()
    first, second = finished("execute")
    read = [
        (span.attributes["messaging.notifications.attempt"], span.attributes["messaging.notifications.state"])
        for span in (first, second)
    ]
    assert read == [(1, "queued"), (2, "succeeded")]
    assert first.attributes["error.type"] == "tests.jobs.tasks.VeryBusy"
    assert (first.status.status_code.name, second.status.status_code.name) == ("ERROR", "UNSET")
    assert first.links[0].context == second.links[0].context
    assert first.attributes["messaging.message.id"] == job.id


def test_a_worker_that_stops_ends_the_spans_of_its_jobs(start_worker, finished):  # noqa: F811
    """They are queued again."""
    worker = start_worker()
    tasks.hold.enqueue("stopped")
    wait_until(lambda: "stopped" in tasks.held, what="the task to begin")
    worker.stop()
    [execute] = finished("execute")
    assert execute.attributes["messaging.notifications.state"] == "queued"
    assert execute.attributes["error.type"] == "asyncio.exceptions.CancelledError"


def test_batch(finished):
    """Each job has a span of its creation; that of the INSERT links to them."""
    with batch(title="Both"):
        created = [tasks.noop.enqueue() for _ in range(2)]
    run_jobs()
    creates, [enqueue] = finished("create"), finished("enqueue")
    assert [span.name for span in creates] == ["create default"] * 2
    assert {span.attributes["messaging.operation.type"] for span in creates} == {"create"}
    assert [span.attributes["messaging.message.id"] for span in creates] == [job.id for job in created]
    assert (enqueue.name, enqueue.kind.name) == ("enqueue", "CLIENT")
    assert enqueue.attributes["messaging.batch.message_count"] == 2
    assert [ids_of(link.context) for link in enqueue.links] == [ids_of(span.context) for span in creates]
    assert {ids_of(span.links[0].context) for span in finished("execute")} == {
        ids_of(span.context) for span in creates
    }


def test_a_job_that_is_refused(finished, settings, user):
    """The span has the type of the error."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 1}
    tasks.noop.using(owner=user).enqueue()
    with pytest.raises(TooManyJobs):
        tasks.noop.using(owner=user).enqueue()
    _, refused = finished("enqueue")
    assert refused.status.status_code.name == "ERROR"
    assert refused.attributes["error.type"] == "notifications.exceptions.TooManyJobs"


def test_a_job_that_exists_already(finished):
    """The span names that one."""
    first, second = (tasks.noop.using(key="once").enqueue() for _ in range(2))
    assert first.id == second.id
    assert [span.attributes["messaging.message.id"] for span in finished("enqueue")] == [first.id] * 2


def test_notifications_of_many_users(finished, user, other_user):
    notify([user, other_user], "Maintenance at noon")
    [span] = finished("notify")
    assert span.attributes["messaging.batch.message_count"] == 2
    assert "messaging.message.id" not in span.attributes
    assert "noon" not in span.to_json()


def test_without_a_tracer_provider(configure):
    """The trace of the request goes on in its jobs, as with the setting off."""
    configure()
    tasks.seen.clear()
    with outbound.tracing({"traceparent": PARENT}):
        tasks.carry.enqueue(then=True)
    run_jobs()
    assert tasks.seen == [(then, (("traceparent", PARENT),)) for then in (True, False)]


class BrokenSampler(Sampler):
    def should_sample(self, *args, **kwargs):
        raise RuntimeError("broken")

    def get_description(self):
        return "broken"


class BrokenProcessor(SimpleSpanProcessor):
    def on_end(self, span):
        raise RuntimeError("broken")


@pytest.mark.parametrize("broken", ["sampler", "processor"])
def test_broken_parts_of_the_project_cost_no_job(configure, caplog, user, broken):
    """A sampler or a span processor that raises is logged."""
    provider = TracerProvider(sampler=BrokenSampler() if broken == "sampler" else ALWAYS_ON)
    provider.add_span_processor(BrokenProcessor(InMemorySpanExporter()))
    configure(provider)
    job = tasks.noop.enqueue()
    notify(user, "Hello")
    run_jobs()
    assert Job.objects.get(id=job.id).state == "succeeded"
    assert f"Could not {'start' if broken == 'sampler' else 'end'} a span" in caplog.text


@pytest.mark.parametrize("value", [False, "yes", 1])
def test_off_or_wrong(configure, value):
    """A wrong value is reported by a check, and does not prevent the start."""
    configure(TracerProvider(), on=value)
    assert spans.tracer is None
    assert spans.start_time() == 0


OFF = """
import sys
import django
django.setup()
from notifications import outbound
from notifications.tracing import spans
from notifications.worker import worker
from notifications.realtime import hub
assert spans.tracer is None
loaded = sorted(name for name in sys.modules if name.split(".")[0] == "opentelemetry")
assert not loaded, loaded
"""


def test_off_imports_nothing():
    """OpenTelemetry is installed here, and neither a worker nor a server imports it."""
    subprocess.run([sys.executable, "-c", OFF], cwd=ROOT, check=True, timeout=100)


def start_builtin(site, request):
    site.environment["EMBEDDED_WORKER"] = "0"
    site.start_worker()


def start_celery(site, request):
    pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")
    site.use_celery(request.getfixturevalue("redis").url)
    site.start_celery(concurrency=1)


@pytest.mark.nightly_names("*[start_celery]")
@pytest.mark.parametrize("start", [start_builtin, pytest.param(start_celery, marks=pytest.mark.slow)])
def test_worker_process(site, start, request):
    """A process of the built-in worker, and one of Celery, links its executions to what another process enqueued."""
    path = site.folder / "spans"
    site.notifications["OPENTELEMETRY"] = True
    site.environment["TEST_SPANS"] = str(path)
    start(site, request)
    site.python("from tests.jobs import tasks; tasks.add.using(queue_name='slow').enqueue(1, 2)")

    def spans_of_job():
        found = {span["name"]: span for span in read_spans(path)}
        return found if "execute slow" in found else None

    found = wait_until(spans_of_job, what="the job to be executed")
    enqueue, claim, execute = (found[f"{name} slow"] for name in ("enqueue", "claim", "execute"))
    assert execute["parent_id"] is None
    assert execute["context"]["trace_id"] != enqueue["context"]["trace_id"]
    for span in (claim, execute):
        [link] = span["links"]
        assert link["context"]["span_id"] == enqueue["context"]["span_id"]
    assert execute["attributes"]["messaging.notifications.state"] == "succeeded"


def read_spans(path):
    """Return the spans of all processes that write to a file, without a line that is being written."""
    lines = Path(path).read_text().splitlines(keepends=True) if Path(path).exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]
