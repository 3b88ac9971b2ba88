"""Spans of jobs and notifications for OpenTelemetry, with ``NOTIFICATIONS["OPENTELEMETRY"]``.

Names and attributes follow the conventions for messaging, which are in development
(https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/).

=================== ======== ======= ===================================== =============================
name                kind     type    parent                                links
=================== ======== ======= ===================================== =============================
``enqueue QUEUE``   PRODUCER send    the current span, as of a request     none
``create QUEUE``    PRODUCER create  the current span: a job of a batch    none
``enqueue``         CLIENT   send    the current span: a batch             ``create`` of its jobs
``claim QUEUE``     CLIENT   receive none: one for each claim that found   ``enqueue`` of the jobs
                                     jobs; of several queues without QUEUE
``execute QUEUE``   CONSUMER process none: the root of a trace of its own  ``enqueue`` of the job
``notify``          CLIENT   send    the current span                      none
``push``            CLIENT   send    none: one for each pass of the hub    none
                                     that sent something
=================== ======== ======= ===================================== =============================

``execute`` is current while the task runs, so that spans of the task are its children.

Where a span is optional, callers look at ``tracer`` first: while it is None this module costs nothing else.
"""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

from notifications import __version__
from notifications.conf import settings
from notifications.tracing import trace_context

if TYPE_CHECKING:
    from notifications.jobs.outcomes import Outcome
    from notifications.jobs.transitions.running import ClaimedJob
    from notifications.models import Job

logger = logging.getLogger("notifications.jobs")

#: What makes the spans; None while there are none to make.
tracer: Any = None
#: Modules of ``opentelemetry``, imported for the first tracer.
context: Any = None
trace: Any = None

#: ``messaging.system``, and what attributes of the app's own begin with.
SYSTEM, PREFIX = "notifications", "messaging.notifications."
#: Links of one span at most. The SDK keeps 128 by default.
MAX_LINKS = 100


def is_installed() -> bool:
    """Return whether the package ``opentelemetry-api`` can be imported. It is not imported by this."""
    try:
        return importlib.util.find_spec("opentelemetry.trace") is not None
    except ModuleNotFoundError:
        return False


def configure(provider: Any = None) -> None:
    """Make spans from now on in this process if the settings say so, else none.

    ``provider`` is a tracer provider; by default that of the process, which may be set later. Called when the app is
    loaded. A wrong setting, or a missing package, is reported by the system checks.
    """
    global tracer
    try:
        is_on = settings.OPENTELEMETRY and is_installed()
    except ImproperlyConfigured:
        is_on = False
    tracer = _make_tracer(provider) if is_on else None


def start_time() -> int:
    """Return the current time in nanoseconds, as the start of a span that may be recorded later; 0 without spans."""
    return time.time_ns() if tracer is not None else 0


@contextmanager
def enqueueing(queue: str, task_path: str, *, is_in_batch: bool) -> Iterator[Any]:
    """Make the span of a job that is enqueued inside the block. Yields it; see ``set_job()``."""
    name = "create" if is_in_batch else "enqueue"
    attributes = {
        **_attributes(name, "create" if is_in_batch else "send", queue),
        f"{PREFIX}task": task_path,
    }
    with _current_span(f"{name} {queue}", "PRODUCER", attributes) as span:
        yield span


@contextmanager
def enqueueing_batch(jobs: Sequence[Job]) -> Iterator[None]:
    """Make the span of the jobs of a batch, which are inserted inside the block."""
    attributes = {**_attributes("enqueue", "send"), "messaging.batch.message_count": len(jobs)}
    with _current_span("enqueue", "CLIENT", attributes, links=_links(jobs)):
        yield


@contextmanager
def notifying() -> Iterator[Any]:
    """Make the span of notifications that are created inside the block. Yields it; see ``set_notifications()``."""
    with _current_span("notify", "CLIENT", _attributes("notify", "send")) as span:
        yield span


def set_job(span: Any, id: Any) -> None:
    """Add to a span the job that was enqueued, which may have existed before."""
    span.set_attribute("messaging.message.id", str(id))


def set_notifications(span: Any, ids: Sequence[Any]) -> None:
    """Add to a span the notifications that were created."""
    span.set_attribute("messaging.batch.message_count", len(ids))
    if len(ids) == 1:
        span.set_attribute("messaging.message.id", str(ids[0]))


def record_claim(started: int, claimed: Sequence[ClaimedJob]) -> None:
    """Make the span of a claim, which began at a ``start_time()``, if it found jobs."""
    if tracer is None or not claimed:
        return
    jobs = [each.row for each in claimed]
    queues = {job.queue_name for job in jobs}
    queue = next(iter(queues)) if len(queues) == 1 else ""
    attributes = {**_attributes("claim", "receive", queue), "messaging.batch.message_count": len(jobs)}
    _record(f"claim {queue}".rstrip(), started, attributes, links=_links(jobs))


def record_push(started: int, *, frames: int, users: int) -> None:
    """Make the span of a pass of the hub, which began at a ``start_time()``, if it sent frames."""
    if tracer is None or not frames:
        return
    attributes = {
        **_attributes("push", "send"),
        "messaging.batch.message_count": frames,
        f"{PREFIX}users": users,
    }
    _record("push", started, attributes)


@contextmanager
def executing(job: Job) -> Iterator[Any]:
    """Yield the span of an attempt, current in this context, which must be the attempt's own.

    Without ``set_outcome()`` it has none, as that of a worker that stops: the job is queued again.
    """
    attributes = {
        **_attributes("execute", "process", job.queue_name),
        "messaging.message.id": str(job.id),
        f"{PREFIX}task": job.task_path,
        f"{PREFIX}attempt": job.attempt,
        f"{PREFIX}state": "queued",
    }
    span = _start(
        f"execute {job.queue_name}",
        context=context.Context(),
        kind=trace.SpanKind.CONSUMER,
        attributes=attributes,
        links=_links([job]),
    )
    # Without a tracer provider the trace of the job stays the parent of spans, and is sent with calls.
    if span.get_span_context().is_valid:
        context.attach(trace.set_span_in_context(span))
    with _ended(span):
        yield span


def set_outcome(span: Any, outcome: Outcome) -> None:
    """Set the outcome of an attempt on its span."""
    span.set_attribute(f"{PREFIX}state", str(outcome.state))
    if outcome.state == "failed" or outcome.retry_delay is not None:
        _set_error(span, outcome.exception_class_path or "_OTHER")


def _make_tracer(provider: Any) -> Any:
    global context, trace
    context, trace = (importlib.import_module(f"opentelemetry.{name}") for name in ("context", "trace"))
    return trace.get_tracer("notifications", __version__, provider)


def _attributes(name: str, kind: str, queue: str = "") -> dict[str, Any]:
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        **({"messaging.destination.name": queue} if queue else {}),
    }


@contextmanager
def _current_span(name: str, kind: str, attributes: dict[str, Any], links: Any = ()) -> Iterator[Any]:
    span = _start(name, kind=trace.SpanKind[kind], attributes=attributes, links=links)
    # Not with what this would record of an exception, whose message and traceback may show arguments.
    with _ended(span), trace.use_span(span, record_exception=False, set_status_on_exception=False):
        yield span


@contextmanager
def _ended(span: Any) -> Iterator[None]:
    """End a span after the block, with the class of its error."""
    try:
        yield
    except BaseException as exc:
        _set_error(span, _path(type(exc)))
        raise
    finally:
        _end(span)


def _record(name: str, started: int, attributes: dict[str, Any], links: Any = ()) -> None:
    span = _start(
        name,
        context=context.Context(),
        kind=trace.SpanKind.CLIENT,
        attributes=attributes,
        links=links,
        start_time=started or None,
    )
    _end(span)


def _start(name: str, **options: Any) -> Any:
    """Return a new span; one that records nothing if a sampler or processor of the project raises."""
    try:
        return tracer.start_span(name, **options)
    except Exception:
        logger.exception("Could not start a span: %s", name)
        return trace.INVALID_SPAN


def _end(span: Any) -> None:
    try:
        span.end()
    except Exception:
        logger.exception("Could not end a span")


def _links(jobs: Iterable[Job]) -> list[Any]:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    propagator = TraceContextTextMapPropagator()
    links: list[Any] = []
    for job in jobs:
        if len(links) == MAX_LINKS:
            break
        headers = dict(trace_context.headers_of(job.trace))
        ids = trace.get_current_span(propagator.extract(headers)).get_span_context() if headers else None
        if ids is not None and ids.is_valid:
            links.append(trace.Link(ids, {"messaging.message.id": str(job.id)}))
    return links


def _set_error(span: Any, error_type: str) -> None:
    span.set_attribute("error.type", error_type)
    span.add_event("exception", {"exception.type": error_type})
    span.set_status(trace.StatusCode.ERROR)


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
