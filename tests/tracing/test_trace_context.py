"""The trace of a request is stored with its jobs, and propagated to the requests and jobs that these make."""

import contextvars
import sys

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from notifications import outbound
from notifications.api import task
from notifications.models import Job
from notifications.testing import run_jobs
from notifications.tracing import trace_context
from tests.jobs import tasks

pytestmark = pytest.mark.django_db(transaction=True)


@task
def carry_sync(then):
    tasks.seen.append((then, trace_context.current_headers()))
    if then:
        carry_sync.enqueue(then=False)


PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(params=["with OpenTelemetry", "without"])
def telemetry(request, monkeypatch):
    if request.param == "without":
        monkeypatch.delitem(sys.modules, "opentelemetry.trace")


@pytest.mark.parametrize("state", ["a=1,b=2", ""])
@pytest.mark.parametrize("task", [tasks.carry, carry_sync])
def test_a_job_and_the_jobs_it_enqueues_have_the_trace_of_the_request(telemetry, task, state):
    tasks.seen.clear()
    with outbound.tracing({"traceparent": PARENT, "tracestate": state}):
        task.enqueue(then=True)
    task.enqueue(then=False)
    assert not trace_context.current_headers()
    run_jobs()
    expected = (("traceparent", PARENT), *([("tracestate", state)] if state else []))
    assert sorted(tasks.seen) == sorted([(True, expected), (False, expected), (False, ())])
    assert set(Job.objects.values_list("trace", flat=True)) == {f"{PARENT}\n{state}".rstrip(), ""}


def test_the_current_span_is_the_parent():
    """With OpenTelemetry the spans of a job are below the span that enqueued it, whatever the request's headers are."""
    tasks.seen.clear()
    tracer = TracerProvider().get_tracer("tests")
    with outbound.tracing({"traceparent": PARENT}), tracer.start_as_current_span("enqueue") as span:
        tasks.current_span.enqueue()
    tasks.current_span.enqueue()
    run_jobs()
    parent = span.get_span_context()
    assert tasks.seen == [(parent.trace_id, parent.span_id), (0, 0)]
    assert not trace.get_current_span().get_span_context().is_valid


@pytest.mark.parametrize("text", ["", "\n", "garbage", f"{PARENT}x\na=1"])
def test_a_malformed_trace_is_not_restored(text):
    def restore():
        trace_context.restore(PARENT)
        trace_context.restore(text)
        return trace_context.current_headers()

    # In a context of its own: restore() also sets OpenTelemetry's context, which later tests would see.
    assert contextvars.copy_context().run(restore) == ()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_trace_of_a_request_with_several_is_ignored(count):
    """As the recommendation of the W3C says: which one is right is not known."""

    def read():
        trace_context.set_from_headers([(b"traceparent", PARENT.encode())] * count)
        return trace_context.current_headers()

    found = contextvars.copy_context().run(read)
    assert found == ((("traceparent", PARENT),) if count == 1 else ())


def test_scope():
    """The headers of an ASGI request are parsed; two traceparents are ignored."""

    def parse(*headers):
        trace_context.set_from_headers([(b"host", b"a"), *headers])
        return trace_context.current_headers()

    parent = (b"traceparent", PARENT.encode())
    assert parse(parent, (b"tracestate", b"a=1"), (b"tracestate", b"b=2")) == (
        ("traceparent", PARENT),
        ("tracestate", "a=1,b=2"),
    )
    assert parse(parent, parent) == ()
    assert parse((b"traceparent", b"\xff")) == ()
    assert parse() == ()
