"""The pages for users of other packages: their blocks of code do what they say, with stubs for the other package."""

import json
import re
import sys
from types import ModuleType, SimpleNamespace

import pytest

from notifications.api import jobs_of
from notifications.testing import capture_notifications, run_jobs
from tests.docs.pages import DOCS, blocks


def load_modules(monkeypatch, page, **modules):
    """Execute the blocks of a page as the modules that they name, beside others.

    The package has a name of its own for each page, because a worker keeps the tasks that it has imported.
    """
    name = re.sub(r"\W", "_", f"mysite_{page}")

    def add(path):
        module = ModuleType(path)
        monkeypatch.setitem(sys.modules, path, module)
        return module

    package = add(name)
    package.__path__ = []
    for module, content in modules.items():
        vars(add(f"{name}.{module}")).update(content)
        setattr(package, module, sys.modules[f"{name}.{module}"])
    for block in blocks(DOCS / page, "python"):
        module = re.match(r"# mysite/(\w+)\.py", block)[1]
        setattr(package, module, add(f"{name}.{module}"))
        exec(compile(block.replace("mysite", name), module, "exec"), vars(getattr(package, module)))
    return package


@pytest.mark.parametrize("page", ["from-celery.md", "from-django-q2.md", "from-huey.md"])
def test_a_view_enqueues_and_the_old_function_runs(page, user, rf, monkeypatch):
    """A function of django-q2 and the task of Celery are called, the task of huey by ``call_local()``."""

    def function(year):
        return {"year": year}

    function.call_local = function
    package = load_modules(monkeypatch, f"how-to/{page}", tasks={"export": function})
    request = rf.post("/exports/")
    request.user = user
    response = package.views.start(request)
    assert response.status_code in {202, 303}
    run_jobs()
    [job] = jobs_of(user)
    assert (job.title, job.state, job.result) == ("Export 2026", "succeeded", {"year": 2026})


@pytest.mark.parametrize("heading", ["From group_send of Channels", "From django-eventstream"])
def test_an_event_becomes_a_notification(heading, user):
    *_, block = blocks(DOCS / "how-to/from-group-send.md", "python", heading)
    with capture_notifications(user) as captured:
        exec(block, {"user": user})
    [notification] = captured
    assert (notification.title, notification.url) == ("Export ready", "/exports/2026/")
    assert json.loads(notification.data) == {"year": 2026}


def test_actor_and_target_become_names(user):
    block, *_ = blocks(DOCS / "how-to/from-django-notifications-hq.md", "python")
    namespace = {}
    exec(block, namespace)

    class Report(SimpleNamespace):
        def __str__(self):
            return "Report 7"

    report = Report(owner=user, get_absolute_url=lambda: "/reports/7/")
    comment = SimpleNamespace(
        report=report, author=SimpleNamespace(get_full_name=lambda: "Ada Lovelace"), text="Nice."
    )
    with capture_notifications(user) as captured:
        namespace["tell_owner"](comment)
    [notification] = captured
    assert (notification.title, notification.body) == ("Ada Lovelace commented on Report 7", "Nice.")
