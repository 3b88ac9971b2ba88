"""Tasks that ask. ``calls`` has what they have called, in this process."""

from datetime import timedelta

from django.contrib.auth.models import Group
from django.utils.module_loading import import_string

from notifications.api import policy, progress, task
from notifications.contrib.output import output
from notifications.contrib.questions import Question, aquestion, aquestions, question
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
def ask_by_form(form=APPROVAL, is_class=False):
    form = import_string(form) if is_class else form
    return question("Approve?", name="approve", form=form, body="Of the invoice.")


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
