"""Tasks that do nothing, to measure what is around them."""

from notifications.api import task


@task
async def nothing(number: int) -> None:
    """Return at once."""
