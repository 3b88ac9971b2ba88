"""The Content-Security-Policy of the site."""


def test_policy_allows_no_inline_code_and_no_other_origins(client, db):
    """The header is the same on Django 5.2, which has no setting for it."""
    policy = client.get("/accounts/login/").headers["Content-Security-Policy"]
    assert policy == (
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
