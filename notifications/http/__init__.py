"""What answers requests, but for the pages of notifications (``inbox/``).

api_views, tag_views, stream_views, openapi      the API
health_views                                     what probes read
page_views                                       what pages show of a job, and its forms
acceptance, idempotency, job_responses           ``accepted()``, and responses that show a job or wait for its end
access, authentication                           who may call a view
negotiation, parsing, paging                     what a request asks for, and pages of long lists
waiting_requests, feeds                          requests that wait, and that follow what grows
"""

from typing import TYPE_CHECKING

from notifications.lazy_names import export_lazily

if TYPE_CHECKING:
    from notifications.http.access import BACKGROUND_MARK as BACKGROUND_MARK
    from notifications.http.access import api_view as api_view
    from notifications.http.access import background_view as background_view
    from notifications.http.access import exempt_from_project as exempt_from_project
    from notifications.http.access import is_signed_in as is_signed_in
    from notifications.http.access import json_response as json_response
    from notifications.http.access import page_view as page_view
    from notifications.http.access import signed_view as signed_view
    from notifications.http.feeds import Feed as Feed
    from notifications.http.negotiation import is_not_modified as is_not_modified
    from notifications.http.paging import paginate as paginate
    from notifications.http.parsing import describe_browser as describe_browser
    from notifications.http.parsing import parse_integer as parse_integer
    from notifications.http.parsing import parse_json_object as parse_json_object
    from notifications.http.parsing import read_body as read_body
    from notifications.paths import bind_to_user as bind_to_user
    from notifications.problems import Problem as Problem
    from notifications.problems import exceptions_as_problems as exceptions_as_problems
    from notifications.problems import prevent_caching as prevent_caching
    from notifications.serializers import encode_json as encode_json
    from notifications.serializers import read_data as read_data
    from notifications.templatetags.notifications import script_element as script_element
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "notifications.http.access": (
                "BACKGROUND_MARK api_view background_view exempt_from_project "
                "is_signed_in json_response page_view signed_view"
            ),
            "notifications.http.feeds": "Feed",
            "notifications.http.negotiation": "is_not_modified",
            "notifications.http.paging": "paginate",
            "notifications.http.parsing": "describe_browser parse_integer parse_json_object read_body",
            "notifications.paths": "bind_to_user",
            "notifications.problems": "Problem exceptions_as_problems prevent_caching",
            "notifications.serializers": "encode_json read_data",
            "notifications.templatetags.notifications": "script_element",
        },
    )
