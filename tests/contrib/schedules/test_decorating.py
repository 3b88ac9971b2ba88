"""Schedules that are declared at their tasks, in a project of their own: they are declared for all of a process."""

TASKS = """
from datetime import timedelta
from notifications.api import task
from notifications.contrib.schedules import every

@task
@every(timedelta(minutes=10), args=["suppliers"])
def poll(kind):
    return kind

@every("0 8 * * 1", zone="Asia/Tokyo", name="weekly", overlap="allow")
@every("0 6 * * *", zone="Europe/Berlin", kwargs={"kind": "all"})
@task
def report(kind):
    return kind

@task
@every("61 * * * *", name="wrong", owners="ada")
def wrong():
    pass

try:
    every("0 7 * * *")(report)
except ValueError as exc:
    refused = str(exc)
"""
RUN = """
from django.core.checks import run_checks
from notifications.contrib.schedules.models import Schedule
from notifications.extension import Upkeep, Where
from notifications.models import Job
from notifications.times import now
from reports.tasks import refused

print([check.msg for check in run_checks(tags=["notifications"])])
print(refused)
Schedule.objects.filter(name="reports.tasks.poll").update(next_tick=now())
[loop] = [duty for duty in Upkeep(Where.WORKER, seconds=0).own_loops if "schedules" in duty.name]
loop.run()
print(list(Job.objects.values_list("task_path", "args", "schedule")))
"""
ENGINE = """
from notifications.contrib.schedules.models import Schedule
from notifications.extension import Upkeep, Where

process = Upkeep(Where.ENGINE, seconds=60)
[duty] = [duty for duty in process.duties if duty.name == "enqueue jobs of schedules"]
process.run(duty)
process.project_threads.end(60)
print(list(Schedule.objects.order_by("name").values_list("name", flat=True)))
"""


def test_schedules_at_their_tasks(project):
    """The modules of apps are imported for them; an entry of the settings with a name takes its place."""
    app = project.folder / "reports"
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "tasks.py").write_text(TASKS)
    broken = project.folder / "broken"
    broken.mkdir()
    (broken / "__init__.py").touch()
    (broken / "tasks.py").write_text("raise RuntimeError('not today')")
    project.add_settings(
        'INSTALLED_APPS += ["notifications.contrib.schedules", "reports", "broken"]\n'
        'NOTIFICATIONS["SCHEDULES"] = {"weekly": {"task": "reports.tasks.report", "cron": "0 9 * * *", "args": [1]}}\n'
    )
    project.manage("migrate", "--verbosity", "0")
    # A process that hands jobs to an engine imports them too: there may be no worker.
    names = project.manage("shell", "--no-imports", "-c", ENGINE).splitlines()[-1]
    assert names == "['reports.tasks.poll', 'reports.tasks.report', 'weekly']"
    listed = project.manage("notifications", "schedules", "list").splitlines()
    assert [line.split()[0] for line in listed] == ["reports.tasks.poll", "reports.tasks.report", "weekly"]
    assert "every 600 s" in listed[0] and "0 6 * * * Europe/Berlin" in listed[1] and "0 9 * * *" in listed[2]
    checks, refused, jobs = project.manage("shell", "--no-imports", "-c", RUN).splitlines()
    assert "@every of wrong has an unknown key 'owners'" in checks and "not today" in checks
    assert refused.startswith("reports.tasks.report has two schedules 'reports.tasks.report'.")
    assert jobs == """[('reports.tasks.poll', '["suppliers"]', 'reports.tasks.poll')]"""
