"""The pages on which users read notifications, and what the bell in other pages shows. They work without JavaScript.

pages, forms   the inbox, the page of one notification and that of a job; forms, which change notifications
query          what their URLs say: which list is shown, and what a form has changed
lists, rows    what they list, and what is shown of each notification and group
actions        what a notification offers to do, and what was done of it
timeline       what happened to a notification
categories     what notifications are about, as the project declares it
bell           what ``{% notifications %}`` renders
client_files   where pages find the scripts and style sheets of the browser client
"""

from typing import TYPE_CHECKING

from notifications.lazy_names import export_lazily

if TYPE_CHECKING:
    from notifications.inbox.categories import ALERTS as ALERTS
    from notifications.jobs.users import filter_active as filter_active
    from notifications.jobs.users import has_holders as has_holders
    from notifications.jobs.users import has_user_field as has_user_field
    from notifications.jobs.users import holders as holders
    from notifications.jobs.users import is_member as is_member
    from notifications.jobs.users import name_of as name_of
    from notifications.jobs.users import read_recipient as read_recipient
    from notifications.jobs.users import require_permission as require_permission
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "notifications.inbox.categories": "ALERTS",
            "notifications.jobs.users": (
                "filter_active has_holders has_user_field holders is_member name_of "
                "read_recipient require_permission"
            ),
        },
    )
