"""The site's Celery app, for those who run its jobs on Celery: ``celery -A asyncsite worker``."""

import os

from celery import Celery

from notifications.contrib.celery import connect

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "asyncsite.settings")

app = Celery("asyncsite")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
connect(app)
