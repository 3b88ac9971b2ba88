"""``{% notifications %}``: what it renders, for which users, and which errors it does not raise."""

import json
import re
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.management import call_command
from django.template import Context, Engine, RequestContext, Template, TemplateSyntaxError
from django.test import RequestFactory, override_settings
from django.urls import path, resolve, set_script_prefix
from django.utils.functional import SimpleLazyObject

import notifications
from notifications.api import notify
from notifications.inbox import read_numbered_position
from notifications.models import Job, Notification, Stream, uuid7
from notifications.routing import websocket_urlpatterns
from notifications.streams.marking_seen import mark_seen
from notifications.templatetags.notifications import notifications_disc, notifications_icon
from tests.support.statements import refused

STATIC = Path(notifications.__file__).parent / "static" / "notifications"

urlpatterns = [path("only/", lambda request: None, name="only")]


class Elements(HTMLParser):
    """Parse HTML. ``of(tag)`` returns the attributes of its elements, ``text`` the text, ``json`` that of scripts."""

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


def render(user=None, *, request=None, tag="notifications", **context):
    request = request or RequestFactory().get("/")
    request.user = AnonymousUser() if user is None else user
    html = Template(f"{{% load notifications %}}{{% {tag} %}}").render(RequestContext(request, context))
    return Elements(html)


def script(elements):
    """Return the attributes of the entry module."""
    (attributes,) = [each for each in elements.of("script") if each["type"] == "module"]
    return attributes


def client_data(elements):
    """Return the JSON beside the entry module: URLs of the other modules, and texts."""
    return json.loads(elements.json)


@pytest.fixture
def user(user, transactional_db):
    """Numbers are given after the commit, so what a test of this user writes is committed."""
    return user


@pytest.fixture
def development(settings):
    """A checkout with DEBUG, whose pages load the modules themselves."""
    settings.DEBUG = True


def test_anonymous_user():
    """Only the script, which loads nothing by itself. No session, token or address is in the page."""
    request = RequestFactory().get("/")
    elements = render(request=request)
    assert [tag for tag, _ in elements.all] == ["script", "script"]
    assert set(script(elements)) == {"type", "src", "data-notifications"}
    assert client_data(elements).keys() == {"modules", "lazy_modules"}
    assert list(client_data(elements)["lazy_modules"]) == ["output"]  # of job.on("output")
    assert list(client_data(elements)["modules"]) == ["bundle/page"]
    assert "CSRF_COOKIE" not in request.META
    assert render(tag="notifications script=False").all == []


def test_page_whose_head_has_the_style_sheet(user):
    elements = render(user, tag="notifications style=False")
    assert elements.of("notifications-bell")
    assert "stylesheet" not in {link["rel"] for link in elements.of("link")}


def test_page_of_a_bundle(user):
    """Bell, toasts and data, but no script: the bundle of the project has it."""
    elements = render(user, tag="notifications script=False")
    assert elements.of("notifications-bell")
    assert [each["type"] for each in elements.of("script")] == ["application/json"] * 2
    assert [link["rel"] for link in elements.of("link")] == ["stylesheet"]
    [data] = [each for each in elements.of("script") if "data-notifications" in each]
    assert "src" not in data
    assert data["data-sync"] == script(render(user))["data-sync"]
    assert client_data(elements) == client_data(render(user)) | {"modules": {}, "lazy_modules": {}}


def test_position_is_rendered(user, django_assert_num_queries):
    """Epoch, seq and counts of the stream are read in one query."""
    for title in ("One", "Two"):
        notify(user, title)
    Notification.objects.filter(title="One").update(open_question=uuid7())
    position = read_numbered_position(user.pk)
    with django_assert_num_queries(1):
        elements = render(user)
    data = script(elements)
    assert (data["data-epoch"], data["data-seq"]) == (position.epoch, "2")
    assert (data["data-unread"], data["data-unseen"]) == ("2", "2")
    assert (data["data-questions"], data["data-badge"]) == ("1", "2")
    assert elements.text.strip() == "Notifications2"
    assert "notifications-asks" in [
        count["class"].split()[-1] for count in elements.of("span") if "class" in count
    ]


def test_an_open_question_is_counted_once(user):
    """Among what is new, or after it was seen. The color says that it waits."""
    for title in ("One", "Two", "Three"):
        notify(user, title)
    Notification.objects.filter(title__in=["One", "Three"]).update(open_question=uuid7())
    assert script(render(user))["data-badge"] == "3"
    mark_seen(user.pk, 2, "", [])
    data = script(render(user))
    assert (data["data-unseen"], data["data-questions"], data["data-badge"]) == ("1", "2", "2")


def test_numbers_are_not_localized(user, settings):
    """USE_THOUSAND_SEPARATOR does not change the attributes."""
    settings.USE_THOUSAND_SEPARATOR = True
    notify(user, "One")
    Stream.objects.filter(user=user).update(head=1_234_567, unread=1_234, unseen=1_233)
    elements = render(user)
    data = script(elements)
    assert (data["data-seq"], data["data-unread"], data["data-unseen"]) == ("1234567", "1234", "1233")
    assert "99+" in elements.text and "1,233" in elements.text  # the second in the name of the link


def test_position_of_the_page_is_used(user, django_assert_num_queries):
    """The page has read it before its rows. A later one would hide changes in between."""
    position = read_numbered_position(user.pk)._replace(epoch="e", seq=7, unread=3, unseen=2)
    with django_assert_num_queries(0):
        data = script(render(user, notifications_position=position))
    assert (data["data-epoch"], data["data-seq"]) == ("e", "7")
    assert (data["data-unread"], data["data-unseen"]) == ("3", "2")


async def test_no_query_in_an_event_loop():
    """An async view that calls render(): a lazy user is not loaded, and the client starts from a snapshot."""

    def load():
        raise AssertionError("the user was loaded")

    elements = render(SimpleLazyObject(load))
    assert elements.of("notifications-bell")
    assert "data-seq" not in script(elements)
    assert script(elements)["data-user"] == ""


async def test_loaded_user_in_an_event_loop(django_user_model):
    """Nothing is queried, but the mark is rendered. Anonymous users get no bell."""
    data = script(render(django_user_model(pk=3, username="demo")))
    assert data["data-user"]
    assert "data-seq" not in data
    lazy = SimpleLazyObject(AnonymousUser)
    assert not lazy.is_authenticated
    assert not render(lazy).of("notifications-bell")


def test_without_a_request():
    """An error page that is rendered without context processors has the bell too."""
    html = Template("{% load notifications %}{% notifications %}").render(Context())
    assert "data-seq" not in script(Elements(html))


def test_database_unavailable(user, caplog):
    """The page is rendered without a position, and the error is logged."""
    with refused("notifications_stream"):
        elements = render(user)
    assert elements.of("notifications-bell")
    assert "data-seq" not in script(elements)
    assert f"Could not read the stream position for {{% notifications %}}: user {user.pk}" in caplog.text


@override_settings(ROOT_URLCONF=__name__)
def test_urls_are_not_mounted(user, caplog):
    """Nothing is rendered, and the log has the line to add."""
    assert render(user).all == []
    assert 'path("notifications/", include("notifications.urls"))' in caplog.text


def test_users_have_different_marks(user, other_user):
    """Tabs of two users must not share a connection. The mark does not reveal the user."""
    names = [script(render(each))["data-user"] for each in (user, other_user, user)]
    assert names[0] == names[2] != names[1]
    assert re.fullmatch("[0-9a-f]{16}", names[0])


@pytest.mark.parametrize("where", ["context", "django", "django-csp"])
def test_nonce_is_on_every_element_that_loads(user, development, where):
    """The nonce comes from the context, from Django's middleware or from django-csp."""
    request, context = RequestFactory().get("/"), {}
    if where == "context":
        context["csp_nonce"] = SimpleLazyObject(lambda: "n0nce")
    else:
        name = {"django": "_csp_nonce", "django-csp": "csp_nonce"}[where]
        setattr(request, name, SimpleLazyObject(lambda: "n0nce"))
    elements = render(user, request=request, **context)
    loading = [script(elements), *elements.of("link")]
    assert len(loading) == 4 + len(
        client_data(elements)["modules"]
    )  # the entry module, and three style sheets
    assert {element.get("nonce") for element in loading} == {"n0nce"}


def test_first_styles_are_in_a_page_with_a_nonce(user):
    """It is painted without a second round trip. The script loads the style sheet later."""
    elements = render(user, csp_nonce="n0nce")
    assert [style["nonce"] for style in elements.of("style")] == ["n0nce"]
    assert ".notifications-button" in elements.text
    assert not elements.of("link")
    assert client_data(elements)["sheet"] == "/static/notifications/bundle/notifications.css"


@pytest.mark.parametrize(
    ("context", "path", "tag"),
    [
        ({}, "/", "notifications"),  # A policy may forbid styles inside the page.
        ({"csp_nonce": "n0nce"}, "/", "notifications script=False"),
        ({"csp_nonce": "n0nce", "has_job": True}, "/", "notifications"),
        ({"csp_nonce": "n0nce"}, "/notifications/", "notifications"),
    ],
    ids=["no nonce", "no script", "a page with a job", "inbox"],
)
def test_other_pages_link_the_style_sheet(user, context, path, tag):
    """Those of the app also that of its pages."""
    request = RequestFactory().get(path)
    request.resolver_match = resolve(path) if path != "/" else None
    elements = render(user, request=request, tag=tag, **context)
    sheets = [link["href"] for link in elements.of("link") if link["rel"] == "stylesheet"]
    names = ["notifications", "pages"] if path != "/" else ["notifications"]
    assert sheets == [f"/static/notifications/bundle/{name}.css" for name in names]
    assert not elements.of("style")
    assert "sheet" not in client_data(elements)


def test_link_to_the_style_sheet_of_the_pages(user):
    """For a template of the project, or of the admin, with parts of the app's pages."""
    names = [
        link["href"].rpartition("/")[2] for link in render(user, tag="notifications_style 'pages'").of("link")
    ]
    assert names == ["notifications.css", "pages.css"]
    assert len(render(user, tag="notifications_style").of("link")) == 1


def test_no_nonce_without_a_policy(user):
    """The attribute is absent, not empty."""
    elements = render(user)
    assert not [element for element in (*elements.of("script"), *elements.of("link")) if "nonce" in element]


def test_no_inline_code(user):
    """A strict policy allows everything: no inline script, style or event handler."""
    elements = render(user)
    assert [each["type"] for each in elements.of("script") if "src" not in each] == ["application/json"]
    assert not elements.of("style")
    assert not [
        name for _, attributes in elements.all for name in attributes if name == "style" or name[:2] == "on"
    ]


def test_live_regions_are_rendered(user):
    """Screen readers announce changes only in regions that were present when the page was loaded."""
    assert [span["role"] for span in render(user).of("span") if "role" in span] == ["alert", "status"]


def test_urls_have_the_script_name(user):
    """That of the WebSocket too."""
    set_script_prefix("/below/")
    try:
        data = script(render(user))
    finally:
        set_script_prefix("/")
    for name in ("inbox", "socket", "sync", "list", "job"):
        assert data[f"data-{name}"].startswith("/below/"), name


def test_websocket_path_matches_the_route():
    assert [str(route.pattern) for route in websocket_urlpatterns] == ["ws/notifications/"]


def test_csrf_settings_of_the_project(user, settings):
    """The cookie is named only if scripts can read it. The token is always rendered."""
    settings.CSRF_COOKIE_NAME, settings.CSRF_HEADER_NAME = "crumb", "HTTP_X_CRUMB"
    data = script(render(user))
    assert (data["data-csrf-cookie"], data["data-csrf-header"]) == ("crumb", "X-Crumb")
    assert len(data["data-csrf-token"]) == 64
    for key in ("CSRF_COOKIE_HTTPONLY", "CSRF_USE_SESSIONS"):
        with override_settings(**{key: True}):
            data = script(render(user))
        assert data["data-csrf-cookie"] == ""
        assert len(data["data-csrf-token"]) == 64


async def test_csrf_token_of_a_session_in_an_event_loop(settings):
    """A token that the middleware has read is rendered. No new one is created, because that would create a session."""
    settings.CSRF_USE_SESSIONS = True
    for csrf_meta, length in ({}, 0), ({"CSRF_COOKIE": "x" * 32}, 64):
        request = RequestFactory().get("/")
        request.META |= csrf_meta
        data = script(render(SimpleLazyObject(lambda: None), request=request))
        assert len(data["data-csrf-token"]) == length
        assert ("CSRF_COOKIE_NEEDS_UPDATE" in request.META) == bool(csrf_meta)


def test_strings_match_the_client(user):
    """Every string that the modules use is sent, and every sent one is used."""
    used = set()
    for module in STATIC.glob("*.js"):
        for found in re.findall(r'\.text\((?:"(\w+)"|\w+ \? "(\w+)" : "(\w+)")', module.read_text()):
            used |= {*filter(None, found)}
    # Said by the name of a level, of a state of a job or of the connection, of a verb, or of a unit of time.
    used |= {level for level in Notification.Level.values if level != "info"}
    used |= {
        *Job.State.values,
        "signed_out",
        "offline",
        *(f"did_{verb}" for verb in ("read", "unread", "archive", "unarchive")),
    }
    used |= {
        f"{unit}_{suffix}"
        for unit in ("seconds", "minutes", "hours")
        for suffix in ("ago", "left", "running")
    }
    used |= {"inbox", "unread", "questions", "empty", "none_unread", "none_asked"}  # of the tabs of the bell
    used |= {"undo"}  # of the button of a message
    used |= {"bell", "bell_new", "bell_none"}  # of the name of the bell
    used |= {"read", "archive"}  # of the buttons of a row in the bell
    used -= {"seconds_ago"}  # "just now"
    assert used == set(client_data(render(user))["strings"])


def test_classes_of_the_bell(user):
    """They are escaped, and another argument is an error."""
    assert render(user).of("notifications-bell") == [{}]
    assert render(user, tag='notifications class="nav-link py-0"').of("notifications-bell") == [
        {"class": "nav-link py-0"}
    ]
    assert render(user, tag="notifications class=name", name='"><b>').of("b") == []
    with pytest.raises(TemplateSyntaxError, match="no argument 'id'"):
        render(user, tag='notifications id="bell"')


def test_the_contrast_of_the_bell_is_checked_in_development_only(user, settings):
    for settings.DEBUG in (True, False):
        assert ("contrast" in client_data(render(user))["lazy_modules"]) == settings.DEBUG


@pytest.mark.parametrize("names", [[], ["inbox"], ["job"], ["output"]])
def test_the_modules_of_an_element_are_preloaded_on_its_page_only(user, development, names):
    """Other pages know where they are, for an inbox or a job that is inserted later."""
    elements = render(user, **{f"has_{name}": True for name in names})
    preloads = [link["href"] for link in elements.of("link") if link["rel"] == "modulepreload"]
    data = client_data(elements)
    expected = chain(data["modules"].values(), *(data["lazy_modules"][name].values() for name in names))
    assert preloads == [*expected]


def test_hashed_static_files(user, settings, tmp_path):
    """URLs have the hash of the file, and modules do not import one another by URL."""
    settings.STATIC_ROOT = tmp_path
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
    }
    settings.DEBUG = False
    call_command("collectstatic", interactive=False, verbosity=0)
    elements = render(user)
    data = script(elements)
    urls = [
        data["src"],
        *client_data(elements)["modules"].values(),
        *chain(*(urls.values() for urls in client_data(elements)["lazy_modules"].values())),
        *(link["href"] for link in elements.of("link")),
    ]
    for url in urls:
        assert re.search(r"\.[0-9a-f]{12}\.(js|css)$", url)
        assert (tmp_path / url.removeprefix(settings.STATIC_URL)).is_file()
    sheet = next(tmp_path.glob("notifications/notifications.????????????.css")).read_text()
    assert re.search(r'url\("close\.[0-9a-f]{12}\.svg"\)', sheet)
    for module in STATIC.glob("**/*.js"):
        assert not re.search(r"^(import|export .* from)\b", module.read_text(), re.MULTILINE), module.name


@pytest.mark.parametrize("own", [False, True])
def test_bell_in_the_admin_with_a_base_site_of_the_project(admin_client, settings, tmp_path, own):
    """The bell is in admin/base.html, so a base_site.html of the project keeps its content and has the bell."""
    if own:
        (tmp_path / "admin").mkdir()
        own_base = '{% extends "admin/base.html" %}{% block branding %}<b>Our own</b>{% endblock %}'
        (tmp_path / "admin" / "base_site.html").write_text(own_base)
        settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    html = admin_client.get("/admin/").content.decode()
    assert ("Our own" in html) is own
    assert len(Elements(html).of("notifications-bell")) == 1
    assert html.index("notifications-bell") < html.index('id="logout-form"')


def test_no_bell_on_the_admin_login(client, db):
    assert not Elements(client.get("/admin/login/").content.decode()).of("notifications-bell")


def test_engine_without_context_processors(user):
    """The tag needs only the user in its context."""
    engine = Engine(
        dirs=[STATIC.parent.parent / "templates"],
        libraries={
            "notifications": "notifications.templatetags.notifications",
            "i18n": "django.templatetags.i18n",
        },
    )
    html = engine.from_string("{% load notifications %}{% notifications %}").render(Context({"user": user}))
    assert script(Elements(html))["data-seq"] == "0"


class TestDisc:
    """The icon of a notification, or the initials of its actor, and its level for screen readers."""

    def disc(self, data="{}", level="info", **fields):
        return notifications_disc(Notification(title="note", level=level, data=data, **fields))

    @pytest.mark.parametrize(
        ("data", "icon"),
        [
            ("{}", "warning"),
            ('{"icon": "lock"}', "lock"),
            ('{"icon": ["lock"]}', "warning"),
            ("{bad", "warning"),
        ],
    )
    def test_icon_of_its_data_or_its_level(self, data, icon):
        html = self.disc(data, "warning")
        assert notifications_icon(icon) in html
        assert '<span class="notifications-hidden">Warning. </span>' in html

    @pytest.mark.parametrize(
        ("actor", "initials"), [("Ada King Lovelace", "AL"), ("ada", "A"), ("<b>", "&lt;")]
    )
    def test_initials_of_its_actor(self, actor, initials):
        assert f'<span aria-hidden="true">{initials}</span></span>' in self.disc(json.dumps({"actor": actor}))

    def test_image_of_its_actor(self):
        """It lies over the initials, which are seen where it cannot be loaded."""
        html = self.disc(json.dumps({"actor": {"name": "Ada Lovelace", "image": "/ada.png?a=1&b=2"}}))
        image = '<img alt="" referrerpolicy="no-referrer" src="/ada.png?a=1&amp;b=2">'
        assert f'<span aria-hidden="true">AL</span>{image}</span>' in html

    @pytest.mark.parametrize("image", ["javascript:alert(1)", "//evil.example/a.png", 7, ["/a.png"]])
    def test_an_image_that_is_not_safe_is_not_loaded(self, image):
        """The data of a notification may come from elsewhere than notify()."""
        html = self.disc(json.dumps({"actor": {"name": "Ada", "image": image}}))
        assert ">A</span>" in html and "<img" not in html

    def test_only_a_failure_of_a_job_is_named(self):
        """The titles of the others say how it ended."""
        assert "notifications-hidden" not in self.disc(level="success", job=uuid7())
        assert "Failed. " in self.disc(level="error", job=uuid7())
