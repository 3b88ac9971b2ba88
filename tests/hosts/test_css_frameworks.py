"""The bell in bars of Bootstrap, Tailwind and Bulma, as docs/how-to/css-frameworks.md has them, in development."""

import base64
import os
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

from tests.browser.parts import expect_unseen, find_bell, find_toasts, open_bell, wait_until_live
from tests.docs.pages import section
from tests.hosts.host import create_host
from tests.hosts.test_in_browser import sign_in
from tests.support.axe import find_violations
from tests.support.npm import NODE_MODULES, require_node_modules, run
from tests.support.requirements import find_program, skip_or_fail
from tests.support.site import ROOT
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

PAGE = "how-to/css-frameworks.md"
SHEETS = {
    "Bootstrap": "bootstrap/dist/css/bootstrap.min.css",
    "Tailwind": "tailwindcss/index.css",
    "Bulma": "bulma/css/bulma.min.css",
}
#: By framework: what `<html>` has in its dark theme, and the bar in a light one.
DARK = {"Bootstrap": "data-bs-theme=dark", "Tailwind": "class=dark", "Bulma": "data-theme=dark"}
LIGHT_BARS = {
    "Bootstrap": ('bg-dark" data-bs-theme="dark"', 'bg-body-tertiary"'),
    "Tailwind": ("bg-gray-800", "bg-gray-100"),
    "Bulma": ("navbar is-dark", "navbar is-light"),
}
TEMPLATE = """{%% load notifications %%}<!doctype html><html lang=en %s><head><title>Shop</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/framework.css"></head><body>%s
<main class="container section p-4"><h1 class="title text-2xl">Orders</h1><p>Today, <a href="/">all</a></p>
<ul><li>One</li></ul><button class="btn btn-primary button">Save</button>
<table class="table"><tr><th>Total</th><td>7</td></table>
<input value="text"><details><summary>More</summary></details></main></body></html>"""
#: Bars of projects without a framework, or with one of a few rules: their markup and style sheet.
LIST_BAR = """<header><nav><ul><li><a href="/">Home</a></li><li><a href="/orders">Orders</a></li>
<li>{% notifications %}</li></ul></nav></header>"""
PLAIN_BARS = {
    "Pico": (
        LIST_BAR,
        """nav, nav ul { display: flex } nav { justify-content: space-between; overflow: visible }
        nav ol, nav ul { align-items: center; margin-bottom: 0; padding: 0; list-style: none }
        nav li { display: inline-block; margin: 0; padding: 1rem .5rem }
        nav li :where(a, [role=link]) { display: inline-block; margin: -.25rem -.5rem; padding: .25rem .5rem }
        :where(ol, ul) li { margin-bottom: .25rem } ul li { list-style: square }
        a { text-decoration: underline; color: #0172ad } a:hover { background: #eee }
        button { display: inline-block; width: 100%; margin-bottom: 1rem; padding: .75rem 1rem; border: 1px solid;
            background: #0172ad; color: #fff; font-size: 1rem; text-align: center }""",
    ),
    "Simple.css": (
        LIST_BAR,
        """body { display: grid; grid-template-columns: 1fr min(45rem, 90%) 1fr; font-size: 1.15rem; line-height: 1.5 }
        body > * { grid-column: 2 } body > header { grid-column: 1 / -1; background: #f5f7ff; text-align: center }
        header > nav ul, header > nav ol { display: flex; flex-flow: row wrap; place-content: space-around center;
            list-style-type: none; margin: 0; padding: 0 }
        header > nav ul li { display: inline-block }
        header > nav a { display: inline-block; margin: 0 .5rem 1rem; border: 1px solid #898ea4; padding: .1rem 1rem }
        button { border: none; border-radius: 5px; background: #0d47a1; color: #fff; font-size: 1rem;
            padding: .7rem .9rem; margin: .5rem 0 }
        h2 { font-size: 2.6rem; margin-top: 3rem }
        section { border-top: 1px solid; padding: 2rem 1rem; margin: 3rem 0 }""",
    ),
    "W3Schools": (
        LIST_BAR,
        """ul { list-style-type: none; margin: 0; padding: 0; overflow: hidden; background-color: #333 }
        li { float: left } li a { display: block; color: white; text-align: center; padding: 14px 16px }
        li a:hover { background-color: #111 } a[href]::after { content: "»" }""",
    ),
    "flex lists": (
        """<nav id="bar"><ul><li><a href="/">Home</a></li><li>{% notifications %}</li></ul></nav>""",
        """nav ul { display: flex } nav ul li { flex: 1 0 32px; max-width: 32px; overflow: hidden }
        #bar ul li a { display: flex; float: right; width: 32px } div, p, span { margin: 4px }""",
    ),
    "flex divs": (
        """<nav><div><a href="/">Home</a><div>{% notifications %}</div></div></nav>""",
        """nav div { display: flex; flex-direction: row; overflow: hidden; background: #eee }
        nav span, nav a, nav p { display: block; float: left; white-space: nowrap } nav button { flex: 1; width: 4em }
        nav * { text-transform: uppercase }""",
    ),
}
NOTIFY = """
from django.contrib.auth import get_user_model
from notifications.api import notify
user = get_user_model().objects.get(username="person7")
notify(user, "Ada requests access to Reports", body="She is on call until Monday.", actor="Ada Lovelace",
    actions=[{"label": "Approve", "post": "/a/"}, {"label": "View request", "url": "/b/"}])
for level in ("success", "warning", "error"):
    notify(user, f"Import of products.csv ended as {level}", body="36 of 40 rows were imported.", level=level)
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    require_node_modules()
    missing = [name for name in SHEETS.values() if not (NODE_MODULES / name).exists()]
    if missing:
        skip_or_fail(f"{missing[0]} is not installed (npm install).", variable="REQUIRE_NPM")
    host = create_host(tmp_path_factory.mktemp("frameworks"), "uuid")
    host.is_in_development = True
    try:
        host.start_daphne()
        yield host
    finally:
        host.close()
        print(host.log())


@pytest.fixture(scope="module")
def compile_sheet(tmp_path_factory):
    """Return a function that returns the style sheet of a page: that of the framework, and rules of the project."""
    file = tmp_path_factory.mktemp("tailwind") / "app.css"

    def compile_sheet(framework, template, rules):
        if framework != "Tailwind":
            return (NODE_MODULES / SHEETS[framework]).read_text() + rules
        file.write_text(rules if "tailwindcss" in rules else f'@import "tailwindcss";{rules}')
        classes = set(" ".join(re.findall(r'class="?([^">]+)', template)).split())
        return run(
            find_program("node", package="nodejs"), "tests/hosts/tailwind.js", file, *classes, cwd=ROOT
        )

    return compile_sheet


@pytest.fixture
def show(host, compile_sheet):
    """Return a function that shows a bar in a page, signed in: show(page, framework, bar, rules, attributes)."""

    def show(page, framework, bar, rules="", attributes="lang=en"):
        template = TEMPLATE % (attributes, bar)
        sheet = compile_sheet(framework, template, rules) if framework else rules
        page.unroute("**/framework.css")
        page.route("**/framework.css", lambda route: route.fulfill(body=sheet, content_type="text/css"))
        page.goto(f"{host.origin}/app/en/template/?{urlencode({'template': template})}")
        return page

    return show


def read_example(framework):
    """Return the bar and the rules of a framework in the documentation."""
    text = section(PAGE, framework)
    return [re.search(rf"^```{name}$\n(.*?)^```$", text, re.M | re.S)[1] for name in ("html", "css")]


def without_class(bar):
    return re.sub(r"{% notifications [^%]*%}", "{% notifications %}", bar)


def read_pixels(page, locator):
    """Return the colors of an element on the screen, the first of which is that behind it."""
    blank = page.context.new_page()
    source = base64.b64encode(locator.screenshot(animations="disabled")).decode()
    pixels = blank.evaluate(
        """async (source) => {
            const image = new Image();
            image.src = `data:image/png;base64,${source}`;
            await image.decode();
            const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
            context.drawImage(image, 0, 0);
            const { data } = context.getImageData(0, 0, image.width, image.height);
            return Array.from({ length: data.length / 4 }, (_, at) => [...data.slice(4 * at, 4 * at + 3)]);
        }""",
        source,
    )
    blank.close()
    return pixels


def read_luminance(color):
    red, green, blue = (
        part / 255 / 12.92 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in color
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def measure_contrast(page):
    """Return the contrast of the bell with what is behind it, as it is on the screen."""
    ground, *others = map(read_luminance, read_pixels(page, page.locator(".notifications-icon")))
    return max((max(ground, each) + 0.05) / (min(ground, each) + 0.05) for each in others)


#: Without the bell and the toasts, which take room, no element of the page changes with the app's style sheet.
READ_HOST = """(isOn) => {
    const sheets = [...document.styleSheets].filter(({ href }) => /(tokens|initial|notifications)[.]css/.test(href));
    const own = "notifications-bell, notifications-panel, notifications-toasts";
    for (const node of document.querySelectorAll(own)) node.style.display = "none";
    for (const sheet of sheets) sheet.disabled = !isOn;
    const read = (node, part) => [...getComputedStyle(node, part)].map((name) =>
        `${node.tagName}${part ?? ""} ${name}: ${getComputedStyle(node, part).getPropertyValue(name)}`);
    const nodes = [...document.querySelectorAll("html, body, body *")].filter((node) => !node.closest(own));
    return nodes.flatMap((node) => [null, "::before", "::after"].flatMap((part) => read(node, part)));
}"""
#: What is seen of the app's parts, but for where they are.
READ_PARTS = """() => {
    const names = ["color", "backgroundColor", "fontSize", "fontWeight", "fontFamily", "lineHeight", "textAlign",
        "textDecorationLine", "textTransform", "letterSpacing", "borderWidth", "borderRadius",
        "whiteSpace", "cursor", "boxShadow"];
    const roots = ":is(.notifications-panel, .notifications-toast)";
    return [...document.querySelectorAll(`.notifications-toast, ${roots} *:not(ul)`)]
        .flatMap((node) => {
            const [style, { width, height }] = [getComputedStyle(node), node.getBoundingClientRect()];
            const name = `${node.tagName} ${node.className.baseVal ?? node.className}`;
            const values = names.map((each) => `${name}: ${each} ${style[each]}`);
            return [`${name}: ${Math.round(width)} x ${Math.round(height)}`, ...values];
        });
}"""


def export(page, times):
    """Have the person of the page export so many reports."""
    wait_until_live(page)
    page.evaluate(
        """async (times) => {
            const { ask } = await notifications.ready;
            while (times--) await ask("/app/en/export/function/2026/", { method: "POST" }).result;
        }""",
        times,
    )


def show_parts(page):
    """Show the panel, and a toast that stays."""
    export(page, 2)
    toast = find_toasts(page).first.element_handle()
    place = toast.evaluate_handle("(toast) => toast.parentNode")
    open_bell(page)
    expect(page.locator(".notifications-panel li").nth(4)).to_be_visible()
    toast.evaluate("(toast, place) => place.append(toast)", place)
    page.mouse.move(0, 600)
    page.wait_for_timeout(200)  # until it has come in


def keep_screenshot(page, name):
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"css-{name}.png")


def collect_warnings(page):
    warnings = []
    page.on(
        "console",
        lambda message: message.text.startswith("notifications:") and warnings.append(message.text),
    )
    return warnings


@pytest.mark.nightly
@pytest.mark.parametrize("framework", SHEETS)
def test_bell_panel_and_toast(host, show, new_page, framework):
    """They are seen in each theme, look as without the framework, and change nothing else."""
    host.manage("shell", "-c", NOTIFY)
    page = new_page()
    page.clock.set_fixed_time(datetime.now(UTC))  # All that is shown is of "just now".
    warnings = collect_warnings(page)
    sign_in(page, host, "person7")
    dark_bar, rules = read_example(framework)
    light_bar = dark_bar.replace(*LIGHT_BARS[framework])
    assert light_bar != dark_bar
    light_bar = light_bar.replace("text-gray-300", "text-gray-600")
    for _ in range(2):  # The exports of both are a group then, as on each page that follows.
        show(page, framework, light_bar)
        show_parts(page)
    parts = set(page.evaluate(READ_PARTS))
    assert sorted(set(page.evaluate(READ_HOST, True)) ^ set(page.evaluate(READ_HOST, False))) == []
    show(page, None, light_bar)
    show_parts(page)
    assert sorted(parts ^ set(page.evaluate(READ_PARTS))) == []
    variants = {
        "dark bar": (dark_bar, rules, ""),
        "light bar": (light_bar, rules, ""),
        "dark page": (without_class(dark_bar), rules, DARK[framework]),
        "dark bar without the class": (without_class(dark_bar), "", ""),
        "light bar without the class": (without_class(light_bar), "", ""),
    }
    for name, (bar, own_rules, attributes) in variants.items():
        show(page, framework, bar, own_rules, attributes)
        wait_until_live(page)
        assert measure_contrast(page) >= 3, name
        if own_rules and "dark" in name:
            show_parts(page)
            keep_screenshot(page, f"{framework}-{name.replace(' ', '-')}")
            for part in ("notifications-bell", "notifications-toasts"):
                assert not find_violations(page, part, disabled=["region", "target-size"]), name
    assert not warnings


def test_bars_that_style_their_lists(show, host, new_page):
    """Panel and toasts look as in a page without a style sheet, in bars that style lists, links, buttons and boxes."""
    host.manage("shell", "-c", NOTIFY.replace("person7", "person9"))
    page = new_page()
    page.clock.set_fixed_time(datetime.now(UTC))
    sign_in(page, host, "person9")
    show(page, None, LIST_BAR)
    export(page, 8)  # The number of the group's exports has two digits then, as on each page that follows.
    show(page, None, LIST_BAR)
    show_parts(page)
    plain = set(page.evaluate(READ_PARTS))
    for name, (bar, rules) in PLAIN_BARS.items():
        show(page, None, bar, rules)
        show_parts(page)
        keep_screenshot(page, f"plain-{name.replace(' ', '-')}")
        assert (name, sorted(plain ^ set(page.evaluate(READ_PARTS)))) == (name, [])
    # The Tab key goes from the button into the panel, and Escape closes it.
    page.keyboard.press("Escape")
    expect(find_bell(page)).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Inbox")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(find_bell(page)).to_be_focused()


@pytest.mark.parametrize(
    "viewport",
    [(360, 740), *(pytest.param(size, marks=pytest.mark.nightly) for size in [(740, 360), (320, 256)])],
    ids=str,
)
def test_a_bell_that_is_low(show, host, new_page, viewport):
    """The panel is inside the window: below the bell in an opened menu, and above one at the lower edge."""
    width, height = viewport
    host.manage("shell", "-c", NOTIFY.replace("person7", "person6"))
    page = new_page(viewport={"width": width, "height": height})
    sign_in(page, host, "person6")
    links = '<li class="nav-item"><a class="nav-link" href="/">Orders</a></li>' * 8
    menu = (
        '<nav class="navbar navbar-expand-lg bg-dark" data-bs-theme="dark"><div class="container-fluid">'
        f'<div class="navbar-collapse collapse show"><ul class="navbar-nav">{links}'
        '<li class="nav-item">{% notifications class="nav-link py-0" %}</li></ul></div></div></nav>'
    )
    foot = '<nav style="position: fixed; bottom: 0">{% notifications %}</nav>'
    for name, bar in {"menu": menu, "foot": foot}.items():
        show(page, "Bootstrap", bar)
        wait_until_live(page)
        panel = open_bell(page)
        expect(panel.locator("li").nth(3)).to_be_attached()
        page.wait_for_function("(panel) => panel.style.top", arg=panel.element_handle())
        keep_screenshot(page, f"low-{name}-{width}")
        box, bell = panel.bounding_box(), find_bell(page).bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= height, name
        room = max(bell["y"], height - bell["y"] - bell["height"])
        assert box["height"] >= min(300, room - 16), name
        assert box["y"] >= bell["y"] + bell["height"] or box["y"] + box["height"] <= bell["y"], name


def test_a_bell_that_cannot_be_seen(show, host, new_page):
    """The console says so once, until the property of the documentation gives it a color."""
    page = new_page()
    warnings = collect_warnings(page)
    sign_in(page, host, "person8")
    bar = '<header class="topbar"><strong>Shop</strong>{% notifications %}</header>'
    ground = ".topbar { background: #212529; }"
    show(page, None, bar, ground)
    wait_until(lambda: page.evaluate("0") or warnings, what="the warning")
    assert len(warnings) == 1 and "--notifications-bell" in warnings[0] and "1.4:1" in warnings[0]
    wait_until_live(page)
    assert measure_contrast(page) < 3
    [rule] = re.findall(r"^```css$\n(.*?)^```$", section(PAGE, "Another bar"), re.M | re.S)
    show(page, None, bar, ground + rule)
    wait_until_live(page)
    assert measure_contrast(page) > 15
    assert len(warnings) == 1


def test_a_bell_in_a_list_that_is_in_no_element_of_a_bar(show, host, new_page):
    """It has the color of the links of the list, not that of its item."""
    page = new_page()
    sign_in(page, host, "person8")
    links = "".join(f'<li><a href="/{name}">{name}</a></li>' for name in ("Home", "Orders"))
    rules = ".menu { display: flex; background: #333; list-style: none } .menu a { color: white }"
    show(page, None, f'<ul class="menu">{links}<li>{{% notifications %}}</li></ul>', rules)
    wait_until_live(page)
    assert measure_contrast(page) > 10


@pytest.mark.nightly
def test_a_switch_between_light_and_dark(show, host, new_page):
    """The links fade from one color to the other, and so does not the bell, which gets the last one."""
    page = new_page()
    sign_in(page, host, "person8")
    bar = without_class(read_example("Bootstrap")[0]).replace(*LIGHT_BARS["Bootstrap"])
    show(page, "Bootstrap", bar)
    wait_until_live(page)
    color = "getComputedStyle(document.querySelector('.notifications-icon')).color"
    link = "getComputedStyle(document.querySelector('.nav-link')).color"
    before = page.evaluate(color)
    page.evaluate("document.documentElement.dataset.bsTheme = 'dark'")
    page.wait_for_function(f"{color} === {link} && {color} !== '{before}'")
    assert measure_contrast(page) >= 3


@pytest.mark.nightly
@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("framework", SHEETS)
def test_the_number_is_seen(show, host, new_page, framework, theme):
    """In a dark bar of a light page and in a light one, without a property or a class of the project."""
    page = new_page()
    sign_in(page, host, "person8")
    host.manage("notify", "person8", "Hello")
    bar = read_example(framework)[0]
    if theme == "light":
        bar = bar.replace(*LIGHT_BARS[framework]).replace("text-gray-300", "text-gray-600")
    show(page, framework, without_class(bar), "")
    wait_until_live(page)
    number = page.locator(".notifications-count")
    expect(number).to_be_visible()
    page.wait_for_timeout(200)  # until the links have faded
    pixels = read_pixels(page, number)  # Its corners are those of the bar.
    ((fill, _),) = Counter(map(tuple, pixels)).most_common(1)
    dark, light = sorted(map(read_luminance, (pixels[-1], fill)))
    keep_screenshot(page, f"{framework}-number-{theme}")
    assert (light + 0.05) / (dark + 0.05) >= 3
    assert not find_violations(page, "notifications-bell", disabled=["region", "target-size"])


@pytest.mark.nightly
def test_without_javascript_from_right_to_left_and_in_forced_colors(show, host, new_page):
    page = new_page()
    sign_in(page, host, "person10")
    still = new_page(java_script_enabled=False)
    still.context.add_cookies(page.context.cookies())
    for framework in SHEETS:
        show(still, framework, read_example(framework)[0])
        expect(still.get_by_role("link", name="Notifications")).to_be_visible()
        assert measure_contrast(still) >= 3, framework
    show(page, "Bootstrap", read_example("Bootstrap")[0], attributes="dir=rtl")
    wait_until_live(page)
    icon = page.locator(".notifications-icon").bounding_box()
    host.manage("notify", "person10", "Hello")
    expect_unseen(page, 1)
    badge = page.locator(".notifications-count").first.bounding_box()
    assert badge["x"] < icon["x"]
    panel = open_bell(page).bounding_box()
    assert panel["x"] >= 0 and panel["x"] + panel["width"] <= page.viewport_size["width"]
    keep_screenshot(page, "Bootstrap-rtl")
    page.keyboard.press("Escape")
    page.emulate_media(forced_colors="active")
    assert measure_contrast(page) >= 3
    keep_screenshot(page, "Bootstrap-forced-colors")
