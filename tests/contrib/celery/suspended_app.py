"""The app of the tests, whose recording process stops itself (SIGSTOP) while it holds a stream locked.

No record is tried again for any time after its first error, so that every suspension lasts longer than that.
"""

from celery import signals
from django.db.backends.signals import connection_created
from django.dispatch import receiver

from tests.contrib.celery.app import app  # noqa: F401
from tests.faults.support.statement_faults import INSERT, make_wrapper

_stop = make_wrapper("SIGSTOP", "after", INSERT.format("stream"))


@signals.worker_init.connect
def shorten_retries(**kwargs):
    from notifications.contrib.celery import recorder

    recorder.RETRY_SECONDS = 0.0


@receiver(connection_created)
def stop_at_stream(connection, **kwargs):
    connection.execute_wrappers.append(_stop)
