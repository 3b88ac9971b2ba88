"""Traces: propagated with calls, and spans with OpenTelemetry."""

import asyncio
import sys
from types import SimpleNamespace

import pytest
from opentelemetry import context, propagate, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from notifications import outbound
from notifications.asgi import Application
from notifications.tracing import trace_context

from .upstream import Upstream

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def without_telemetry(monkeypatch):
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")


async def send(upstream):
    """Make a call and return the trace headers that the upstream received."""
    await outbound.get(upstream.url("/ok"))
    headers = upstream.requests[-1].headers
    return headers.get("traceparent"), headers.get("tracestate")


async def test_propagated(upstream, without_telemetry):
    """The trace of a request is sent with its calls, and with no others; its tracestate never is."""
    with outbound.tracing({"traceparent": PARENT, "tracestate": "a=1,b=2"}):
        assert await send(upstream) == (PARENT, None)
        task = asyncio.create_task(send(upstream))
    assert await task == (PARENT, None)
    assert await send(upstream) == (None, None)
    with outbound.tracing({"traceparent": PARENT}):
        await outbound.get(upstream.url("/ok"), headers={"Traceparent": "own"})
        assert upstream.requests[-1].headers.getall("traceparent") == ["own"]


@pytest.mark.parametrize(
    ("parent", "state", "expected"),
    [
        (PARENT, "", (PARENT, None)),
        (PARENT, "a=1\r\nX: y", (PARENT, None)),
        (PARENT, "a" * 513, (PARENT, None)),
        (PARENT.replace("00-", "cc-", 1) + "-what-comes", "a=1", (PARENT, "a=1")),
        (PARENT + "-what-comes", "a=1", (None, None)),
        ("", "a=1", (None, None)),
        (PARENT.upper(), "a=1", (None, None)),
        (PARENT + "\n", "a=1", (None, None)),
        ("ff" + PARENT[2:], "", (None, None)),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", "", (None, None)),
        (f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01", "", (None, None)),
        ("garbage", "", (None, None)),
    ],
)
async def test_malformed(upstream, without_telemetry, parent, state, expected):
    """Malformed trace headers are not sent, a later version as version 00. A job keeps the tracestate."""
    with outbound.tracing({"traceparent": parent, "tracestate": state}):
        assert await send(upstream) == (expected[0], None)
        assert (
            dict(trace_context.current_headers()).get("traceparent"),
            dict(trace_context.current_headers()).get("tracestate"),
        ) == expected


async def test_not_to_another_origin(upstream, allow, without_telemetry):
    """A redirect to another origin sends no trace."""
    other = Upstream()
    allow(upstream.address, other.address)
    with outbound.tracing({"traceparent": PARENT}):
        await outbound.get(upstream.url(f"/redirect?to={other.url('/ok')}"))
    assert "traceparent" in upstream.requests[-1].headers
    assert "traceparent" not in other.requests[-1].headers
    other.close()


@pytest.fixture
def spans(monkeypatch):
    """The finished spans of a tracer provider of the test."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return exporter


async def test_spans(upstream, spans):
    """Each request is a client span without its path and query, and the parent of the server's spans."""
    await outbound.get(upstream.url("/sequence?statuses=503&token=secret"))
    first, second = spans.get_finished_spans()
    assert (first.name, first.kind.name, first.attributes["http.response.status_code"]) == (
        "GET",
        "CLIENT",
        503,
    )
    assert (first.status.status_code.name, first.attributes["error.type"]) == ("ERROR", "503")
    assert (second.status.status_code.name, second.attributes["http.request.resend_count"]) == ("UNSET", 1)
    assert second.attributes["url.full"] == upstream.url("/REDACTED")
    assert (second.attributes["server.address"], second.attributes["server.port"]) == (
        "127.0.0.1",
        upstream.port,
    )
    for span, received in zip((first, second), upstream.requests, strict=True):
        ids = f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-"
        assert received.headers["traceparent"].startswith(ids)


async def test_only_traceparent_is_sent(upstream, spans):
    """The span continues the incoming request's trace; its tracestate and baggage are not sent."""
    headers = {"traceparent": PARENT, "tracestate": "visitor=secret", "baggage": "user=alice"}
    token = context.attach(propagate.extract(headers))
    try:
        await outbound.get(upstream.url("/ok"))
    finally:
        context.detach(token)
    received = upstream.requests[-1].headers
    assert received["traceparent"].split("-")[1] == PARENT.split("-")[1]
    assert "tracestate" not in received and "baggage" not in received


async def test_span_of_an_error(upstream, spans):
    """An error ends its span."""
    with pytest.raises(outbound.TooLarge):
        await outbound.get(upstream.url("/sized/100"), max_bytes=5)
    (span,) = spans.get_finished_spans()
    assert span.attributes["error.type"] == "TooLarge"


async def test_without_a_provider(upstream):
    """Without a tracer provider OpenTelemetry changes nothing: the trace is sent."""
    with outbound.tracing({"traceparent": PARENT}):
        assert (await send(upstream))[0] == PARENT


async def test_provider_without_ids(upstream, monkeypatch):
    """With OTEL_SDK_DISABLED the ids of spans are zeros: the incoming request's trace is sent."""
    monkeypatch.setattr(trace, "get_tracer_provider", trace.NoOpTracerProvider)
    assert (await send(upstream))[0] is None
    with outbound.tracing({"traceparent": PARENT}):
        assert (await send(upstream))[0] == PARENT


async def test_trace_of_a_request():
    """The calls of a view send the trace of its request, and not of an earlier one."""
    carried = []

    async def django(scope, receive, send):
        carried.append(trace_context.current_headers())

    application = Application(django)
    application.hub = SimpleNamespace(current_hub=lambda: None)
    for headers in ([(b"traceparent", PARENT.encode())], []):
        await application({"type": "http", "path": "/", "headers": headers}, None, lambda message: None)
    assert carried == [(("traceparent", PARENT),), ()]
