"""A sync and an async task, and one that fails."""

from notifications.api import policy, progress, task


@task
@policy(title="Export {year}")
def export(year):
    progress(6, 12, "June")
    return {"year": year}


@task
@policy(title="Export {year} at once")
async def export_at_once(year):
    return {"year": year}


@task
@policy(title="Export {year}")
def fail_export(year):
    raise ValueError(f"There is no year {year}.")
