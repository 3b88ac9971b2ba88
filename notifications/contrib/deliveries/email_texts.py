"""The texts and headers of the e-mails of notifications and digests.

Projects override their templates by name: ``notifications/email.txt`` and ``notifications/email.html``, and those of
digests, ``notifications/digest.txt`` and ``notifications/digest.html``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from email.headerregistry import HeaderRegistry, UnstructuredHeader
from email.policy import Policy
from email.policy import default as default_policy
from itertools import groupby
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import UUID

import django
from django.conf import settings as django_settings
from django.core.mail import EmailMultiAlternatives
from django.db.models import Count, Max, Min
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.encoding import punycode
from django.utils.translation import gettext, ngettext

from notifications import validators
from notifications.conf import settings
from notifications.contrib.deliveries import unsubscribing
from notifications.contrib.deliveries.models import Delivery
from notifications.contrib.deliveries.preferences import read_reader
from notifications.contrib.deliveries.quiet_hours import zone_of
from notifications.db import database
from notifications.extension import ChannelMessage, Fact, read_facts
from notifications.http import read_data
from notifications.inbox import absolute, load_categories
from notifications.inbox.actions import describe_actions
from notifications.jobs.group_texts import describe_group, name_people, read_jobs
from notifications.jobs.outcomes import end_key
from notifications.jobs.transitions.batch_completion import is_batch
from notifications.models import Job, Notification, NotificationLevel
from notifications.streams import icons
from notifications.streams.grouping import Group, read_actor_name

#: Characters of the address in List-Unsubscribe: a line of a header has at most 998 (RFC 5322).
MAX_HEADER_URL_LENGTH = 998 - len("List-Unsubscribe: <>")
MAX_SUBJECT_LENGTH = 200

#: By level: the symbol, its color, and that of the disc around it.
DISCS = {
    "info": ("i", "#59636e", "#eceef0"),
    "success": ("✓", "#1a7040", "#e1eee6"),
    "warning": ("!", "#8a5a00", "#f4ebdb"),
    "error": ("✕", "#b3261e", "#f7e2e0"),
}


class _UnfoldedHeader(UnstructuredHeader):
    """A header in one line: Python encodes a longer URL, which RFC 8058 forbids, and the link would not work."""

    def fold(self, *, policy: Policy) -> str:
        return f"{self.name}: {self}{policy.linesep}"  # type: ignore[attr-defined]  # HeaderRegistry adds it


_HEADERS = HeaderRegistry()
_HEADERS.map_to_type("list-unsubscribe", _UnfoldedHeader)  # type: ignore[arg-type]


class UnfoldedEmail(EmailMultiAlternatives):
    """An e-mail whose ``List-Unsubscribe`` is one line. Django 5.2 does not encode it."""

    def message(self, **options: Any) -> Any:
        if django.VERSION >= (6, 0):
            policy = options.get("policy", default_policy)
            options["policy"] = policy.clone(header_factory=_HEADERS)
        return super().message(**options)


def build_email(message: ChannelMessage) -> EmailMultiAlternatives:
    """Return the e-mail of a message. Renders templates, which may raise anything.

    A message that several could have joined is an e-mail like others if only one has.
    """
    if message.is_digest and not (message.is_joined and message.count == 1):
        return _build_digest(message)
    (row,) = message.notifications
    category = load_categories().get(row.category)
    context = {"notification": row, "category": category.name, **_row(row)}
    context |= {
        "url": context.pop("link"),
        "body": row.body,
        "preview": row.body,
        "actions": _list_actions(row),
    }
    job = _find_ended_job(row)
    # The text of a batch says how many of its jobs have failed.
    has_failed = job is not None and row.level == NotificationLevel.ERROR and not is_batch(job)
    context["has_failed"] = has_failed
    with translation.override(message.language or django_settings.LANGUAGE_CODE):
        subject = _describe_in_subject(row, has_failed) if job else row.title
    return _make_email("email", message, [category.key], context, subject=subject)


def _list_actions(row: Notification) -> list[dict[str, Any]]:
    """Return links to the pages of what a notification offers, of a question its choices.

    Opening one changes nothing: programs follow the links of e-mails to examine them.
    """
    actions = [action for action in describe_actions(row) if not action.is_done]
    return [
        {
            "label": action.label,
            "link": absolute(action.href),
            "is_main": bool(row.open_question) and number == 0 and not action.danger,
        }
        for number, action in enumerate(actions)
    ]


def _find_ended_job(row: Notification) -> Job | None:
    """Return the job whose end a notification tells of, None if its task has another title for its end."""
    if row.job is None or row.key != end_key(row.job):
        return None
    job = Job.objects.using(database()).only("title", "task_path").filter(pk=row.job).first()
    return job if job and job.title == row.title else None


def _describe_in_subject(row: Notification, has_failed: bool) -> str:
    """Return the title of the end of a job with its outcome: "Import failed: No answer"."""
    outcome = row.body.partition("\n")[0].removesuffix(".")
    if not outcome:
        return row.title
    text = gettext("{title} failed: {outcome}") if has_failed else "{title}: {outcome}"
    return validators.shortened(text.format(title=row.title, outcome=outcome), MAX_SUBJECT_LENGTH)


def describe_disc(row: Notification) -> dict[str, str]:
    """Return what stands before a notification: its symbol or the initials of its actor, their image, and its color.

    Programs for e-mail draw no SVG, so the symbol of a level is a letter or a sign.
    """
    name, image = icons.read_actor(read_data(row).get("actor"))
    symbol, color, tint = DISCS.get(row.level, DISCS["info"])
    initials = icons.read_initials(name)
    return {
        "symbol": initials or ("?" if row.open_question else symbol),
        "level": row.level,
        "image": absolute(image) if image else "",
        "color": color,
        "tint": tint,
    }


def _make_email(
    template: str,
    message: ChannelMessage,
    categories: Sequence[str] | None,
    context: dict[str, Any],
    *,
    subject: str = "",
) -> EmailMultiAlternatives:
    """Return an e-mail that is made from two templates of one name.

    They are rendered in the language of the message and the time zone of its user.

    Its ``Message-ID`` is the same each time, so that programs recognize one that was sent twice. It has the headers for
    unsubscribing with one click (RFC 8058) from categories, None is all digests, unless all are required or they are
    too many for an address. Without a subject, its subject is the first line of the text.
    """
    language = message.language or django_settings.LANGUAGE_CODE
    zone = zone_of(read_reader(message.user.pk))
    with translation.override(language), timezone.override(zone):
        headers = {"Message-ID": f"<{message.id}@{_host()}>", "Auto-Submitted": "auto-generated"}
        if url := _unsubscribe_url(message.user.pk, categories):
            context["unsubscribe_url"] = url
            headers["List-Unsubscribe"] = f"<{_in_ascii(url)}>"
            headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        context |= {
            "user": message.user,
            "facts": _read_facts(message) if template == "email" else [],
            "inbox_url": absolute(reverse("notifications:inbox")),
            "preferences_url": absolute(reverse("notifications:preferences")),
            "site": urlsplit(settings.SITE_URL).netloc,
            "language": translation.get_language(),
            "is_right_to_left": translation.get_language_bidi(),
        }
        text = render_to_string(f"notifications/{template}.txt", context)
        html = render_to_string(f"notifications/{template}.html", context)
    email = UnfoldedEmail(
        subject=" ".join((subject or text.strip().partition("\n")[0]).split()),
        body=text,
        to=[message.address],
        headers=headers,
    )
    email.attach_alternative(html, "text/html")
    return email


def _read_facts(message: ChannelMessage) -> list[Fact]:
    facts = read_facts(message.notifications[0], message.user, "email")
    return [fact._replace(url=absolute(fact.url)) for fact in facts]


def _unsubscribe_url(user: Any, categories: Sequence[str] | None) -> str:
    """Return the address that ends e-mails of categories, None is all digests; empty if there can be none."""
    scope: unsubscribing.Scope = None
    if categories is not None:
        optional = sorted(key for key in categories if not load_categories().get(key).is_required)
        if not optional:
            return ""
        scope = optional[0] if len(optional) == 1 else optional
    token = unsubscribing.make_token(user, scope)
    url = absolute(reverse("notifications:unsubscribe", args=[token]))
    return url if len(_in_ascii(url)) <= MAX_HEADER_URL_LENGTH else ""


def _in_ascii(url: str) -> str:
    """Return a URL of the site with the name of its host as DNS has it: headers are ASCII."""
    site = urlsplit(settings.SITE_URL)
    return url.replace(site.netloc, _host() + (f":{site.port}" if site.port else ""), 1)


def _host() -> str:
    return punycode(urlsplit(settings.SITE_URL).hostname or "")


def _build_digest(message: ChannelMessage) -> EmailMultiAlternatives:
    """Return the e-mail of a digest: what waits for the user, what failed, and the others by category.

    The worst are first, of these the newest, and the first one is its subject. Those of a group are one row, as in the
    inbox.
    """
    categories = load_categories()

    def level(row: Notification) -> str:
        group = found.get(row.group_key)
        return group.level if group else row.level

    def place(row: Notification) -> tuple[int, str]:  # those without a category come last
        if row.open_question:
            return 0, ""
        if level(row) == NotificationLevel.ERROR:
            return 1, ""
        return (2, row.category) if row.category else (3, "")

    def weight(row: Notification) -> tuple[int, bool]:
        return min(2, place(row)[0]), level(row) != NotificationLevel.WARNING

    # The id of a digest is that of its job.
    of_job = Delivery.objects.using(database()).filter(job=message.id, state=Delivery.State.QUEUED)
    sent = Notification.objects.using(database()).filter(id__in=of_job.values("notification"))
    found = _count_groups(sent)
    # Each group is where its newest notification is.
    shown_groups: dict[str | None, None] = {}
    shown = []
    for row in reversed(message.notifications):
        group = found.get(row.group_key)
        is_newest = row.group_key not in shown_groups
        if group is None or is_newest:
            shown.append(row)
        shown_groups[row.group_key] = None
        if group and row.level == group.level:
            group.worst = group.worst or row
        name = read_actor_name(row.data) if group and (is_newest or group.people) else ""
        if group and name and name not in group.people:
            group.people.append(name)
    with translation.override(message.language or django_settings.LANGUAGE_CODE):
        jobs = read_jobs(shown)
        headings = {0: gettext("Waiting for you"), 1: gettext("Failed")}
        groups = [
            (
                headings.get(number) or categories.get(key).name,
                [_row(row, found.get(row.group_key), jobs) for row in rows],
            )
            for (number, key), rows in groupby(sorted(sorted(shown, key=weight), key=place), place)
        ]
        titles = [row["title"] for _, rows in groups for row in rows[:3]]
        summary = _summarize(sent)
        first = min(shown, key=weight)
        subject = _row(first, found.get(first.group_key), jobs)["title"]
        counts = {row.pk: found[row.group_key].total if row.group_key in found else 1 for row in shown}
        if others := message.count - counts[first.pk]:
            text = ngettext("%(title)s and %(count)d more", "%(title)s and %(count)d more", others)
            title = validators.shortened(subject, MAX_SUBJECT_LENGTH - len(text))
            subject = text % {"title": title, "count": others}
    return _make_email(
        "digest",
        message,
        list(sent.order_by().values_list("category", flat=True).distinct()) if message.is_joined else None,
        {
            "groups": groups,
            "count": message.count,
            "summary": summary,
            "preview": " · ".join([summary] * bool(summary) + titles[1:]),
            "hidden": max(0, message.count - sum(counts.values())),
            "is_throttled": message.is_joined,
        },
        subject=subject,
    )


def _summarize(rows: Any) -> str:
    """Return how many questions and failures are among notifications, "" if there are none."""
    questions = rows.filter(open_question__isnull=False).count()
    failed = rows.filter(open_question=None, level=NotificationLevel.ERROR).count()
    texts = (
        (questions, ngettext("%(count)d question", "%(count)d questions", questions)),
        (failed, ngettext("%(count)d failed", "%(count)d failed", failed)),
    )
    return ", ".join(text % {"count": count} for count, text in texts if count)


def _count_groups(rows: Any) -> dict[str | None, Group]:
    """Return those groups of notifications that are shown as one row, by their keys."""
    groups: dict[str | None, Group] = {}
    counts = rows.exclude(group_key=None).order_by().values_list("group_key", "level")
    for key, level, count, first, last in counts.annotate(Count("id"), Min("title"), Max("title")):
        group = groups.setdefault(key, Group(key=key))
        group.counts[level] = count
        group.total += count
        group.titles |= {first, last}
    return {key: group for key, group in groups.items() if group.is_one_row}


def _row(
    row: Notification, group: Group | None = None, jobs: Mapping[UUID, Job] | None = None
) -> dict[str, Any]:
    title, body, link, disc = row.title, row.body, row.url or reverse("notifications:inbox"), row
    if group is not None:
        texts = describe_group(group, row, (jobs or {}).get(row.job) if row.job else None)
        title, body = name_people(group) or texts.title, texts.body
        disc = Notification(level=texts.level, data=row.data if group.people else "{}")
        link = f"{reverse('notifications:inbox')}?{urlencode({'group': group.key})}"
    return {
        "title": title,
        "body": " ".join(body.split()),
        "link": absolute(link),
        "created_at": row.raised_at,
        "disc": describe_disc(disc),
    }
