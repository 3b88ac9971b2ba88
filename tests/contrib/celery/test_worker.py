"""What a worker of Celery refuses."""

import pytest

kombu = pytest.importorskip("kombu", reason="Celery is not installed (pip install celery).")
celery = pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")


@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_greenlets_are_refused(pool):
    from notifications.contrib.celery.worker import _check_pool

    sender = type(
        "Worker", (), {"pool_cls": type("TaskPool", (), {"__module__": f"celery.concurrency.{pool}"})}
    )
    with pytest.raises(SystemExit, match="prefork, threads or solo"):
        _check_pool(sender)
