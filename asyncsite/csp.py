"""The Content-Security-Policy header on Django 5.2, which has no setting for it."""

from django.conf import settings
from django.utils.deprecation import MiddlewareMixin


class ContentSecurityPolicyMiddleware(MiddlewareMixin):
    """Add the policy of SECURE_CSP to each response that has none.

    It supports async: a sync middleware would occupy a thread during each request that waits.
    """

    def process_response(self, request, response):
        if settings.DEBUG and response.status_code == 500:
            return response  # Django's error page has inline styles and scripts.
        response.headers.setdefault(
            "Content-Security-Policy",
            "; ".join(" ".join((name, *values)) for name, values in settings.SECURE_CSP.items()),
        )
        return response
