"""``{% notifications %}``: what it writes, for whom, and what it never does."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.management import call_command
from django.db import OperationalError
from django.template import Context, Engine, RequestContext, Template
from django.test import RequestFactory, override_settings
from django.urls import path, set_script_prefix
from django.utils.functional import SimpleLazyObject

import notifications
from notifications.api import notify
from notifications.http.client_strings import client_strings
from notifications.models import Notification, Stream
from notifications.routing import websocket_urlpatterns
from notifications.streams import pages
from notifications.templatetags.notifications import MODULES, WEBSOCKET_PATH

STATIC = Path(notifications.__file__).parent / "static" / "notifications"

urlpatterns = [path("only/", lambda request: None, name="only")]


class Elements(HTMLParser):
    """Elements of a page by tag name, each as a dict of its attributes; ``text`` is what stands between them."""

    def __init__(self, html):
        super().__init__()
        self.all, self.text, self.json = [], "", ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.all.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.json += data
        else:
            self.text += data

    def of(self, tag):
        return [attributes for name, attributes in self.all if name == tag]


def render(user=None, *, request=None, **context):
    request = request or RequestFactory().get("/")
    request.user = AnonymousUser() if user is None else user
    html = Template("{% load notifications %}{% notifications %}").render(RequestContext(request, context))
    return Elements(html)


def script(elements):
    """Return the attributes of the entry module."""
    (attributes,) = [each for each in elements.of("script") if each["type"] == "module"]
    return attributes


def client_data(elements):
    """Return the JSON beside the entry module: URLs of the other modules, and texts."""
    return json.loads(elements.json)


@pytest.fixture
def user(django_user_model, transactional_db):
    return django_user_model.objects.create_user("demo")


def test_nobody_signed_in_gets_nothing():
    """No bell, no script, no query."""
    assert render().all == []


def test_the_position_is_in_the_html(user, django_assert_num_queries):
    """Epoch, seq and unread are those of the stream, read in two queries."""
    for title in ("One", "Two"):
        notify(user, title)
    here = pages.read_stream_position(user.pk)
    with django_assert_num_queries(2):
        elements = render(user)
    data = script(elements)
    assert (data["data-epoch"], data["data-seq"], data["data-unread"]) == (here.epoch, "2", "2")
    assert elements.text.strip() == "Notifications2"


def test_numbers_are_written_as_machines_read_them(user, settings):
    """A locale that groups thousands does not reach the attributes."""
    settings.USE_THOUSAND_SEPARATOR = True
    notify(user, "One")
    Stream.objects.filter(user=user).update(head=1_234_567, unread=1_234)
    elements = render(user)
    assert (script(elements)["data-seq"], script(elements)["data-unread"]) == ("1234567", "1234")
    assert "99+" in elements.text


def test_a_page_that_lists_hands_its_own_position_on(user, django_assert_num_queries):
    """The position that the page read before its rows is printed, not a later one."""
    here = pages.StreamPosition(epoch="e", seq=7, unread=3)
    with django_assert_num_queries(0):
        data = script(render(user, notifications_position=here))
    assert (data["data-epoch"], data["data-seq"], data["data-unread"]) == ("e", "7", "3")


async def test_in_an_event_loop_the_shell_is_written_without_a_query():
    """An async view that calls render(): the user is not looked at, the client starts from a snapshot."""

    def load():
        raise AssertionError("the user was loaded")

    elements = render(SimpleLazyObject(load))
    assert elements.of("notifications-bell")
    assert "data-seq" not in script(elements)
    assert script(elements)["data-user"] == ""


async def test_in_an_event_loop_a_user_who_is_known_is_told_apart(django_user_model):
    """Nothing is read for them either, but their tabs find each other; and whoever is signed out gets nothing."""
    data = script(render(django_user_model(pk=3, username="demo")))
    assert data["data-user"]
    assert "data-seq" not in data
    lazy = SimpleLazyObject(AnonymousUser)
    assert not lazy.is_authenticated
    assert render(lazy).all == []


def test_without_a_request_the_shell_is_written():
    """An error page rendered without context processors still has its bell."""
    html = Template("{% load notifications %}{% notifications %}").render(Context())
    assert "data-seq" not in script(Elements(html))


def test_a_database_that_is_away_leaves_the_shell(user, monkeypatch, caplog):
    """The page is served, the error is logged."""

    def here(key):
        raise OperationalError("gone")

    monkeypatch.setattr(pages, "read_stream_position", here)
    elements = render(user)
    assert elements.of("notifications-bell")
    assert "data-seq" not in script(elements)
    assert f"Could not read the stream position for {{% notifications %}}: user {user.pk}" in caplog.text


@override_settings(ROOT_URLCONF=__name__)
def test_urls_that_are_not_mounted_are_named_in_the_log(user, caplog):
    """Nothing is rendered, and the log holds the line to add."""
    assert render(user).all == []
    assert 'path("notifications/", include("notifications.urls"))' in caplog.text


def test_users_have_names_of_their_own_in_a_browser(django_user_model, transactional_db):
    """Tabs of two users never share a connection, and the name does not say who it is."""
    one, two = (django_user_model.objects.create_user(name) for name in ("one", "two"))
    names = [script(render(user))["data-user"] for user in (one, two, one)]
    assert names[0] == names[2] != names[1]
    assert re.fullmatch("[0-9a-f]{16}", names[0])


@pytest.mark.parametrize("where", ["context", "django", "django-csp"])
def test_the_nonce_stands_on_everything_that_loads(user, where):
    """Django's context, Django's middleware or django-csp."""
    request, context = RequestFactory().get("/"), {}
    if where == "context":
        context["csp_nonce"] = SimpleLazyObject(lambda: "n0nce")
    else:
        name = {"django": "_csp_nonce", "django-csp": "csp_nonce"}[where]
        setattr(request, name, SimpleLazyObject(lambda: "n0nce"))
    elements = render(user, request=request, **context)
    loading = [script(elements), *elements.of("link")]
    assert len(loading) == 2 + len(MODULES)
    assert {element.get("nonce") for element in loading} == {"n0nce"}


def test_without_a_policy_there_is_no_nonce(user):
    """The attribute is left out rather than empty."""
    elements = render(user)
    assert not [element for element in (*elements.of("script"), *elements.of("link")) if "nonce" in element]


def test_nothing_inline(user):
    """A strict policy has nothing to forbid: no inline script, style or handler."""
    elements = render(user)
    assert [each["type"] for each in elements.of("script") if "src" not in each] == ["application/json"]
    assert not elements.of("style")
    assert not [
        name for _, attributes in elements.all for name in attributes if name == "style" or name[:2] == "on"
    ]


def test_live_regions_are_there_from_the_start(user):
    """What is announced later is put into regions that the page had when it was loaded."""
    assert [span["role"] for span in render(user).of("span") if "role" in span] == ["status", "alert"]


def test_every_address_follows_the_script_name(user):
    """Below a prefix all of them begin with it, the socket too."""
    set_script_prefix("/below/")
    try:
        data = script(render(user))
    finally:
        set_script_prefix("/")
    for name in ("inbox", "socket", "sync", "list", "read", "job"):
        assert data[f"data-{name}"].startswith("/below/"), name


def test_the_socket_is_where_the_application_has_it():
    """The tag and the ASGI application agree on the path."""
    assert [str(route.pattern) for route in websocket_urlpatterns] == [WEBSOCKET_PATH]


def test_the_csrf_token_is_found_wherever_the_project_keeps_it(user, settings):
    """The cookie is named where scripts may read it; the token itself is there in any case."""
    settings.CSRF_COOKIE_NAME, settings.CSRF_HEADER_NAME = "crumb", "HTTP_X_CRUMB"
    data = script(render(user))
    assert (data["data-csrf-cookie"], data["data-csrf-header"]) == ("crumb", "X-Crumb")
    assert len(data["data-csrf-token"]) == 64
    for key in ("CSRF_COOKIE_HTTPONLY", "CSRF_USE_SESSIONS"):
        with override_settings(**{key: True}):
            data = script(render(user))
        assert data["data-csrf-cookie"] == ""
        assert len(data["data-csrf-token"]) == 64


async def test_in_an_event_loop_the_token_of_a_session_is_written(settings):
    """Which the middleware has read; whoever has none, and may be a passer-by, gets no session for it."""
    settings.CSRF_USE_SESSIONS = True
    for known, length in ({}, 0), ({"CSRF_COOKIE": "x" * 32}, 64):
        request = RequestFactory().get("/")
        request.META |= known
        data = script(render(SimpleLazyObject(lambda: None), request=request))
        assert len(data["data-csrf-token"]) == length
        assert ("CSRF_COOKIE_NEEDS_UPDATE" in request.META) == bool(known)


def test_the_client_says_nothing_that_the_server_does_not_send(user):
    """Every text that the modules name is among the strings, and every string is used."""
    named = set()
    for module in STATIC.glob("*.js"):
        named |= set(re.findall(r'\.text\("(\w+)"', module.read_text()))
    # Said by the name of a level, of a state of a job, or of the connection's.
    named |= {level for level in Notification.Level.values if level != "info"}
    named |= {"queued", "succeeded", "cancelled", "signed_out", "offline"}
    assert named == set(client_strings())
    assert client_data(render(user))["strings"] == client_strings()


def test_all_modules_are_there():
    """The tag names every module but the entry, and each is a file."""
    assert {file.stem for file in STATIC.glob("*.js")} == {*MODULES, "notifications"}


def test_hashed_static_files(user, settings, tmp_path):
    """Each address is the hashed one, exists, and modules import nothing by an address of their own."""
    settings.STATIC_ROOT = tmp_path
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
    }
    settings.DEBUG = False
    call_command("collectstatic", interactive=False, verbosity=0)
    elements = render(user)
    data = script(elements)
    addresses = [
        data["src"],
        *client_data(elements)["modules"].values(),
        *(link["href"] for link in elements.of("link")),
    ]
    for address in addresses:
        assert re.search(r"\.[0-9a-f]{12}\.(js|css)$", address)
        assert (tmp_path / address.removeprefix(settings.STATIC_URL)).is_file()
    sheet = next(tmp_path.glob("notifications/notifications.????????????.css")).read_text()
    assert re.search(r'url\("bell\.[0-9a-f]{12}\.svg"\)', sheet)
    for module in STATIC.glob("*.js"):
        assert not re.search(r"^(import|export .* from)\b", module.read_text(), re.MULTILINE), module.name


@pytest.mark.parametrize("own", [False, True])
def test_the_bell_is_in_the_admin_beside_a_projects_own_base_site(admin_client, settings, tmp_path, own):
    """The bell comes from admin/base.html, so a project's base_site.html keeps its title and has the bell."""
    if own:
        (tmp_path / "admin").mkdir()
        own_base = '{% extends "admin/base.html" %}{% block branding %}<b>Our own</b>{% endblock %}'
        (tmp_path / "admin" / "base_site.html").write_text(own_base)
        settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    html = admin_client.get("/admin/").content.decode()
    assert ("Our own" in html) is own
    assert len(Elements(html).of("notifications-bell")) == 1
    assert html.index("notifications-bell") < html.index('id="logout-form"')


def test_the_admins_sign_in_has_no_bell(client, db):
    """Nobody is signed in there."""
    assert not Elements(client.get("/admin/login/").content.decode()).of("notifications-bell")


def test_a_template_engine_without_request_is_enough(user):
    """The tag works in an engine of its own with nothing but the user in its context."""
    engine = Engine(
        dirs=[STATIC.parent.parent / "templates"],
        libraries={
            "notifications": "notifications.templatetags.notifications",
            "i18n": "django.templatetags.i18n",
        },
    )
    html = engine.from_string("{% load notifications %}{% notifications %}").render(Context({"user": user}))
    assert script(Elements(html))["data-seq"] == "0"
