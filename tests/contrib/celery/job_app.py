"""A project of Celery's whose tasks are jobs, in one module."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.site_settings")

from celery import Celery

from notifications.contrib.celery import connect

app = Celery("jobs")
app.conf.update(
    broker_url=os.environ.get("CELERY_BROKER_URL", "memory://"),
    imports=["tests.contrib.celery.job_tasks"],
    task_default_queue="jobs",
    task_create_missing_queues=True,
    broker_connection_retry_on_startup=True,
    beat_max_loop_interval=0.2,
    beat_schedule={
        "known": {
            "task": "tests.contrib.celery.job_tasks.echo",
            "schedule": 0.5,
            "args": ("tick",),
            "options": {"expires": 3600},
        }
    },
)
connect(app)
app.set_default()
