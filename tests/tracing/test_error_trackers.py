"""An event of Sentry for a failed job has the task, the id of the job, and its owner if the settings allow."""

import json
import sys
from types import ModuleType

import pytest

from notifications.models import Job
from notifications.tracing.error_trackers import error_scope

pytestmark = pytest.mark.nightly_on_postgres

RUN = """
import json
import sentry_sdk
from sentry_sdk.transport import Transport
from django.contrib.auth import get_user_model
from django.core.management import call_command
from tests.jobs import tasks

events = []


class Kept(Transport):
    def capture_envelope(self, envelope):
        events.append(envelope.get_event())


sentry_sdk.init("http://key@127.0.0.1/1", transport=Kept, {options})
user = get_user_model().objects.create(username="sentry")
job = tasks.fail.using(owner=user).enqueue().id
call_command("run_jobs", "--until-idle")
sentry_sdk.flush()
[event] = [event for event in events if event and event.get("exception")]
print(json.dumps([event["transaction"], event["tags"]["job"] == job, event.get("user", {{}}).get("id") == str(user.pk),
                  event["exception"]["values"][-1]["type"]]))
"""


@pytest.mark.parametrize(("options", "has_user"), [("send_default_pii=True", True), ("", False)])
def test_event_of_a_failed_job(site, options, has_user):
    pytest.importorskip("sentry_sdk", reason="sentry-sdk is not installed.")
    printed = site.python(RUN.format(options=options)).splitlines()[-1]
    assert json.loads(printed) == ["tests.jobs.tasks.fail", True, has_user, "ValueError"]


def test_version_1_of_its_sdk(monkeypatch):
    """It has no scope of this kind: nothing is added, and no signal is lost."""
    monkeypatch.setitem(sys.modules, "sentry_sdk", ModuleType("sentry_sdk"))
    with error_scope(Job(task_path="shop.tasks.export")):
        pass
