"""The task with which ``manage.py notifications doctor`` checks that workers execute jobs."""

from notifications.jobs.declaring.own_tasks import own_task
from notifications.jobs.declaring.policies import policy


@own_task()
@policy(title="Probe of manage.py notifications doctor", max_attempts=1, timeout=30)
async def probe() -> None:
    """Return at once."""
