"""The adapters check that they support the installed uvicorn, and log when its own code runs instead."""

import asyncio
from types import SimpleNamespace

import pytest

from notifications import asgi
from notifications.realtime import servers
from notifications.realtime.servers import uvicorn


@pytest.fixture(autouse=True)
def forgotten_fallbacks():
    servers.log_fallback.cache_clear()


def test_uvicorn_with_another_shutdown(caplog):
    """On a uvicorn with another shutdown, the server starts, and the log says what is missing."""
    uvicorn.call_before_shutdown(SimpleNamespace(), None)
    assert caplog.messages == [
        "Clients are disconnected without a reason at shutdown on this uvicorn: no shutdown()."
    ]


@pytest.mark.parametrize("has_all_methods", [True, False])
def test_uvicorn_with_another_protocol(has_all_methods, caplog):
    """A protocol class without the overridden methods is kept, and the log names them."""
    httptools_impl = pytest.importorskip("uvicorn.protocols.http.httptools_impl")
    changed = type("HttpToolsProtocol", (), {"data_received": lambda self, data: None})
    http_class = httptools_impl.HttpToolsProtocol if has_all_methods else changed
    config = SimpleNamespace(http_protocol_class=http_class, ws_protocol_class=None)
    uvicorn.use_bounded_protocols(SimpleNamespace(config=config))
    if has_all_methods:
        assert config.http_protocol_class.__name__ == "BoundedHttp"
        assert caplog.messages == []
    else:
        assert config.http_protocol_class is changed
        assert caplog.messages == [
            "Chunks of bodies are not joined on this uvicorn: HttpToolsProtocol has no on_body, on_message_complete."
        ]


@pytest.fixture
def application():
    return asgi.get_asgi_application()


async def test_fallback_on_uvicorn_is_logged_at_startup(application, monkeypatch, caplog):
    """A uvicorn whose frames cannot be written directly is logged at startup, before the first WebSocket."""
    unsupported = type("Other", (), {})
    server = SimpleNamespace(
        config=SimpleNamespace(ws_protocol_class=unsupported, http_protocol_class=unsupported)
    )
    monkeypatch.setattr(uvicorn, "running_server", lambda: server)
    events, answers = asyncio.Queue(), asyncio.Queue()
    lifespan = asyncio.create_task(application({"type": "lifespan"}, events.get, answers.put))
    events.put_nowait({"type": "lifespan.startup"})
    await answers.get()
    assert [line.partition(":")[0] for line in caplog.messages] == [
        "WebSocket frames are not written directly on this uvicorn"
    ]
    lifespan.cancel()
