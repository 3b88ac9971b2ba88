"""The index tasks of another package: they look for an entry, and insert it where there is none."""

import threading

from django.contrib.auth.models import Group

from notifications.api import task

#: Tasks of one object meet between looking and inserting, as far as they run at once.
barrier = threading.Barrier(2)


@task
def insert_or_update_object_task(app_label, model_name, pk):
    name = f"{app_label}.{model_name}:{pk}"
    exists = Group.objects.filter(name=name).exists()
    try:
        barrier.wait(0.05)
    except threading.BrokenBarrierError:
        barrier.reset()
    if not exists:
        Group.objects.create(name=name)
