"""A project of Celery's, laid out as its guide for Django has it, in one module."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.site_settings")

from celery import Celery

from notifications.contrib.celery import connect

app = Celery("tests")
app.conf.update(
    broker_url=os.environ.get("CELERY_BROKER_URL", "memory://"),
    result_backend=os.environ.get("CELERY_RESULT_BACKEND", os.environ.get("CELERY_BROKER_URL")),
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    task_publish_retry=False,
    # RabbitMQ gives a suspended worker's messages to others after two of them.
    broker_heartbeat=int(os.environ.get("CELERY_BROKER_HEARTBEAT", "5")),
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_transport_options={
        "visibility_timeout": int(os.environ.get("CELERY_VISIBILITY_TIMEOUT", "5")),
        "unacked_restore_interval": 2,
        "unacked_restore_throttle": 1,
    },
)
app.set_default()
connect(app)
