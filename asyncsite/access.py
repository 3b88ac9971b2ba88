"""Who may ask, and how: one decorator for the views of signed-in people, sync and async."""

import logging
from functools import wraps
from inspect import iscoroutinefunction

from asgiref.sync import sync_to_async
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import HttpResponse, HttpResponseNotAllowed, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from asyncsite.problems import problem, wants_json

logger = logging.getLogger("asyncsite")
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")

#: Bytes of a body that is begun to be read. A file that is somewhat too big still gets the form back.
BODY = 16 * 1024 * 1024
#: What Django raises for a form that cannot be read.
UNREADABLE = (MultiPartParserError, SuspiciousOperation, BadRequest, UnreadablePostError)


def signed_in(*methods, accepts=FORMS):
    """A view for people who are signed in.

    Checked in this order: signed in (a page goes to the sign-in and comes back, a program gets 401), the method (405),
    the type of a posted body (415), its size (413), CSRF (403). For that the CSRF check is put off, not left out.
    """

    def decorate(view):
        protected = csrf_protect(view)

        if iscoroutinefunction(view):

            @csrf_exempt
            @wraps(view)
            async def asynchronous(request, *args, **kwargs):
                try:
                    # Found here, with await, so that nothing below looks for it with a query on the event loop.
                    request.user = await request.auser()
                    if refusal := refuse(request, methods, accepts):
                        return refusal
                    if request.content_type in FORMS:
                        # The CSRF check reads it for its token, on the event loop: 2.5 MB of it take 0.4 s.
                        await sync_to_async(getattr)(request, "POST")
                    return await protected(request, *args, **kwargs)
                except UNREADABLE as error:
                    return await sync_to_async(unreadable)(request, error)
                except (OperationalError, InterfaceError) as error:
                    return away(request, error)

            return asynchronous

        @csrf_exempt
        @wraps(view)
        def synchronous(request, *args, **kwargs):
            try:
                if refusal := refuse(request, methods, accepts):
                    return refusal
                return protected(request, *args, **kwargs)
            except UNREADABLE as error:
                return unreadable(request, error)
            except (OperationalError, InterfaceError) as error:
                return away(request, error)

        return synchronous

    return decorate


def refuse(request, methods, accepts):
    """The answer to whoever may not go on; None for everybody else."""
    if not request.user.is_authenticated:
        if wants_json(request):
            return problem(401, "Sign in first: this needs the session cookie of a signed-in user.")
        return redirect_to_login(
            request.get_full_path() if request.method in ("GET", "HEAD") else request.path
        )
    if request.method not in methods:
        if wants_json(request):
            return problem(405, f"Use {' or '.join(methods)} here.", headers={"Allow": ", ".join(methods)})
        return HttpResponseNotAllowed(methods)
    if request.method == "POST" and request.content_type not in accepts:
        return problem(
            415, f"Send one of {', '.join(accepts)}, not {request.content_type or 'an unnamed type'}."
        )
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not (length.isascii() and length.isdigit()):
        raise BadRequest("Content-Length is no number.")
    return too_big(request) if int(length[:19]) > BODY else None


def unreadable(request, error):
    if isinstance(error, RequestDataTooBig):
        return too_big(request)
    return sent_back(request, 400, "This form cannot be read", "What was sent is no form that can be read.")


def too_big(request):
    detail = "What was sent is larger than this site reads at once. Send fewer URLs."
    return sent_back(request, 413, "Too much at once", detail)


def sent_back(request, status, heading, detail):
    if wants_json(request):
        return problem(status, detail)
    context = {"heading": heading, "text": f"{detail} Go back: your browser still has what you typed."}
    return render(request, "message.html", context, status=status)


def away(request, error):
    """The database cannot be asked. Plain text for people: a page's frame would ask it again."""
    logger.warning("503 is answered, because the database refused: %s", error, exc_info=error)
    words = "The database cannot be asked now. Try again in a moment."
    if wants_json(request):
        return problem(503, words, headers={"Retry-After": "2"})
    return HttpResponse(words, status=503, content_type="text/plain", headers={"Retry-After": "2"})


def csrf_failure(request, reason=""):
    """What CSRF_FAILURE_VIEW names: a form that was opened before the last sign-in, or a foreign page."""
    if wants_json(request):
        return problem(
            403, f"The CSRF check failed: {reason} Send the csrftoken cookie in the X-CSRFToken header."
        )
    context = {
        "heading": "This form is out of date",
        "text": "You have signed in or out since it was opened, or cookies are off. "
        "Go back, reload the page, and send it again.",
    }
    return render(request, "message.html", context, status=403)
