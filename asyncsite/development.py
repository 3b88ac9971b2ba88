"""The ASGI application of a development server."""

from asyncsite.upstream import application as upstream


def with_upstream(application):
    """Return the application with the sample upstream under /upstream/.

    The upstream is outside Django, so that its slow and aborted responses do not pass through middleware.
    """

    async def route(scope, receive, send):
        if scope["type"] == "http" and scope["path"].startswith("/upstream/"):
            return await upstream(scope, receive, send)
        return await application(scope, receive, send)

    return route
