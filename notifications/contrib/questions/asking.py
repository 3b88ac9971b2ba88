"""Questions: a job asks its owner, or others, and waits for the first answer.

No model is imported at the top: modules of tasks may be imported before the models are ready.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from notifications import validators
from notifications.contrib.questions.answers import Answer, describe_answer
from notifications.exceptions import QuestionExpired
from notifications.extension import require
from notifications.jobs import DurableCall, validate_duration

if TYPE_CHECKING:
    from django.forms import BaseForm
    from django.utils.functional import Promise

    from notifications.contrib.questions.models import AskedQuestion
    from notifications.models import Job, Wait

#: Choices of one question, and characters of the value of one.
MAX_CHOICES, MAX_VALUE_LENGTH = 20, 50
#: Notifications of the questions that one call asks: one for each question and addressee.
MAX_NOTIFICATIONS = 100
#: Reminders of a question.
MAX_REMINDERS = 10
_NO_DEFAULT: Any = object()


@dataclass(frozen=True, slots=True)
class Question:
    """A question for ``questions()``. See ``question()`` for the fields. Raises TypeError or ValueError."""

    title: str | Promise
    name: str
    choices: Mapping[str, str | Promise] | None = None
    body: str | Promise = ""
    expires: timedelta | None = None
    default: Any = _NO_DEFAULT
    to: Any = None
    remind: Sequence[timedelta] = ()
    form: str | type[BaseForm] | None = None
    danger: Collection[str] | Mapping[str, str | Promise] = ()
    url: str | None = None
    initial: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        validators.text("name", self.name, validators.MAX_KEY_LENGTH, required=True)
        _title_of(self)
        validators.text("body", self.body, validators.MAX_BODY_LENGTH)
        if (self.choices is None) == (self.form is None):
            raise TypeError("Pass either choices or form.")
        if self.choices is not None:
            _validated_choices(self.choices)
        _validate_danger(self.danger, self.choices or {})
        validators.link("url", self.url)
        if self.initial is not None and self.form is None:
            raise TypeError("initial needs form, of whose fields it has the first values.")
        if self.expires is not None:
            validate_duration("expires", self.expires)
        elif self.default is not _NO_DEFAULT:
            raise ValueError("default needs expires, because it is returned when the question has expired.")
        _validate_remind(self.remind, self.expires)


def question(
    title: str | Promise,
    *,
    name: str,
    choices: Mapping[str, str | Promise] | None = None,
    body: str | Promise = "",
    expires: timedelta | None = None,
    default: Any = _NO_DEFAULT,
    to: Any = None,
    remind: Sequence[timedelta] = (),
    form: str | type[BaseForm] | None = None,
    danger: Collection[str] | Mapping[str, str | Promise] = (),
    url: str | None = None,
    initial: Mapping[str, Any] | None = None,
    details: bool = False,
) -> Any:
    """Ask a person, suspend the job until the first answer, and return the value that was chosen.

    ::

        answer = question("Ship to the new address?", name="ship", choices={"yes": "Ship", "no": "Keep"})

    ``title``, ``body``
        Plain text of at most 200 and 2,000 characters.
    ``name``
        As that of ``step()``, of whose names it must differ. A newer deploy with another text or other choices does not
        change a question that was asked.
    ``choices``
        The labels of at most 20 answers by their values: at most 40 and 50 characters.
    ``form``
        Instead of choices a ``django.forms.Form`` without files, or its import path. It is shown on the page of the
        question, and must be made without arguments. Its ``cleaned_data`` is the answer, as JSON of at most 64 KiB: a
        dict, with model instances as keys, dates and decimals as text.
    ``initial``
        The first values of the fields of the form, as Django's ``initial``: at most 64 KiB of JSON, in which model
        instances are their keys.
    ``danger``
        The values of choices that must be confirmed, or a dict with a sentence of at most 200 characters for each. It
        says what is lost by it, and is the heading of the dialog that asks.
    ``url``
        Where a person sees what the question is about: a path that begins with one ``/``, or an http(s) address. It is
        a link on the page of the question, in its e-mail, and beside at most two choices of its notification.
    ``expires``
        More than nothing, at most ten years, from when the question is stored. Without it the job waits without limit.
    ``default``
        Returned if nobody has answered in time, instead of raising ``QuestionExpired``.
    ``to``
        Who is asked, by a notification, and may answer: a user or key, an iterable of at most 100, a group, or a
        permission such as ``"shop.ship_order"``. By default the owner of the job. Who comes into a group or gets a
        permission later is asked too, who loses it is not any more. If none of them is active, those with the
        permission ``notifications_questions.answer_question`` are asked, superusers too.
    ``remind``
        When those who were asked are notified again until the first answer: at most 10 times after the question is
        stored, in ascending order, as ``[timedelta(hours=1), timedelta(days=1)]``.
    ``details``
        Return an ``Answer``, which has who has answered, when and how, in place of its value.

    The function of the task is called again from the start when the question was answered: see ``pause()``.

    Raises ``QuestionExpired`` of ``notifications.exceptions``; ``JobSuspended``, which the task must let pass;
    RuntimeError without an active user to ask, outside of a job and inside a transaction; TypeError; ValueError, also
    for a permission that does not exist and an empty ``to``.
    """
    one = Question(title, name, choices, body, expires, default, to, remind, form, danger, url, initial)
    return _ask("question", [one], details)[0]


async def aquestion(
    title: str | Promise,
    *,
    name: str,
    choices: Mapping[str, str | Promise] | None = None,
    body: str | Promise = "",
    expires: timedelta | None = None,
    default: Any = _NO_DEFAULT,
    to: Any = None,
    remind: Sequence[timedelta] = (),
    form: str | type[BaseForm] | None = None,
    danger: Collection[str] | Mapping[str, str | Promise] = (),
    url: str | None = None,
    initial: Mapping[str, Any] | None = None,
    details: bool = False,
) -> Any:
    """See question()."""
    one = Question(title, name, choices, body, expires, default, to, remind, form, danger, url, initial)
    return (await _aask("aquestion", [one], details))[0]


def questions(asked: Sequence[Question], *, details: bool = False) -> list[Any]:
    """Ask several questions together, and return their answers when all were answered, in the same order.

    ::

        ship, gift = questions([Question("Ship?", "ship", YES_NO), Question("Wrap as a gift?", "gift", YES_NO)])

    ``asked``
        At most 100 questions, and at most 100 notifications: one for each question and addressee.

    See question().
    """
    return _ask("questions", asked, details)


async def aquestions(asked: Sequence[Question], *, details: bool = False) -> list[Any]:
    """See questions()."""
    return await _aask("aquestions", asked, details)


def _ask(function: str, asked: Sequence[Question], details: bool) -> list[Any]:
    names, make, finish = _prepare(function, asked, details)
    return DurableCall(function, *names).wait_for_all("question", make, finish) if names else []


async def _aask(function: str, asked: Sequence[Question], details: bool) -> list[Any]:
    names, make, finish = _prepare(function, asked, details)
    if not names:
        return []
    return await DurableCall(function, *names, is_async=True).await_for_all("question", make, finish)


def _prepare(
    function: str, asked: Sequence[Question], details: bool
) -> tuple[list[str], Callable[..., Any], Callable[..., list[Any]]]:
    """Return the names of questions, what stores those that are new, and what returns the answers to all."""
    require("notifications.contrib.questions")
    asked = list(asked)
    if not all(isinstance(one, Question) for one in asked):
        raise TypeError(f"{function}() takes a list of Question(...) of notifications.contrib.questions.")
    if len(asked) > MAX_NOTIFICATIONS:
        raise ValueError(f"{function}() takes at most {MAX_NOTIFICATIONS} questions, not {len(asked)}.")

    def make(call: DurableCall, names: Sequence[str]) -> list[AskedQuestion]:
        new = [_make(call.execution.job, one) for one in asked if one.name in names]
        if sum(len(wait.notifications) for wait in new) > MAX_NOTIFICATIONS:
            raise ValueError(
                f"The questions have more than {MAX_NOTIFICATIONS} notifications together: one for each question and "
                "addressee. Ask fewer questions or fewer people at a time."
            )
        return new

    def finish(call: DurableCall, waits: Sequence[Wait]) -> list[Any]:
        from notifications.contrib.questions.answering import describe_finish, find_users

        users = find_users([wait.ended_by_id for wait in waits]) if details else {}
        answers = [_answer(one, wait, users) for one, wait in zip(asked, waits, strict=True)]
        call.steps.text = describe_finish(waits[-1], call.execution.job.user_id)
        return answers if details else [answer.value for answer in answers]

    return [one.name for one in asked], make, finish


def _answer(one: Question, wait: Wait, users: Mapping[Any, Any]) -> Answer:
    if wait.value is not None:
        return describe_answer(wait, users.get(wait.ended_by_id))
    if one.default is _NO_DEFAULT:
        raise QuestionExpired(one.name, wait.title)
    return Answer(value=one.default, user=None, answered_at=None, via="")


def _make(job: Job, one: Question) -> AskedQuestion:
    """Return an unsaved question with its notifications. The users are read now, outside of any transaction."""
    from notifications.contrib.questions.addressees import MAX_ADDRESSEES, describe_asked, find_addressees
    from notifications.contrib.questions.answer_forms import validate_form, validate_initial
    from notifications.contrib.questions.models import AskedQuestion
    from notifications.contrib.questions.question_notifications import build_notifications
    from notifications.contrib.questions.question_texts import translate

    asked = describe_asked(one.to, job.user_id)
    users = find_addressees(asked)
    if len(users) > MAX_ADDRESSEES:
        raise ValueError(
            f"to has more than {MAX_ADDRESSEES} active users. Ask fewer, as those of a smaller group."
        )
    wait = AskedQuestion(job=job.id, name=one.name, kind="question", attempt=job.attempt)
    wait.title, wait.lasts = _title_of(one), one.expires

    def read_texts() -> dict[str, Any]:
        return {
            "title": _title_of(one),
            "choices": {} if one.choices is None else _validated_choices(one.choices),
            "body": str(one.body),
            "consequences": {value: str(text) for value, text in _consequences_of(one.danger).items()},
        }

    details: dict[str, Any] = {
        **read_texts(),
        **translate(users, [one.title, one.choices, one.body, one.danger], read_texts),
        "remind": [after.total_seconds() for after in one.remind],
        "form": validate_form(one.form) if one.form is not None else "",
        "danger": list(one.danger),
        "url": validators.link("url", one.url),
        # The label of the choice that is returned without an answer, "" for another value, None if none is.
        "default": None if one.default is _NO_DEFAULT else _label_of(one.default, one.choices or {}),
        "asked": asked,
    }
    if one.initial is not None:
        details["initial"] = validate_initial(details["form"], one.initial)
    build_notifications(wait, details, users, job_title=job.title)
    return wait


def _title_of(one: Question) -> str:
    return validators.label("title", one.title, validators.MAX_TITLE_LENGTH, required=True)


def _label_of(value: Any, choices: Mapping[str, str | Promise]) -> str:
    return str(choices.get(value, "")) if isinstance(value, str) else ""


def _validated_choices(choices: Any) -> dict[str, str]:
    if not isinstance(choices, Mapping):
        raise TypeError(
            f'choices must be a dict of labels by value, as {{"yes": "Ship"}}, not {type(choices).__name__}.'
        )
    if not 1 <= len(choices) <= MAX_CHOICES:
        raise ValueError(f"choices has {len(choices)} answers. It must have 1 to {MAX_CHOICES}.")
    return {
        validators.text("A value of choices", value, MAX_VALUE_LENGTH, required=True): validators.text(
            f"choices[{value!r}]", label, validators.MAX_LABEL_LENGTH, required=True
        )
        for value, label in choices.items()
    }


def _validate_danger(danger: Any, choices: Mapping[str, Any]) -> None:
    if not isinstance(danger, list | tuple | set | frozenset | Mapping):
        raise TypeError(
            f"danger must be a list of values of choices, or a dict of sentences by value, not {type(danger).__name__}."
        )
    if unknown := [value for value in danger if value not in choices]:
        raise ValueError(f"danger has {unknown[0]!r}, which is none of the choices.")
    for value, text in _consequences_of(danger).items():
        validators.label(f"danger[{value!r}]", text, validators.MAX_TITLE_LENGTH, required=True)


def _consequences_of(danger: Any) -> Mapping[str, Any]:
    return danger if isinstance(danger, Mapping) else {}


def _validate_remind(remind: Any, expires: timedelta | None) -> None:
    if not isinstance(remind, list | tuple):
        raise TypeError(f"remind must be a list of timedeltas, not {type(remind).__name__}.")
    if len(remind) > MAX_REMINDERS:
        raise ValueError(f"remind has {len(remind)} times. At most {MAX_REMINDERS} are allowed.")
    for index, after in enumerate(remind):
        validate_duration(f"remind[{index}]", after)
    if list(remind) != sorted(set(remind)):
        raise ValueError("remind must have its times in ascending order, each once.")
    if remind and expires is not None and remind[-1] >= expires:
        raise ValueError(f"remind[{len(remind) - 1}] is not before expires, when the question ends.")
