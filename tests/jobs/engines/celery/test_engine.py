"""What Celery gets of a job."""

import pytest

from notifications.jobs.engines.celery import app as app_module
from notifications.jobs.engines.celery.engine import celery_priority, celery_queue

celery = pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")


def app(**conf):
    made = celery.Celery("test", set_as_current=False)
    made.conf.update(conf)
    return made


@pytest.mark.parametrize(("priority", "amqp", "redis"), [(-100, 0, 9), (0, 4, 5), (100, 9, 0)])
def test_priority(priority, amqp, redis):
    """Redis has the most urgent one at 0."""
    assert celery_priority(app(broker_url="amqp://localhost"), priority) == amqp
    assert celery_priority(app(broker_url="redis://localhost"), priority) == redis


def test_queue():
    """The default queue of each stands for the other."""
    configured = app(task_default_queue="work")
    assert celery_queue(configured, "default") == "work"
    assert celery_queue(configured, "reports") == "reports"


def test_app_that_is_not_connected(monkeypatch):
    monkeypatch.setattr(app_module, "_connected_app", None)
    with pytest.raises(app_module.ImproperlyConfigured, match=r"connect\(app\)"):
        app_module.celery_app()


@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_greenlets_are_refused(pool):
    from notifications.jobs.engines.celery.worker import _check_pool

    sender = type(
        "Worker", (), {"pool_cls": type("TaskPool", (), {"__module__": f"celery.concurrency.{pool}"})}
    )
    with pytest.raises(app_module.ImproperlyConfigured, match="prefork, threads or solo"):
        _check_pool(sender)
