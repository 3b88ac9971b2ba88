"""The Content-Security-Policy header on Django 5.2, which has no setting for it."""

from django.conf import settings
from django.utils.deprecation import MiddlewareMixin


class ContentSecurityPolicyMiddleware(MiddlewareMixin):
    """Sends the policy of SECURE_CSP with every response that has none of its own.

    Async too: one middleware that is not would hold a thread for every request that waits.
    """

    def process_response(self, request, response):
        if settings.DEBUG and response.status_code == 500:
            return response  # Django's own error page is made of inline code.
        response.headers.setdefault(
            "Content-Security-Policy",
            "; ".join(" ".join((name, *values)) for name, values in settings.SECURE_CSP.items()),
        )
        return response
