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


@task
@policy(max_attempts=1)
def ask_wrongly(kind):
    options = {"name": "ship", "choices": YES_NO}
    match kind:
        case "no choices":
            options["choices"] = {}
        case "a list":
            options["choices"] = ["yes"]
        case "a long label":
            options["choices"] = {"yes": "x" * 41}
        case "21 choices":
            options["choices"] = {str(n): "x" for n in range(21)}
        case "a number":
            options["choices"] = {1: "x"}
        case "large choices":
            options["choices"] = {"ä" * 48 + str(n): "ä" * 40 for n in range(10, 29)}
        case "default without expires":
            options["default"] = "no"
        case "a wrong url":
            options["url"] = "javascript:alert(1)"
        case "initial without a form":
            options["initial"] = {"amount": 5}
        case "initial of another type":
            options = {"name": "ship", "form": APPROVAL, "initial": ["amount"]}
        case "initial of no field":
            options = {"name": "ship", "form": APPROVAL, "initial": {"price": 5}}
        case "initial that is no JSON":
            options = {"name": "ship", "form": APPROVAL, "initial": {"reason": object()}}
        case "initial that is large":
            options = {"name": "ship", "form": APPROVAL, "initial": {"reason": "x" * 65_536}}
        case "choices and a form":
            options["form"] = "tests.contrib.questions.forms.Approval"
        case "a form that is missing":
            options = {"name": "ship", "form": "tests.contrib.questions.forms.Missing"}
        case "a form that is none":
            options = {"name": "ship", "form": "tests.jobs.tasks.noop"}
        case "a form with files":
            options = {"name": "ship", "form": "tests.contrib.questions.forms.Upload"}
        case "danger that is no choice":
            options["danger"] = ["delete"]
        case "danger as a string":
            options["danger"] = "yes"
        case "a reminder of another type":
            options["remind"] = [60]
        case "reminders in the wrong order":
            options["remind"] = [2 * DAY, DAY]
        case "11 reminders":
            options["remind"] = [n * DAY for n in range(1, 12)]
        case "a reminder after the end":
            options |= {"remind": [DAY], "expires": DAY}
        case "no permission":
            options["to"] = "everybody"
        case "a permission that does not exist":
            options["to"] = "notifications.ship_order"
        case "no one":
            options["to"] = []
        case "101 users":
            options["to"] = list(range(1, 102))
        case "in a transaction":
            with transaction.atomic():
                return question("Ship?", **options)
        case "name twice":
            step("ship", call, "ship")
        case "101 questions":
            return questions([Question("Ship?", str(n), YES_NO) for n in range(101)])
        case "no question":
            return questions(["Ship?"])
    return question("Ship?", **options)


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
