"""The Content-Security-Policy of the site."""

import re


def test_policy_allows_no_inline_code_but_the_sites_files_and_no_other_origins(client, db):
    """The header is the same on Django 5.2, which has no setting for it."""
    policy = client.get("/accounts/login/").headers["Content-Security-Policy"]
    assert re.sub("'sha256-[^']{44}'", "FILE", policy) == (
        "default-src 'self'; script-src 'self' FILE; style-src 'self' FILE FILE FILE; img-src 'self' data:; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
