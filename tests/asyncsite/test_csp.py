"""The site's pages carry one strict policy on every Django."""


def test_policy_allows_nothing_inline_and_nothing_from_elsewhere(client, db):
    """Same header on Django 5.2, which has no setting for it, and on later ones."""
    policy = client.get("/accounts/login/").headers["Content-Security-Policy"]
    assert policy == (
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
