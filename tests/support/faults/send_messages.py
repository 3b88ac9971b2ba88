"""Another service: it has Celery and the names of tasks, and neither Django nor the project.

python -m tests.support.faults.send_messages URL USER_ID COUNT PAUSE     prints the ids that the broker has taken
"""

import sys
import time
import uuid

from celery import Celery
from kombu.exceptions import OperationalError

NAMES = [f"tests.support.faults.job_tasks.{name}" for name in ("once", "late", "retried")]
#: Each of so many messages is sent twice, and so is one that the broker has not confirmed.
TWICE = 4


def send_messages(url, user_id, count, pause):
    app = Celery(broker=url)
    app.conf.task_publish_retry = False
    if url.startswith("amqp"):
        app.conf.broker_transport_options = {"confirm_publish": True}
    for number in range(count):
        id = str(uuid.uuid4())
        left = 1 if number % TWICE else 2
        while left:
            try:
                app.send_task(NAMES[number % len(NAMES)], (user_id, 0.1), task_id=id)
                left -= 1
            except (OperationalError, OSError):
                time.sleep(pause)
        print(id, flush=True)
        time.sleep(pause)


if __name__ == "__main__":
    url, user_id, count, pause = sys.argv[1:]
    send_messages(url, int(user_id), int(count), float(pause))
