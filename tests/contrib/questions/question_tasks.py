"""Tasks that ask. ``calls`` has what they have called, in this process."""

from datetime import timedelta
from decimal import Decimal

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import transaction
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy

from notifications.api import policy, progress, task
from notifications.contrib.output import output
from notifications.contrib.questions import Question, aquestion, aquestions, question, questions
from notifications.contrib.steps import step

calls = []
APPROVAL = "tests.contrib.questions.forms.Approval"
DAY = timedelta(days=1)


def call(name):
    calls.append(name)
    return name


YES_NO = {"yes": "Ship", "no": "Keep"}


@task
@policy(max_attempts=1)
async def ask(**options):
    calls.append("begin")
    return await aquestion("Ship?", name="ship", choices=YES_NO, **options)


@task
@policy(max_attempts=1)
def ask_sync(to=None, expires_ms=None, default=None, remind_hours=(), url=None):
    options = {"url": url}
    if remind_hours:
        options["remind"] = [timedelta(hours=hours) for hours in remind_hours]
    if expires_ms:
        options |= {"expires": timedelta(milliseconds=expires_ms)} | ({"default": default} if default else {})
    return question("Ship?", name="ship", choices=YES_NO, body="To the new address.", to=to, **options)


@task
@policy(max_attempts=1)
async def ask_who(to=None, expires_ms=None):
    """Add the details of the answer to ``calls``."""
    options = {"expires": timedelta(milliseconds=expires_ms), "default": "no"} if expires_ms else {}
    calls.append(await aquestion("Ship?", name="ship", choices=YES_NO, to=to, details=True, **options))
    return calls[-1].value


@task
@policy(max_attempts=1)
def ask_who_twice(to):
    asked = [Question("Ship?", "ship", YES_NO, to=to), Question("Wrap?", "wrap", YES_NO, to=to)]
    calls.extend(questions(asked, details=True))
    calls.append(question("Send?", name="send", choices=YES_NO, to=to, details=True))


@task
@policy(max_attempts=1)
def ask_by_form(form=APPROVAL, is_class=False):
    form = import_string(form) if is_class else form
    return question("Approve?", name="approve", form=form, body="Of the invoice.")


@task
@policy(max_attempts=1)
def ask_with_initial(form, **initial):
    """``due`` and ``at`` are parsed, ``amount`` is a decimal, ``person`` a user, ``others`` all users."""
    for name, parse in (("due", parse_date), ("at", parse_datetime), ("amount", Decimal)):
        if name in initial:
            initial[name] = parse(initial[name])
    if "person" in initial:
        users = get_user_model()._default_manager.order_by("pk")
        initial |= {"person": users.get(pk=initial["person"]), "others": users.all()}
    return question("Approve?", name="approve", form=f"tests.contrib.questions.forms.{form}", initial=initial)


@task
@policy(max_attempts=1)
def ask_about(url, count=2, form=None):
    """With this many choices, or by a form."""
    choices = None if form else {str(number): f"Choice {number}" for number in range(count)}
    return question("Ship?", name="ship", choices=choices, form=form, url=url)


@task
@policy(max_attempts=1)
def ask_danger(sentence=""):
    danger = {"delete": sentence} if sentence else ["delete"]
    return question("Delete?", name="delete", choices={"keep": "Keep", "delete": "Delete"}, danger=danger)


@task
@policy(max_attempts=1)
async def ask_several(names):
    return await aquestions([Question(f"{name}?", name, YES_NO) for name in names])


@task
@policy(max_attempts=1)
async def ask_staff_of(kind, key):
    to = await Group.objects.aget(pk=key) if kind == "group" else key
    return await aquestion("Ship?", name="ship", choices=YES_NO, to=to)


@task
@policy(max_attempts=1)
def ask_about_draft(to, argument):
    step("a step", call, "a step's result")
    progress(3, 7, "Page 3")
    output("Dear customer,\n<b>no</b>.\n")
    question("Send it?", name="send", choices=YES_NO, to=to)
    output("It was sent.\n")
    return "a result"


#: Options that are wrong, beside the name, and choices where neither is given.
WRONG_OPTIONS = {
    "no choices": {"choices": {}},
    "a list": {"choices": ["yes"]},
    "a long label": {"choices": {"yes": "x" * 41}},
    "21 choices": {"choices": {str(n): "x" for n in range(21)}},
    "a number": {"choices": {1: "x"}},
    "large choices": {"choices": {"ä" * 48 + str(n): "ä" * 40 for n in range(10, 29)}},
    "default without expires": {"default": "no"},
    "a wrong url": {"url": "javascript:alert(1)"},
    "initial without a form": {"initial": {"amount": 5}},
    "initial of another type": {"form": APPROVAL, "initial": ["amount"]},
    "initial of no field": {"form": APPROVAL, "initial": {"price": 5}},
    "initial that is no JSON": {"form": APPROVAL, "initial": {"reason": object()}},
    "initial that is large": {"form": APPROVAL, "initial": {"reason": "x" * 65_536}},
    "choices and a form": {"choices": YES_NO, "form": APPROVAL},
    "a form that is missing": {"form": "tests.contrib.questions.forms.Missing"},
    "a form that is none": {"form": "tests.jobs.tasks.noop"},
    "a form with files": {"form": "tests.contrib.questions.forms.Upload"},
    "danger that is no choice": {"danger": ["delete"]},
    "danger as a string": {"danger": "yes"},
    "a reminder of another type": {"remind": [60]},
    "reminders in the wrong order": {"remind": [2 * DAY, DAY]},
    "11 reminders": {"remind": [n * DAY for n in range(1, 12)]},
    "a reminder after the end": {"remind": [DAY], "expires": DAY},
    "no permission": {"to": "everybody"},
    "a permission that does not exist": {"to": "notifications.ship_order"},
    "no one": {"to": []},
    "101 users": {"to": list(range(1, 102))},
}


@task
@policy(max_attempts=1)
def ask_wrongly(kind):
    match kind:
        case "in a transaction":
            with transaction.atomic():
                return question("Ship?", name="ship", choices=YES_NO)
        case "name twice":
            step("ship", call, "ship")
        case "101 questions":
            return questions([Question("Ship?", str(n), YES_NO) for n in range(101)])
        case "no question":
            return questions(["Ship?"])
    options = WRONG_OPTIONS.get(kind, {})
    choices = {} if "form" in options else {"choices": YES_NO}
    return question("Ship?", name="ship", **choices | options)


@task
@policy(max_attempts=1)
def ask_translated(to, remind_hours):
    return question(
        gettext_lazy("Monday"),
        name="sure",
        choices={"yes": gettext_lazy("Delete"), "no": gettext_lazy("No")},
        body=gettext_lazy("Save"),
        to=to,
        remind=[timedelta(hours=hours) for hours in remind_hours],
    )
