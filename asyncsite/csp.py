"""The Content-Security-Policy header on Django 5.2, which has no setting for it."""

from django.conf import settings


class ContentSecurityPolicyMiddleware:
    """Sends the policy of SECURE_CSP with every response that has none of its own."""

    async_capable = False

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        response = self.get_response(request)
        if settings.DEBUG and response.status_code == 500:
            return response  # Django's own error page is made of inline code.
        response.headers.setdefault(
            "Content-Security-Policy",
            "; ".join(" ".join((name, *values)) for name, values in settings.SECURE_CSP.items()),
        )
        return response
