"""What Celery gets for jobs that wait."""

import pytest

from notifications.contrib.celery import app as app_module
from notifications.contrib.engines import wakeups
from tests.support.waiting import wait_until

kombu = pytest.importorskip("kombu", reason="Celery is not installed (pip install celery).")
celery = pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")

from notifications.contrib.celery.engine import CeleryEngine, celery_queue  # noqa: E402


def app(**conf):
    made = celery.Celery("test", set_as_current=False)
    made.conf.update(conf)
    return made


def test_queue():
    """The default queue of each stands for the other."""
    configured = app(task_default_queue="work")
    assert celery_queue(configured, "default") == "work"
    assert celery_queue(configured, "reports") == "reports"


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


def test_messages(engine):
    made, configured = engine
    before = count_messages(configured)
    made.wake("default", 3, expires=60)
    assert count_messages(configured) == before + 3


def test_queue_that_the_broker_does_not_have_stops_no_other(engine, transactional_db, monkeypatch, caplog):
    """The error names it."""
    made, configured = engine
    before = count_messages(configured)
    monkeypatch.setattr(wakeups, "engine_of", lambda alias: made)
    sender = wakeups._Sender("default")
    sender._counts.update({"nowhere": 1, "default": 2})
    sender._thread.wake()
    wait_until(lambda: "queue nowhere" in caplog.text, what="the first message to be refused")
    sender._thread.stop(60)
    assert count_messages(configured) == before + 2


def test_fork_uses_a_connection_of_its_own(engine, monkeypatch):
    made, _ = engine
    made.wake("default", 1, expires=60)
    parent = made._connection
    monkeypatch.setattr("os.getpid", lambda: -1)
    made.wake("default", 1, expires=60)
    assert made._connection is not parent
    assert parent.connected
    parent.release()


LIMITS = [({}, False), ({"task_time_limit": 370}, False), ({"task_time_limit": 300}, True)]


@pytest.mark.parametrize(("limits", "is_short"), [*LIMITS, ({"task_soft_time_limit": 60}, True)])
def test_time_limits_of_celery(engine, limits, is_short):
    """One that ends a message before the last job of its slot is done."""
    made, configured = engine
    configured.conf.update(limits)
    assert [message.id for message in made.check()] == ["notifications.W045"] * is_short
