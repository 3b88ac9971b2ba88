"""Template tags: ``{% notifications %}`` renders bell, toasts and script, once in a page of a signed-in user."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from functools import cache
from typing import Any

from django import template
from django.conf import settings
from django.core.exceptions import SynchronousOnlyOperation
from django.middleware.csrf import get_token
from django.urls import NoReverseMatch, get_script_prefix, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import LazyObject, empty
from django.utils.html import format_html, format_html_join
from django.utils.translation import get_language, gettext

from notifications import paths, serializers, times
from notifications.db.unavailable import QUERY_ERRORS
from notifications.extension import hooks
from notifications.http import access
from notifications.inbox import client_files
from notifications.inbox.bell import client_strings, find_sign_in_page
from notifications.inbox.categories import load_categories
from notifications.states import DONE
from notifications.streams import icons, positions
from notifications.streams.marking import VERBS

register = template.Library()
register.filter(paths.localize_link)
logger = logging.getLogger("notifications")

#: The formats of dates that are those of JavaScript's Intl; other languages have their long one in both.
DATE_FORMATS = {"en": "M j, Y", "de": "d.m.Y"}
DAY_FORMATS = {"en": "M j", "de": "d.m."}
#: Id in the URL of a job or a notification that the script replaces with the id of a real one.
PLACEHOLDER_ID = "00000000-0000-0000-0000-000000000000"


@register.inclusion_tag("notifications/bell.html", takes_context=True)
def notifications(
    context: template.Context, *, script: bool = True, style: bool = True, **attributes: str
) -> dict[str, Any]:
    """Render bell, toasts and script with the position of the user's stream; for anonymous users the script only.

    With ``script=False`` no script is loaded, because a bundle of the project contains it, and with ``style=False`` no
    style sheet, because the head of the page has it. Where the Content-Security-Policy has a nonce, the first styles
    are in the page, and the script loads the style sheet with the first panel, toast or element.
    ``class="nav-link"`` gives the bell classes of the project, for example those of the links around it.
    In an event loop the tag makes no query, and the user may not be loaded yet: the client then starts from a snapshot.
    A missing user, an unavailable database and unmounted URLs never raise an error.
    """
    bell_class = attributes.pop("class", "")  # a keyword of Python, which names no parameter
    if attributes:
        raise template.TemplateSyntaxError(
            f"{{% notifications %}} has no argument {next(iter(attributes))!r}."
        )
    request = context.get("request")
    # "is None", because a truth test would load a lazy user from the database.
    user = context.get("user") if getattr(request, "user", None) is None else request.user
    in_event_loop = _in_event_loop()
    is_loaded = user is not None and not (
        in_event_loop and isinstance(user, LazyObject) and user._wrapped is empty
    )
    if is_loaded and not user.is_authenticated:
        return _anonymous(csp_nonce(context, request)) if script else {}
    page_user_mark = paths.page_token(user.pk) if is_loaded else ""
    try:
        urls = _urls(f"?{paths.PAGE_USER_PARAMETER}={page_user_mark}" if page_user_mark else "")
    except NoReverseMatch:
        logger.error(
            "Could not render {% notifications %}, because the app's URLs are not mounted. "
            'Add path("notifications/", include("notifications.urls")) to the URLconf.'
        )
        return {}
    position = None
    if is_loaded:
        position = context.get("notifications_position") or (None if in_event_loop else _position(user.pk))
    entry_module, modules, lazy_modules = client_files.find_scripts() if script else ("", {}, {})
    preloads = [*modules.values()]
    elements = [name for name in lazy_modules if context.get(f"has_{name}")]
    for element in elements:
        preloads += lazy_modules[element].values()
    nonce = csp_nonce(context, request)
    stylesheets = client_files.find_stylesheets(request) if style else []
    has_initial_style = bool(
        nonce and script and len(stylesheets) == 1 and not elements and not client_files.uses_modules()
    )
    return {
        "nonce": nonce,
        "bell_class": bell_class,
        "initial_style": client_files.read_initial_style() if has_initial_style else "",
        "stylesheets": [] if has_initial_style else stylesheets,
        "entry_module": entry_module,
        "preloads": [url for url in preloads if url != entry_module],
        "client_data": {
            "modules": modules,
            "lazy_modules": lazy_modules,
            "strings": client_strings(),
            "marks": urls["marks"],
            "action": urls["action"],
            "doneStates": DONE,
            "icons": icons.NOTIFICATION_ICONS,
            **{name: value for hook in hooks.page_data for name, value in hook().items()},
            **({"sheet": stylesheets[0]} if has_initial_style else {}),
        },
        "position": position,
        "page_user_mark": page_user_mark,
        "csrf_header": access.csrf_header_name(),
        "csrf_cookie": access.readable_csrf_cookie_name(),
        "script_csrf_token": _csrf_token(request, is_loaded),  # Django overwrites a variable named csrf_token
        "urls": urls,
        "sign_in": find_sign_in_page(request),
    }


@register.simple_tag(takes_context=True)
def notifications_style(context: template.Context, pages: str = "") -> str:
    """Render the link to the app's style sheet, for the head of a page.

    On the app's own pages, and with ``{% notifications_style "pages" %}``, also the link to that of the pages.
    """
    request = context.get("request")
    nonce = csp_nonce(context, request)
    attribute = format_html(' nonce="{}"', nonce) if nonce else ""
    return format_html_join(
        "",
        '<link rel="stylesheet" href="{}"{}>',
        [(url, attribute) for url in client_files.find_stylesheets(request, has_pages=pages == "pages")],
    )


def script_element(context: template.Context, name: str) -> str:
    """Return the element that loads a script of the app's own pages."""
    nonce = csp_nonce(context, context.get("request"))
    attribute = format_html(' nonce="{}"', nonce) if nonce else ""
    url = client_files.find_module(name if client_files.uses_modules() else f"bundle/{name}")
    return format_html('<script type="module" src="{}"{}></script>', url, attribute)


@register.filter
def category_name(key: str) -> Any:
    """Return the name of a category."""
    return load_categories().name(key)


@register.filter
def relative_time(moment: datetime | None) -> str:
    """Return a ``<time>`` element: "4 min ago" up to a day, then a date. Its title is the exact time.

    The browser client keeps it up to date, in the time zone of the reader. None gives an empty string.
    """
    if moment is None:
        return ""
    utc, now = times.as_utc(moment), times.now()
    seconds = (now - utc).total_seconds()
    if seconds < 60:
        text = gettext("just now")
    elif seconds < 3600:
        text = gettext("{count} min ago").format(count=int(seconds // 60))
    elif seconds < 86400:
        text = gettext("{count} h ago").format(count=int(seconds // 3600))
    else:
        local, language = timezone.localtime(utc), (get_language() or "").partition("-")[0]
        if local.year == timezone.localtime(now).year:
            text = date_format(local, DAY_FORMATS.get(language, "MONTH_DAY_FORMAT"))
        else:
            text = date_format(local, DATE_FORMATS.get(language, "DATE_FORMAT"))
    return _make_relative(utc, text)


@register.filter
def clock_time(moment: datetime) -> str:
    """Return a ``<time>`` element with the time of day. In a section with ``data-day`` the client keeps it so."""
    utc = times.as_utc(moment)
    return _make_relative(utc, f"{timezone.localtime(utc):%H:%M}")


@register.filter
def exact_time(moment: datetime) -> str:
    """Return a ``<time>`` element with date, time and time zone: "Nov 28, 14:02 UTC".

    The browser client shows it in the zone of the reader: "tomorrow, 08:00".
    """
    utc = times.as_utc(moment)
    return format_html(
        '<time datetime="{}" data-exact>{}</time>', f"{utc:%Y-%m-%dT%H:%M:%SZ}", times.format_short(utc)
    )


def _make_relative(utc: datetime, text: str) -> str:
    return format_html(
        '<time datetime="{}" title="{}" data-relative>{}</time>',
        f"{utc:%Y-%m-%dT%H:%M:%SZ}",
        date_format(timezone.localtime(utc), "DATETIME_FORMAT"),
        text,
    )


@register.simple_tag
@cache
def notifications_icon(name: str) -> str:
    """Render an icon of ``notifications/streams/icons.py``."""
    return format_html(
        '<svg class="notifications-symbol" viewBox="0 0 24 24" aria-hidden="true"><path d="{}"/></svg>',
        icons.ICONS[name],
    )


@register.simple_tag
def notifications_disc(row: Any) -> str:
    """Render the initials or the icon of a notification, with its level as hidden text, as the script does."""
    data = serializers.read_data(row)
    name, image = icons.read_actor(data["actor"]) if "actor" in data else ("", "")
    initials = name and icons.read_initials(name)
    symbol = initials or notifications_icon(icons.choose_icon(row.level, data.get("icon")))
    level = ""
    if getattr(row, "job", None):
        level = gettext("Failed") if row.level == "error" else ""
    elif row.level != "info":
        level = row.get_level_display()
    hidden = format_html('<span class="notifications-hidden">{}. </span>', level) if level else ""
    picture = format_html('<img alt="" referrerpolicy="no-referrer" src="{}">', image) if image else ""
    return format_html(
        '<span class="notifications-disc"><span aria-hidden="true">{}</span>{}{}</span>',
        symbol,
        picture,
        hidden,
    )


@register.simple_tag
def notifications_site() -> str:
    """Return the root path of the project: ``/`` or the script name."""
    return get_script_prefix()


def _anonymous(nonce: str) -> dict[str, Any]:
    """Return what the script needs to give an anonymous page the same names, whose requests are refused."""
    entry_module, modules = client_files.find_anonymous_scripts()
    client_data = {"modules": modules, "lazy_modules": {"output": client_files.find_lazy_modules()["output"]}}
    return {"nonce": nonce, "entry_module": entry_module, "client_data": client_data}


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _urls(query: str) -> dict[str, Any]:
    more = f"{query}&" if query else "?"
    return {
        "marks": {verb: reverse(f"notifications:api-notifications-{verb}") + query for verb in VERBS},
        "inbox": reverse("notifications:inbox"),
        "default_inbox": paths.inbox_page(),
        "health": reverse("notifications:api-health-live"),
        "sync": reverse("notifications:api-sync") + more + access.BACKGROUND_MARK,
        "list": reverse("notifications:api-notifications") + more + "limit=",
        "seen": reverse("notifications:api-notifications-seen") + more + access.BACKGROUND_MARK,
        "action": reverse("notifications:action", args=[PLACEHOLDER_ID, 0]),
        "job": reverse("notifications:api-job", args=[PLACEHOLDER_ID]) + more + access.BACKGROUND_MARK,
        "socket": get_script_prefix() + paths.WEBSOCKET_PATH + query,
    }


def _position(user: Any) -> positions.StreamPosition | None:
    try:
        return positions.read_stream_position(user)
    except (*QUERY_ERRORS, SynchronousOnlyOperation):
        logger.exception("Could not read the stream position for {%% notifications %%}: user %s", user)
        return None


def csp_nonce(context: template.Context, request: Any) -> str:
    """Return the nonce of the Content-Security-Policy (of Django 6 or django-csp) or ``""``. Reading it creates it."""
    for nonce in (
        context.get("csp_nonce"),
        getattr(request, "_csp_nonce", None),
        getattr(request, "csp_nonce", None),
    ):
        if nonce is not None:
            return str(nonce)
    return ""


def _csrf_token(request: Any, is_loaded: bool) -> str:
    # With CSRF_USE_SESSIONS a new token creates a session, which an anonymous visitor must not get.
    if request is None or (
        settings.CSRF_USE_SESSIONS and not is_loaded and "CSRF_COOKIE" not in request.META
    ):
        return ""
    return get_token(request)
