"""The sample URLs, which call every endpoint of the bundled upstream at the server's own address."""

import secrets

from django.conf import settings


def sample_urls():
    """Return 40 URLs of the sample upstream. Outside development it is not served, and the list is empty."""
    if not settings.DEBUG:
        return []
    return [f"{settings.SELF_URL}/upstream/{path}" for path in sample_paths()]


def sample_paths():
    # A new key each time: the first two calls of a key fail and are retried.
    key = secrets.token_hex(4)
    return [
        *["ok"] * 8,
        *[f"json?page={page}" for page in range(1, 7)],
        *[f"slow?s={s}" for s in (0.02, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1, 1.5, 2, 3)],
        *[f"status/{status}" for status in (204, 404, 429, 500)],
        *[f"flaky?key={key}"] * 3,
        "redirect",
        "redirect?to=/upstream/json&status=307",
        "redirect?to=http://169.254.169.254/latest/meta-data/",
        "big?mb=1",
        "drop",
    ]
