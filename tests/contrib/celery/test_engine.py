"""What Celery gets of a job."""

from datetime import timedelta

import pytest

from notifications.contrib.celery import app as app_module
from notifications.ids import uuid7

kombu = pytest.importorskip("kombu", reason="Celery is not installed (pip install celery).")
celery = pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")

from notifications.contrib.celery.engine import CeleryEngine, celery_priority, celery_queue  # noqa: E402
from notifications.contrib.engines.interface import DispatchedJob, JobsRefused  # noqa: E402


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
    from notifications.contrib.celery.worker import _check_pool

    sender = type(
        "Worker", (), {"pool_cls": type("TaskPool", (), {"__module__": f"celery.concurrency.{pool}"})}
    )
    with pytest.raises(SystemExit, match="prefork, threads or solo"):
        _check_pool(sender)


def dispatched(queue_name="default", **fields):
    fields = {"is_async": False, "priority": 0, "fence": 0, "timeout": timedelta(seconds=5)} | fields
    return DispatchedJob(id=uuid7(), task_path="tests.jobs.tasks.noop", queue_name=queue_name, **fields)


@pytest.fixture
def engine(monkeypatch, redis):
    """A Celery engine, and its app with only the queue "known"."""
    configured = app(
        broker_url=redis.url,
        task_create_missing_queues=False,
        task_queues=[kombu.Queue("known")],
        task_default_queue="known",
    )
    monkeypatch.setattr(app_module, "_connected_app", configured)
    made = CeleryEngine("default", "notifications.contrib.celery")
    yield made, configured
    if made._connection:
        made._connection.release()


def count_messages(configured):
    with configured.connection_for_read() as connection:
        return connection.default_channel.queue_declare("known").message_count


def test_refused_job_does_not_stop_the_others(engine):
    """The error names it and its queue."""
    made, configured = engine
    before = count_messages(configured)
    with pytest.raises(JobsRefused, match=r"^1 jobs were refused, first job .* of queue nowhere"):
        made.dispatch([dispatched("nowhere"), dispatched(), dispatched()])
    assert count_messages(configured) == before + 2


def test_fork_uses_a_connection_of_its_own(engine, monkeypatch):
    made, _ = engine
    made.dispatch([dispatched()])
    parent = made._connection
    monkeypatch.setattr("os.getpid", lambda: -1)
    made.dispatch([dispatched()])
    assert made._connection is not parent
    assert parent.connected
    parent.release()


def test_time_limit_is_for_sync_tasks(engine, monkeypatch):
    """An async one shares its process with others, which a kill would interrupt."""
    made, configured = engine
    sent = []
    monkeypatch.setattr(configured, "send_task", lambda *args, **options: sent.append(options["time_limit"]))
    made.dispatch([dispatched(), dispatched(is_async=True)])
    assert sent == [65, None]
