"""Traces: passed on with calls, and spans where OpenTelemetry is installed."""

import asyncio
from types import SimpleNamespace

import pytest
from opentelemetry import context, propagate, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from notifications import outbound, traces
from notifications.asgi import Application
from notifications.outbound import telemetry

from .upstream import Upstream

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def without_telemetry(monkeypatch):
    monkeypatch.setattr(telemetry, "trace", None)


async def sent(upstream):
    await outbound.get(upstream.url("/ok"))
    headers = upstream.seen[-1].headers
    return headers.get("traceparent"), headers.get("tracestate")


async def test_passed_on(upstream, without_telemetry):
    """The trace of a request goes along with the calls made for it, and with no others; its tracestate never does."""
    with outbound.tracing({"traceparent": PARENT, "tracestate": "a=1,b=2"}):
        assert await sent(upstream) == (PARENT, None)
        task = asyncio.create_task(sent(upstream))
    assert await task == (PARENT, None)
    assert await sent(upstream) == (None, None)
    with outbound.tracing({"traceparent": PARENT}):
        await outbound.get(upstream.url("/ok"), headers={"Traceparent": "own"})
        assert upstream.seen[-1].headers.getall("traceparent") == ["own"]


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
    """What is malformed is not passed on, and a later version as this one. A job keeps the tracestate."""
    with outbound.tracing({"traceparent": parent, "tracestate": state}):
        assert await sent(upstream) == (expected[0], None)
        assert (
            dict(traces.carried()).get("traceparent"),
            dict(traces.carried()).get("tracestate"),
        ) == expected


async def test_not_to_another_origin(upstream, allow, without_telemetry):
    """A redirect to another origin takes no trace along."""
    other = Upstream()
    allow(upstream.place, other.place)
    with outbound.tracing({"traceparent": PARENT}):
        await outbound.get(upstream.url(f"/redirect?to={other.url('/ok')}"))
    assert "traceparent" in upstream.seen[-1].headers
    assert "traceparent" not in other.seen[-1].headers
    other.close()


def test_scope():
    """The headers of an ASGI request are read; two parents are none."""

    def noted(*headers):
        traces.note([(b"host", b"a"), *headers])
        return traces.carried()

    parent = (b"traceparent", PARENT.encode())
    assert noted(parent, (b"tracestate", b"a=1"), (b"tracestate", b"b=2")) == (
        ("traceparent", PARENT),
        ("tracestate", "a=1,b=2"),
    )
    assert noted(parent, parent) == ()
    assert noted((b"traceparent", b"\xff")) == ()
    assert noted() == ()


@pytest.fixture
def spans(monkeypatch):
    """Finished spans of a tracer provider of its own."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return exporter


async def test_spans(upstream, spans):
    """Each request is a client span without its query, and the parent of what the other side does."""
    await outbound.get(upstream.url("/times?say=503&token=secret"))
    first, second = spans.get_finished_spans()
    assert (first.name, first.kind.name, first.attributes["http.response.status_code"]) == (
        "GET",
        "CLIENT",
        503,
    )
    assert (first.status.status_code.name, first.attributes["error.type"]) == ("ERROR", "503")
    assert (second.status.status_code.name, second.attributes["http.request.resend_count"]) == ("UNSET", 1)
    assert second.attributes["url.full"] == upstream.url("/times")
    assert (second.attributes["server.address"], second.attributes["server.port"]) == (
        "127.0.0.1",
        upstream.port,
    )
    for span, seen in zip((first, second), upstream.seen, strict=True):
        ids = f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-"
        assert seen.headers["traceparent"].startswith(ids)


async def test_nothing_else_of_a_visitor_is_sent(upstream, spans):
    """The span continues the visitor's trace; their tracestate and baggage stay here."""
    headers = {"traceparent": PARENT, "tracestate": "visitor=secret", "baggage": "user=ada"}
    token = context.attach(propagate.extract(headers))
    try:
        await outbound.get(upstream.url("/ok"))
    finally:
        context.detach(token)
    seen = upstream.seen[-1].headers
    assert seen["traceparent"].split("-")[1] == PARENT.split("-")[1]
    assert "tracestate" not in seen and "baggage" not in seen


async def test_span_of_an_error(upstream, spans):
    """What goes wrong ends its span."""
    with pytest.raises(outbound.TooLarge):
        await outbound.get(upstream.url("/sized/100"), max_bytes=5)
    (span,) = spans.get_finished_spans()
    assert span.attributes["error.type"] == "TooLarge"


async def test_without_a_provider(upstream):
    """OpenTelemetry that is installed and not set up changes nothing: a trace is passed on."""
    with outbound.tracing({"traceparent": PARENT}):
        assert (await sent(upstream))[0] == PARENT


async def test_a_provider_without_ids(upstream, monkeypatch):
    """With OTEL_SDK_DISABLED spans have ids of zeros: the trace of the request is passed on."""
    monkeypatch.setattr(trace, "get_tracer_provider", trace.NoOpTracerProvider)
    assert (await sent(upstream))[0] is None
    with outbound.tracing({"traceparent": PARENT}):
        assert (await sent(upstream))[0] == PARENT


async def test_a_request_carries_its_trace():
    """What a view calls passes on the trace of its request, and that of no earlier one."""
    carried = []

    async def django(scope, receive, send):
        carried.append(traces.carried())

    application = Application(django)
    application.hub = SimpleNamespace(current_hub=lambda: None)
    for headers in ([(b"traceparent", PARENT.encode())], []):
        await application({"type": "http", "path": "/", "headers": headers}, None, lambda message: None)
    assert carried == [(("traceparent", PARENT),), ()]
