"""Middleware for AUTOCOMMIT = False, which commits at the end of each request."""

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.db import connections
from django.utils.decorators import sync_and_async_middleware


@sync_and_async_middleware
def commit_at_the_end(get_response):
    if iscoroutinefunction(get_response):

        async def middleware(request):
            response = await get_response(request)
            await sync_to_async(commit_all)()
            return response

    else:

        def middleware(request):
            response = get_response(request)
            commit_all()
            return response

    return middleware


def commit_all():
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.commit()
