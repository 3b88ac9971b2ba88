"""The docs of questions, and of the verbs of the commands, say what the code does."""

import inspect
import json
import re
from argparse import SUPPRESS, ArgumentParser, _SubParsersAction
from uuid import UUID

import pytest
from django.core.management import load_command_class
from django.urls import resolve

from notifications.contrib.questions import question_notifications
from notifications.extension import hooks
from notifications.jobs import cancel
from notifications.management import ManagementCommand
from notifications.management.commands.notifications import Command
from notifications.models import Job, Notification, Wait
from notifications.serializers import serialize_job
from notifications.testing import run_jobs
from tests.contrib.questions import question_tasks
from tests.docs.pages import DOCS, ROOT, section
from tests.support.offenders import collect_offenders

COMMON_OPTIONS = {
    option for action in ManagementCommand.common_options()._actions for option in action.option_strings
}
#: Those of Django, and what the help of a command says of itself.
COMMON_OPTIONS |= {"-h", "--help"}


def parsers():
    """Return the heading in the reference and the parser of each command and subcommand of the app."""
    found = []
    for name in ("run_jobs", "notify"):
        found.append((name, load_command_class("notifications", name).create_parser("manage.py", name)))
    for name, command_class in Command.subcommands.items():
        parser = ArgumentParser(parents=[ManagementCommand.common_options()])
        command_class().add_arguments(parser)
        found.append((f"notifications {name}", parser))
    return found


def verbs_of(parser):
    """Return the parsers of the verbs of a command by name."""
    return {
        verb: subparser
        for action in parser._actions
        if isinstance(action, _SubParsersAction)
        for verb, subparser in action.choices.items()
    }


def test_every_verb_and_option_of_the_commands_is_documented():
    """In the section of its command: a verb in the first cell of a row, an option anywhere."""
    with collect_offenders() as offenders:
        for heading, parser in parsers():
            text = section("reference/commands.md", heading)
            cells = " ".join(re.findall(r"^\| (.*?) \|", text, re.M))
            verbs = verbs_of(parser)
            for verb in verbs:
                with offenders.row(f"{heading} {verb}"):
                    assert re.search(rf"`{verb}\b", cells)
            for each in (parser, *verbs.values()):
                shown = [action for action in each._actions if action.help != SUPPRESS]
                options = {name for action in shown for name in action.option_strings}
                for option in sorted(options - COMMON_OPTIONS):
                    with offenders.row(f"{heading} {option}"):
                        assert re.search(rf"{option}\b", text)


ANSWER = resolve(f"/notifications/api/jobs/{UUID(int=1)}/answers/{UUID(int=1)}/")
#: The statuses of an answer that say something about it, as the view sets them.
STATUSES = set(
    re.findall(r"\b[45]\d\d\b", inspect.getsource(inspect.unwrap(ANSWER.func)).partition('"""\n')[2])
)


def test_every_status_of_an_answer_is_documented():
    """For HTTP, for scripts and in the OpenAPI document. The client refuses by itself with one of them."""
    assert {"404", "409"} <= STATUSES
    row = re.search(
        r"^\| `POST jobs/\{id\}/answers/\{wait\}/` \|.*$", (DOCS / "reference/http.md").read_text(), re.M
    )
    [paragraph] = re.findall(
        r"^`answer\(value\)` takes .*$", section("reference/javascript.md", "Job handles"), re.M
    )
    assert set(re.findall(r"\b[45]\d\d\b", row[0])) == STATUSES
    assert set(re.findall(r"\b[45]\d\d\b", paragraph)) == STATUSES
    schema = json.loads((ROOT / "notifications/http/openapi.json").read_text())
    assert set(schema["paths"]["/jobs/{id}/answers/{wait}/"]["post"]["responses"]) >= STATUSES
    client = (ROOT / "notifications/static/notifications/job_events.js").read_text()
    assert set(re.findall(r"status: (\d+)", client)) <= STATUSES


def test_every_kind_of_wait_is_documented():
    """In the protocol and in the OpenAPI document."""
    items = section("reference/protocol.md", "Items")
    assert set(re.findall(r"^\| `(\w+)` \|", items, re.M)) == {"kind", *hooks.wait_kinds}
    schema = json.loads((ROOT / "notifications/http/openapi.json").read_text())
    waiting = schema["components"]["schemas"]["Job"]["properties"]["waiting"]["oneOf"][1]
    assert set(re.findall(r"(\w+):", waiting["properties"]["kind"]["description"])) == set(hooks.wait_kinds)


@pytest.mark.django_db(transaction=True)
def test_the_keys_of_a_question_are_documented(user):
    """Of the item of the job, of the data of the notification, and how a question ends."""
    question_tasks.ask_sync.using(owner=user).enqueue()
    run_jobs()
    job = Job.objects.get()
    waiting = serialize_job(job)["waiting"]
    cancel([job.id])
    asked = json.loads(Notification.objects.get(title="Ship?").data)["question"]

    items = section("reference/protocol.md", "Items")
    assert _keys(items, "waiting") == [*waiting, *waiting["links"]]
    assert _keys(items, "question") == [*asked, *asked["links"], *asked["ended"]]
    sentence = re.search(r"^`ended\.how` is (.*)", items, re.M)[1]
    ends = {*Wait.How.values} - {Wait.How.DUE, Wait.How.CALLED_BACK}
    ends |= set(re.findall(r'"how": "(\w+)"', inspect.getsource(question_notifications)))
    assert set(re.findall(r"`(\w+)`", sentence)) == ends


def _keys(text, name):
    """Return the keys of an object of the page, those of objects in it last."""
    block = re.search(rf'"{name}":(\{{(?:[^{{}}]|\{{[^{{}}]*\}})*\}})', text)[1]
    inner = re.findall(r"\{[^{}]*\}", block[1:])
    outer = re.sub(r":\{[^{}]*\}", "", block[1:])
    return re.findall(r'"(\w+)"', outer) + re.findall(r'"(\w+)"', "".join(inner))
