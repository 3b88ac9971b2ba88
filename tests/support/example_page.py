"""Pages of examples: real output of ``{% notifications %}`` with the HTML and the scripts of an example below it."""

import re

from django.template import Context, Engine

TAG = re.compile(
    r'<link rel="stylesheet" href="[^"]*(?:tokens|notifications)\.css".*?data-notifications.*?</script>', re.S
)
DOCUMENT = "<!doctype html><html lang=en><head><title>Example</title></head><body>{}</body></html>"


class ExamplePage:
    """Serves ``/example/`` of a site to a page of Chromium, with the site's own headers. All else is the site's.

    ``html`` is what stands below the output of the template tag, or a document in which ``{% notifications %}`` is
    replaced by it. ``scripts`` are the texts of modules by path. ``tag`` is ``"full"``, ``"data"`` (without the script)
    or ``"none"``. ``context`` returns the variables of ``html``. ``rendered`` counts how often the page was requested.
    """

    def __init__(self, page, site_url, html, scripts=None, *, tag="full", context=dict):
        self.rendered = 0
        self._page, self._site_url = page, site_url
        self._html, self._scripts = html, scripts or {}
        self._tag, self._context = tag, context
        page.route(f"{site_url}/example/**", self._serve)

    def open(self):
        self._page.goto(f"{self._site_url}/example/")
        return self._page

    def _serve(self, route):
        path = route.request.url.removeprefix(self._site_url)
        if path in self._scripts:
            route.fulfill(body=self._scripts[path], content_type="text/javascript")
            return
        self.rendered += 1
        response = route.fetch(url=f"{self._site_url}/check/")
        headers = {name: value for name, value in response.headers.items() if name != "content-length"}
        route.fulfill(response=response, headers=headers, body=self._compose(response.text()))

    def _compose(self, site_html):
        found = TAG.search(site_html)
        tag = found[0] if found and self._tag != "none" else ""
        if self._tag == "data":
            tag = re.sub(r'<link rel="modulepreload"[^>]*>', "", tag)
            tag = re.sub(
                r'type="module" src="[^"]*"(?=[^>]* data-notifications)', 'type="application/json"', tag
            )
        html = render(self._html, **self._context())
        if "<body>" not in html:
            return DOCUMENT.format(tag + html)
        return "<!doctype html><html lang=en>" + html.replace("{% notifications %}", tag)


def render(block, **context):
    """Return the HTML of a block of a page of the documentation, except for the tag of the app."""
    block = re.sub(r"\{% static '[\w-]+/(.+?)' %\}", r"/example/\1", block).replace("{% csrf_token %}", "")
    return "{% notifications %}".join(
        Engine().from_string(part).render(Context(context)) for part in block.split("{% notifications %}")
    )
