"""The task by which ``manage.py doctor`` sees whether jobs are run."""

from notifications.compat import task
from notifications.jobs.policies import policy


@task
@policy(title="Probe of manage.py doctor", max_attempts=1, timeout=30)
async def probe() -> None:
    """Return at once."""
