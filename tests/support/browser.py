"""Chromium and Firefox, controlled by Playwright."""

import asyncio
import shutil
import sys
from contextlib import ExitStack, closing, contextmanager

from tests.support.firefox import firefox
from tests.support.requirements import find_program, skip_or_fail

DISABLED_FEATURES = [
    # A page that a test composes has no address, and would not be let connect to a server on loopback.
    *("LocalNetworkAccessChecks", "LocalNetworkAccessChecksWebSockets"),
    # A process for the panels of each window, which a headless one does not show: a sixth of the time of a test.
    "PreloadTopChromeWebUI",
    # What Playwright disables: Chromium takes the last list that it is given.
    *("AimEnabled", "AvoidCorsURLLoaderRestartOnRedirect", "AvoidUnnecessaryBeforeUnloadCheckSync"),
    *("DestroyProfileOnBrowserClose", "HttpsFirstBalancedModeAutoEnable", "HttpsUpgrades", "LensOverlay"),
    *("MediaRouter", "NetworkTimeServiceQuerying", "OptimizationHints", "PaintHolding", "PreconnectToSearch"),
    "ThirdPartyStoragePartitioning",
]
ARGUMENTS = [
    "--no-sandbox",  # Chromium refuses to run as root with it.
    "--disable-quic",
    "--disable-background-networking",
    f"--disable-features={','.join(DISABLED_FEATURES)}",
]

#: Timeout of each expectation about a page.
PAGE_TIMEOUT_MS = 40_000


#: The programs of each name. Chromium without windows and bars opens a page in a quarter of the CPU time, but gets
#: no push messages.
PROGRAMS = {
    "chromium": ("chromium-headless-shell", "chromium", "chromium-browser"),
    "chromium with windows": ("chromium", "chromium-browser"),
}


@contextmanager
def start_browser(name, folder):
    """Start one of PROGRAMS or "firefox" and yield what has `new_context()`. `folder` is a pathlib.Path for its files.

    Meanwhile Playwright runs an event loop in this thread, where async tests and Django's ORM fail.
    """
    try:
        from playwright.sync_api import expect, sync_playwright
    except ImportError:
        skip_or_fail("playwright is not installed (pip install -r requirements-dev.txt).")
    expect.set_options(timeout=PAGE_TIMEOUT_MS)
    with sync_playwright() as playwright:
        started = (
            closing(Chromium(playwright, PROGRAMS[name])) if name in PROGRAMS else firefox(playwright, folder)
        )
        with started as browser:
            yield browser


class Chromium:
    """Chromium, which is started again for the next context after a crash: the tests that follow must not fail."""

    def __init__(self, playwright, programs):
        self._playwright = playwright
        self._path = next(filter(None, map(shutil.which, programs)), None) or find_program(
            "chromium", package="chromium"
        )
        self._browser = self._launch()

    def new_context(self, **options):
        """Return a BrowserContext of Playwright with these options."""
        try:
            return self._browser.new_context(**options)
        except Exception:
            if self._browser.is_connected():
                raise
            self._browser = self._launch()
            return self._browser.new_context(**options)

    def close(self):
        self._browser.close()

    def _launch(self):
        return self._playwright.chromium.launch(executable_path=self._path, args=ARGUMENTS)


class SharedChromium:
    """The Chromium of a process, for one module after the other: its start costs as much as a test.

    Playwright's event loop disturbs other tests, so it counts as running only while a module uses the browser.
    """

    def __init__(self, folder):
        self._folder = folder
        self._browser = None
        self._started = ExitStack()

    @contextmanager
    def lend(self):
        if not self._browser:
            self._browser = self._started.enter_context(start_browser("chromium", self._folder))
        else:
            self._resume()
        try:
            yield self._browser
        finally:
            self._suspend()

    def close(self):
        if self._browser:
            self._resume()
            self._started.close()

    def _suspend(self):
        self._loop, self._hooks = asyncio.get_running_loop(), sys.get_asyncgen_hooks()
        asyncio._set_running_loop(None)
        sys.set_asyncgen_hooks(None, None)

    def _resume(self):
        asyncio._set_running_loop(self._loop)
        sys.set_asyncgen_hooks(*self._hooks)


def sign_in(page, site_url, username="demo", password=None):
    """Sign in, and open the page to which the form leads. The password defaults to the user name."""
    response = sign_in_over_http(page.context, site_url, username, password)
    page.goto(site_url + response.headers["location"])
    return page


def sign_in_over_http(context, site_url, username="demo", password=None):
    """Sign in by HTTP requests, so that no page is loaded or connects, and return the response."""
    address = f"{site_url}/accounts/login/"
    context.request.get(address)
    return post_form(context, address, username=username, password=password or username)


def post_form(context, address, **fields):
    token = next(cookie["value"] for cookie in context.cookies() if cookie["name"] == "csrftoken")
    form = {"csrfmiddlewaretoken": token, **fields}
    return context.request.post(address, form=form, headers={"Referer": address}, max_redirects=0)


def collect_errors(page):
    """Return a list that grows with the page's exceptions and the errors in its console."""
    errors = []
    page.on("pageerror", lambda error: errors.append(f"exception: {error}"))
    page.on(
        "console",
        lambda message: errors.append(f"console: {message.text}") if message.type == "error" else None,
    )
    return errors
