"""The nonce of a Content-Security-Policy on Django 5.2, as django-csp provides it: created when it is read.

The admin of 5.2 has no nonces for its own files, so the policy allows files of the site too.
"""

import secrets
from inspect import iscoroutinefunction

from django.conf import settings
from django.utils.decorators import sync_and_async_middleware
from django.utils.functional import SimpleLazyObject


@sync_and_async_middleware
def csp_nonce_middleware(get_response):
    def set_nonce(request):
        request.csp_nonce = SimpleLazyObject(lambda: secrets.token_urlsafe(16))

    def set_header(request, response):
        policy = "; ".join(" ".join((name, *values)) for name, values in settings.SECURE_CSP.items())
        sources = f"'nonce-{request.csp_nonce}'"
        if request.resolver_match and "admin" in request.resolver_match.app_names:
            sources += " 'self'"
        response["Content-Security-Policy"] = policy.replace(settings.NONCE, sources)
        return response

    if iscoroutinefunction(get_response):

        async def middleware(request):
            set_nonce(request)
            return set_header(request, await get_response(request))
    else:

        def middleware(request):
            set_nonce(request)
            return set_header(request, get_response(request))

    return middleware
