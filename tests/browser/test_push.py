"""Push in Chromium: the page of devices, and the service worker. A real push service cannot be reached from tests."""

import json

import pytest
from playwright.sync_api import expect

from notifications.contrib.deliveries import devices
from tests.browser.parts import visit
from tests.support.axe import find_violations
from tests.support.browser import sign_in_over_http
from tests.support.push_service import base64url, browser_keys, public_key_of, vapid_key
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser

BROWSER = "chromium with windows"

#: Stands for the browser's subscription, which only a push service can make: it is kept by the tab.
STUB = """
(keys) => {
  const key = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  const make = (options) => ({
    endpoint: "https://push.example/send/1",
    options: { applicationServerKey: key(options.applicationServerKey).buffer },
    toJSON() { return { endpoint: this.endpoint, expirationTime: null, keys }; },
    async unsubscribe() { sessionStorage.removeItem("push"); return true; },
  });
  const read = () => JSON.parse(sessionStorage.getItem("push") ?? "null");
  PushManager.prototype.getSubscription = async () => read() && make(read());
  PushManager.prototype.subscribe = async (options) => {
    sessionStorage.setItem("push", JSON.stringify(options));
    return make(options);
  };
  Notification.requestPermission = async () => {
    sessionStorage.setItem("asked", Number(sessionStorage.getItem("asked")) + 1);
    return sessionStorage.getItem("answer") ?? "granted";
  };
}
"""
READ_DEVICES = """
from notifications.contrib.deliveries.models import PushSubscription
print([(row.user.username, row.name, row.endpoint) for row in PushSubscription.objects.all()])
"""
READ_KEYS = """
from notifications.contrib.deliveries.models import PushSubscription
print([(row.endpoint, row.key_hash) for row in PushSubscription.objects.all()])
"""
REMOVE_DEVICES = """
from notifications.contrib.deliveries.models import PushSubscription
print(PushSubscription.objects.all().delete())
"""
NOTIFY = """
from django.contrib.auth import get_user_model
from notifications import streams
from notifications.api import notify
from notifications.models import Notification
user = get_user_model().objects.get(username="demo")
ids = [notify(user, title)[0] for title in ("older", "the export")]
streams.number([user.pk])
print(ids[1])
"""
READ_TITLES = """
from notifications.models import Notification
print(sorted(Notification.objects.filter(read_at__isnull=False).values_list("title", flat=True)))
"""


@pytest.fixture
def push_site(site):
    """A site with a key for push."""
    keys = {"private_key": vapid_key(), "subject": "mailto:admin@site.example"}
    site.notifications["WEB_PUSH"] = keys
    site.start_web()
    return site


@pytest.fixture
def open_devices(push_site, new_page):
    """open_devices(**options of new_context) opens the page of devices in a browser that push can be turned on in."""

    def open_page(**options):
        page = new_page(**options)
        page.context.grant_permissions(["notifications"], origin=push_site.url)
        page.add_init_script(f"({STUB})({json.dumps(browser_keys()[1])})")
        return visit(page, push_site.url, "/notifications/devices/")

    return open_page


def rows(page):
    return page.locator("[data-mark]")


def turn_on(page):
    page.get_by_role("button", name="Turn on in this browser").click()
    expect(rows(page)).to_have_count(1)
    expect(rows(page)).to_contain_text("this browser")


@pytest.mark.nightly
def test_turned_on_and_removed(open_devices, push_site):
    """The permission is asked for by the click only. The removal ends the subscription too."""
    page = open_devices()
    expect(page.get_by_text("You have no devices yet.")).to_be_visible()
    button = page.get_by_role("button", name="Turn on in this browser")
    expect(button).to_be_visible()
    assert page.evaluate("sessionStorage.asked") is None
    assert page.evaluate("navigator.serviceWorker.getRegistrations().then((found) => found.length)") == 0
    turn_on(page)
    expect(button).to_be_hidden()
    assert page.evaluate("sessionStorage.asked") == "1"
    scopes = page.evaluate(
        "navigator.serviceWorker.getRegistrations().then((found) => found.map((each) => each.scope))"
    )
    assert scopes == [f"{push_site.url}/notifications/devices/"]
    stored = push_site.python(READ_DEVICES)
    assert "('demo', 'Chrome on Linux', 'https://push.example/send/1')" in stored
    page.get_by_role("button", name="Remove: Chrome on Linux").click()
    expect(page.get_by_text("You have no devices yet.")).to_be_visible()
    expect(button).to_be_visible()
    assert page.evaluate("sessionStorage.push") is None
    assert "[]" in push_site.python(READ_DEVICES)


@pytest.mark.nightly
def test_removed_elsewhere(open_devices, push_site):
    """This browser is off then, also if it was just confirming itself, and stays so until the button is pressed."""
    page = open_devices()
    turn_on(page)
    removed = []

    def remove(route):
        removed.append(push_site.python(REMOVE_DEVICES))
        route.continue_()

    page.route("**/devices/subscribe/", remove)
    # The page from before may still confirm itself too.
    with page.expect_response(lambda response: removed and response.url.endswith("/devices/subscribe/")):
        page.reload()
    page.unroute("**/devices/subscribe/")
    page.reload()
    expect(page.get_by_role("button", name="Turn on in this browser")).to_be_visible()
    assert "[]" in push_site.python(READ_DEVICES)
    turn_on(page)


@pytest.mark.nightly
def test_denied(open_devices):
    page = open_devices()
    page.evaluate("sessionStorage.setItem('answer', 'denied')")
    page.get_by_role("button", name="Turn on in this browser").click()
    expect(page.get_by_role("status").filter(has_text="This browser blocks notifications")).to_be_visible()
    expect(rows(page)).to_have_count(0)


@pytest.mark.nightly
def test_key_that_has_changed(open_devices):
    """A subscription of another key is ended first: its push service would refuse ours."""
    page = open_devices()
    old = base64url(b"\x04" + bytes(64))
    page.evaluate(f"sessionStorage.setItem('push', JSON.stringify({{ applicationServerKey: '{old}' }}))")
    page.reload()
    turn_on(page)
    assert json.loads(page.evaluate("sessionStorage.push"))["applicationServerKey"] != old


@pytest.mark.nightly
def test_new_key_of_the_site(open_devices, push_site):
    """The page subscribes anew when it is opened, without a click, and the device stays one."""
    page = open_devices(errors=False)  # Chromium logs that the server was away.
    turn_on(page)
    old = push_site.notifications["WEB_PUSH"]
    new = vapid_key()
    push_site.notifications["WEB_PUSH"] = {**old, "private_key": new}
    push_site.web.kill()
    push_site.start_web()
    assert devices.hash_key(public_key_of(old["private_key"])) in push_site.python(READ_KEYS)
    page.goto(f"{push_site.url}/notifications/devices/")
    page.wait_for_function("(key) => sessionStorage.push?.includes(key)", arg=public_key_of(new))
    expect(rows(page).get_by_text("this browser")).to_be_visible()
    expect(page.locator(".notifications-problem")).to_have_count(0)
    wait_until(
        lambda: devices.hash_key(public_key_of(new)) in push_site.python(READ_KEYS), what="the new key"
    )
    expect(rows(page)).to_have_count(1)
    assert page.evaluate("sessionStorage.asked") == "1"


@pytest.mark.nightly
def test_without_javascript(open_devices, new_page, push_site):
    """The list and the removal work."""
    page = open_devices()
    turn_on(page)
    plain = new_page(java_script_enabled=False, storage_state=page.context.storage_state())
    plain.goto(f"{push_site.url}/notifications/devices/")
    expect(plain.get_by_role("button", name="Turn on in this browser")).to_be_hidden()
    plain.get_by_role("button", name="Remove: Chrome on Linux").click()
    expect(plain.get_by_text("You have no devices yet.")).to_be_visible()


@pytest.mark.nightly
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_problem_of_accessibility(open_devices, scheme):
    page = open_devices(color_scheme=scheme, viewport={"width": 380, "height": 800})
    turn_on(page)
    assert find_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.fixture
def worker_page(open_devices, push_site, request):
    """The page of devices with an active service worker, and deliver(message), which has it receive a push message.

    With the parameter False it may log errors.
    """
    page = open_devices(errors=getattr(request, "param", True))
    turn_on(page)
    session, found = page.context.new_cdp_session(page), []
    session.on("ServiceWorker.workerRegistrationUpdated", lambda event: found.extend(event["registrations"]))
    session.send("ServiceWorker.enable")

    def deliver(message):
        session.send(
            "ServiceWorker.deliverPushMessage",
            {
                "origin": f"{push_site.url}/",
                "registrationId": found[0]["registrationId"],
                "data": json.dumps(message),
            },
        )

    page.wait_for_function("navigator.serviceWorker.controller")
    wait_until(lambda: found or page.wait_for_timeout(50), what="the service worker")
    page.deliver = deliver
    return page


def make_message(push_site, id, **fields):
    notification = {
        "title": "The export is ready",
        "body": "12,400 rows",
        "navigate": f"{push_site.url}/check/",
        "lang": "en",
        "dir": "auto",
        "tag": id,
        "data": {"id": id},
        **fields,
    }
    return {"web_push": 8030, "mutable": True, "notification": notification}


def read_shown(page):
    return page.evaluate(
        """async () => {
            const registration = await navigator.serviceWorker.getRegistration();
            const shown = await registration.getNotifications();
            return shown.map(({ title, body, tag, data }) => ({ title, body, tag, data }));
        }"""
    )


def test_message_is_shown_once(worker_page, push_site):
    """One that was sent twice has the same tag."""
    message = make_message(push_site, "1" * 32)
    for _ in range(2):
        worker_page.deliver(message)
    worker_page.deliver(make_message(push_site, "2" * 32, title="Another", body=""))
    wait_until(lambda: worker_page.wait_for_timeout(50) or len(read_shown(worker_page)) == 2, what="both")
    shown = {each["tag"]: each for each in read_shown(worker_page)}
    assert shown["1" * 32] == {
        "title": "The export is ready",
        "body": "12,400 rows",
        "tag": "1" * 32,
        "data": {"id": "1" * 32, "navigate": f"{push_site.url}/check/"},
    }
    assert shown["2" * 32]["title"] == "Another"


#: A click that a script makes: it may open no window, and the worker may not wait for it, so both are replaced.
CLICK = """
async () => {
    const opened = [];
    clients.openWindow = async (url) => opened.push(url);
    const [notification] = await registration.getNotifications();
    const event = new NotificationEvent("notificationclick", { notification });
    const done = new Promise((resolve) => { event.waitUntil = resolve; });
    dispatchEvent(event);
    await done;
    return { opened, shown: (await registration.getNotifications()).length };
}
"""


@pytest.mark.nightly
def test_click_opens_the_page_and_marks_the_notification_as_read(worker_page, push_site):
    """That one only."""
    id = push_site.python(NOTIFY).strip().splitlines()[-1]
    worker_page.deliver(make_message(push_site, id))
    wait_until(lambda: worker_page.wait_for_timeout(50) or read_shown(worker_page), what="the message")
    (worker,) = worker_page.context.service_workers
    assert worker.evaluate(CLICK) == {"opened": [f"{push_site.url}/check/"], "shown": 0}
    assert "['the export']" in push_site.python(READ_TITLES)


@pytest.mark.nightly
def test_click_focuses_a_page_that_is_open(worker_page, push_site):
    """A script may not focus a window either, so what is called is recorded."""
    worker_page.deliver(make_message(push_site, "1" * 32, navigate=worker_page.url))
    wait_until(lambda: worker_page.wait_for_timeout(50) or read_shown(worker_page), what="the message")
    (worker,) = worker_page.context.service_workers
    worker.evaluate("WindowClient.prototype.focus = async function () { self.focused = this.url; }")
    assert worker.evaluate(CLICK)["opened"] == []
    assert worker.evaluate("self.focused") == worker_page.url


def change_subscription(page, *, knows_old=True):
    """Have the browser change its subscription, and return the error of the worker, "" without one."""
    (worker,) = page.context.service_workers
    old = '{ endpoint: "https://push.example/send/1" }' if knows_old else "null"
    keys = json.dumps(browser_keys()[1])
    return worker.evaluate(
        f"""async () => {{
            const event = new Event("pushsubscriptionchange");
            const done = new Promise((resolve) => {{ event.waitUntil = resolve; }});
            event.oldSubscription = {old};
            event.newSubscription = {{ toJSON: () => ({{ endpoint: "https://push.example/send/2", keys: {keys} }}) }};
            dispatchEvent(event);
            return done.then(() => "", String);
        }}"""
    )


@pytest.mark.nightly
def test_subscription_that_the_browser_changes(worker_page, push_site):
    """The worker tells the server, without a page."""
    assert change_subscription(worker_page) == ""
    stored = push_site.python(READ_DEVICES)
    assert "send/2" in stored and "send/1" not in stored


@pytest.mark.nightly
@pytest.mark.parametrize("worker_page", [False], indirect=True, ids=[""])
@pytest.mark.parametrize("knows_old", [True, False], ids=["with the old one", "without"])
def test_subscription_that_changes_after_another_user_has_signed_in(worker_page, push_site, knows_old):
    """It becomes no device of that user, who has not turned push on, until a click of theirs."""
    worker_page.wait_for_load_state(
        "networkidle"
    )  # An answer to its confirmation would set another CSRF token.
    worker_page.context.clear_cookies()
    sign_in_over_http(worker_page.context, push_site.url, "other")
    assert "401" in change_subscription(worker_page, knows_old=knows_old)
    stored = push_site.python(READ_DEVICES)
    assert "'demo'" in stored and "send/1" in stored and "other" not in stored and "send/2" not in stored
    worker_page.reload()
    turn_on(worker_page)
    assert change_subscription(worker_page) == ""
    stored = push_site.python(READ_DEVICES)
    assert "'other'" in stored and "send/2" in stored and "demo" not in stored


#: The worker has a subscription of another key. Its push service cannot be reached, so it is replaced.
HAVE_OTHER_KEY = """
(keys) => {
    const make = (endpoint, applicationServerKey) => ({
        endpoint, options: { applicationServerKey }, unsubscribe: async () => true,
        toJSON: () => ({ endpoint, keys }),
    });
    const decode = (text) =>
        Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0)).buffer;
    let held = make("https://push.example/send/1", new Uint8Array([4, 1]).buffer);
    PushManager.prototype.getSubscription = async () => held;
    PushManager.prototype.subscribe = async ({ applicationServerKey }) =>
        (held = make("https://push.example/send/3", decode(applicationServerKey)));
}
"""
ACTIVATE = """
() => {
    const event = new Event("activate");
    const done = new Promise((resolve) => { event.waitUntil = resolve; });
    dispatchEvent(event);
    return done.then(() => "", String);
}
"""


@pytest.mark.nightly
def test_worker_that_is_activated_with_a_new_key(worker_page, push_site):
    """It subscribes anew, without a page."""
    (worker,) = worker_page.context.service_workers
    worker.evaluate(HAVE_OTHER_KEY, browser_keys()[1])
    assert worker.evaluate(ACTIVATE) == ""
    stored = push_site.python(READ_KEYS)
    key = public_key_of(push_site.notifications["WEB_PUSH"]["private_key"])
    assert "send/1" not in stored and f"'https://push.example/send/3', '{devices.hash_key(key)}'" in stored


#: As during the deployment that changes the key.
REFUSE_ONCE = """
() => {
    const send = fetch;
    globalThis.fetch = async (url, init) => {
        if (init?.method !== "POST") return send(url, init);
        globalThis.fetch = send;
        return new Response("{}", { status: 503 });
    };
}
"""


@pytest.mark.nightly
@pytest.mark.parametrize("is_refused", [False, True], ids=["", "refused once"])
def test_page_with_a_bell_after_a_new_key_of_the_site(open_devices, push_site, is_refused):
    """It has the worker subscribe anew, on each page until the server knows that, and then with the next key only."""
    page = open_devices(errors=False)  # Chromium logs that the server was away.
    turn_on(page)
    (worker,) = page.context.service_workers
    worker.evaluate(HAVE_OTHER_KEY, browser_keys()[1])
    old = push_site.notifications["WEB_PUSH"]
    push_site.notifications["WEB_PUSH"] = {**old, "private_key": vapid_key()}
    push_site.web.kill()
    push_site.start_web()
    key = public_key_of(push_site.notifications["WEB_PUSH"]["private_key"])
    if is_refused:
        worker.evaluate(REFUSE_ONCE)
        visit(page, push_site.url, "/")
        page.wait_for_function("localStorage['notifications.push']?.includes('replaces')")
        page.wait_for_timeout(500)
        assert devices.hash_key(key) not in push_site.python(READ_KEYS)
    visit(page, push_site.url, "/")
    page.wait_for_function("(key) => localStorage['notifications.push'] === JSON.stringify(key)", arg=key)
    stored = push_site.python(READ_KEYS)
    assert "send/1" not in stored and f"'https://push.example/send/3', '{devices.hash_key(key)}'" in stored
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.reload()
    page.evaluate("notifications.ready.then(() => true)")
    assert requests and not [url for url in requests if "push_key" in url]
