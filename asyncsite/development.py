"""What only a development server has."""

from asyncsite.upstream import application as upstream


def with_upstream(application):
    """The same application, with the sample upstream under /upstream/.

    The upstream stands beside Django, so a slow or cut answer of it never passes through middleware.
    """

    async def route(scope, receive, send):
        if scope["type"] == "http" and scope["path"].startswith("/upstream/"):
            return await upstream(scope, receive, send)
        return await application(scope, receive, send)

    return route
