"""A setting that names code which cannot be used is a message of `check`, and leaves requests and jobs as they are."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from notifications.api import notify
from tests.jobs.tasks import noop
from tests.support.checks import system_checks
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.with_all_apps("It is about the settings of all apps."),
]

#: Not there, in a module that is not there, in a module that raises an error, and of another kind.
PATHS = [f"{__name__}.missing", "no.such.module.name", "unimportable.name", f"{__name__}.PATHS"]
JOBS = {"BACKEND": "notifications.jobs.backend.JobBackend", "QUEUES": []}


def in_notifications(**values):
    return {"NOTIFICATIONS": values}


def in_tasks(path="", **options):
    return {"TASKS": {"default": JOBS | ({"BACKEND": path} if path else {}) | {"OPTIONS": options}}}


#: How settings name code: the settings with a path, and the id of the check.
SETTINGS = {
    "authenticator": (lambda path: in_notifications(AUTHENTICATORS=[path]), "E014"),
    "handler": (lambda path: in_notifications(HANDLERS={"job.failed": [path]}), "W027"),
    "schedule": (lambda path: in_notifications(SCHEDULES={"a": {"task": path, "cron": "0 3 * * *"}}), "W021"),
    "webhook of Slack": (lambda path: in_notifications(SLACK={"webhook_url": path}), "W037"),
    "policy, retry_on": (lambda path: in_tasks(policies={"tests.*": {"retry_on": path}}), "W011"),
    "policy, notify": (lambda path: in_tasks(policies={"tests.*": {"notify": path}}), "W011"),
    "engine": (lambda path: in_tasks(engine=path), "E007"),
    "backend": (in_tasks, "W003"),
    "channel layer": (lambda path: {"CHANNEL_LAYERS": {"default": {"BACKEND": path}}}, "W049"),
}


@pytest.fixture
def use(settings, tmp_path, monkeypatch):
    """use(values) changes settings, and keeps those of NOTIFICATIONS that are not named."""
    (tmp_path / "unimportable.py").write_text("raise RuntimeError('The vault is away.')")
    monkeypatch.syspath_prepend(tmp_path)

    def use(values):
        for name, value in values.items():
            former = getattr(settings, name) if name == "NOTIFICATIONS" else {}
            setattr(settings, name, {**former, **value})

    return use


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", SETTINGS)
def test_code_that_cannot_be_used(name, path, use, user, user_client, caplog, forgotten_log):
    """The check has its id, names the path and the remedy; the API answers, and notify() and enqueue() work.

    Jobs of an engine that does not exist would wait for ever, so they are refused with the same cause.
    """
    make, id = SETTINGS[name]
    use(make(path))
    (message,) = system_checks(id)
    named = path if path != PATHS[-1] else name.rpartition(" ")[2]  # what is imported is named by its option
    assert (path in message.msg or named in message.msg) and message.hint, message
    assert user_client.get("/notifications/api/sync/").status_code == 200
    notify(user, "Works")
    if name == "engine":
        with pytest.raises(ImproperlyConfigured) as refused:
            noop.using(owner=user).enqueue()
        assert str(refused.value) == message.msg
    elif name != "backend":  # Django itself refuses it
        noop.using(owner=user).enqueue()
    if name == "channel layer":  # its thread logs that other processes are not rung
        wait_until(lambda: "goes on: notifications-doorbell-layer-publisher" in caplog.text, what="the log")
