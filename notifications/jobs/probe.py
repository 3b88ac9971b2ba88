"""The task with which ``manage.py notifications doctor`` checks that workers execute jobs."""

from notifications.compat import task
from notifications.jobs.policies import policy


@task
@policy(title="Probe of manage.py notifications doctor", max_attempts=1, timeout=30)
async def probe() -> None:
    """Return at once."""
