"""Access rules for the views of signed-in users: one decorator, for sync and async views."""

import logging
from functools import wraps
from inspect import iscoroutinefunction

from asgiref.sync import sync_to_async
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpResponse, HttpResponseNotAllowed, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.shortcuts import get_object_or_404, render
from django.template.loader import render_to_string
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from asyncsite.models import Report
from asyncsite.problems import problem_response, wants_json
from notifications.api import DATABASE_UNAVAILABLE

logger = logging.getLogger("asyncsite")
#: The greatest key of a report in the database.
MAX_ID = 2**63 - 1
FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")

#: A larger body is refused before it is read. A file just over its own limit still gets the form back.
MAX_BODY_BYTES = 16 * 1024 * 1024
#: What Django raises for a form that it cannot parse.
FORM_ERRORS = (MultiPartParserError, SuspiciousOperation, BadRequest, UnreadablePostError)


def require_sign_in(*methods, accepts=FORM_TYPES):
    """Return a decorator for a view that needs a signed-in user.

    ``methods``
        The HTTP methods of the view.
    ``accepts``
        The content types of a POST.

    It checks in this order: the user (a page redirects to the sign-in, a program gets 401), the method (405), the
    content type (415), the size of the body (413), CSRF (403). The view is exempt from Django's own CSRF check, which
    would come first, and is checked by ``csrf_protect`` instead.
    """

    def decorate(view):
        protected = csrf_protect(view)

        if iscoroutinefunction(view):

            @csrf_exempt
            @wraps(view)
            async def async_wrapper(request, *args, **kwargs):
                try:
                    # Loaded here, so that no later access to the lazy user makes a query on the event loop.
                    request.user = await request.auser()
                    if response := check_request(request, methods, accepts):
                        return response
                    if request.content_type in FORM_TYPES:
                        # The CSRF check parses the form on the event loop: 0.4 s for 2.5 MB. Parse it in a thread.
                        await sync_to_async(getattr)(request, "POST")
                    return await protected(request, *args, **kwargs)
                except FORM_ERRORS as error:
                    return await sync_to_async(form_error_response)(request, error)
                except DATABASE_UNAVAILABLE as error:
                    return database_error_response(request, error)

            return async_wrapper

        @csrf_exempt
        @wraps(view)
        def wrapper(request, *args, **kwargs):
            try:
                if response := check_request(request, methods, accepts):
                    return response
                return protected(request, *args, **kwargs)
            except FORM_ERRORS as error:
                return form_error_response(request, error)
            except DATABASE_UNAVAILABLE as error:
                return database_error_response(request, error)

        return wrapper

    return decorate


def check_request(request, methods, accepts):
    """Return the error response for a request that is not allowed, or None."""
    if not request.user.is_authenticated:
        if wants_json(request):
            return problem_response(
                401, "You are not signed in. Send the session cookie of a signed-in user."
            )
        return redirect_to_login(
            request.get_full_path() if request.method in ("GET", "HEAD") else request.path
        )
    if request.method not in methods:
        if wants_json(request):
            detail = f"Use {' or '.join(methods)}."
            return problem_response(405, detail, headers={"Allow": ", ".join(methods)})
        return HttpResponseNotAllowed(methods)
    if request.method == "POST" and request.content_type not in accepts:
        content_type = request.content_type or "a body without a content type"
        return problem_response(415, f"Send one of {', '.join(accepts)}, not {content_type}.")
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not (length.isascii() and length.isdigit()):
        raise BadRequest("Content-Length must be a number.")
    return body_too_large_response(request) if int(length[:19]) > MAX_BODY_BYTES else None


def form_error_response(request, error):
    if isinstance(error, RequestDataTooBig):
        return body_too_large_response(request)
    return error_response(request, 400, _("The form cannot be read"), _("The request is not a valid form."))


def body_too_large_response(request):
    return error_response(
        request, 413, _("The request is too large"), _("The request is too large. Send fewer URLs.")
    )


def error_response(request, status, heading, detail):
    if wants_json(request):
        return problem_response(status, detail)
    text = _("{problem} Go back: your browser still has what you typed.").format(problem=detail)
    context = {"heading": heading, "text": text}
    return render(request, "message.html", context, status=status)


def database_error_response(request, error):
    """Return 503. Its page is rendered without the request: the header would query the user and the bell's position."""
    logger.warning("The database is not available, answered 503: %s", error, exc_info=error)
    headers = {"Retry-After": "2"}
    if wants_json(request):
        detail = _("The database is not available. Try again in a moment.")
        return problem_response(503, detail, headers=headers)
    context = {
        "heading": _("The database is not available"),
        "text": _("Try again in a moment. Reports that are running in the background are not affected."),
    }
    return HttpResponse(render_to_string("message.html", context), status=503, headers=headers)


def csrf_failure(request, reason=""):
    """Answer 403 for CSRF_FAILURE_VIEW: the form was opened before the last sign-in, or on a foreign page."""
    if wants_json(request):
        detail = f"The CSRF check failed: {reason} Send the csrftoken cookie in the X-CSRFToken header."
        return problem_response(403, detail)
    context = {
        "heading": _("This form is out of date"),
        "text": _(
            "You have signed in or out since it was opened, or cookies are disabled. "
            "Go back, reload the page, and send it again."
        ),
    }
    return render(request, "message.html", context, status=403)


def get_own_report(request, pk):
    """Return a report of the user. Another user's report is a 404, as one that does not exist."""
    if not str(pk).isdecimal() or len(str(pk)) > len(str(MAX_ID)) or int(pk) > MAX_ID:
        raise Http404
    return get_object_or_404(Report.objects.defer("urls"), pk=pk, owner=request.user)
