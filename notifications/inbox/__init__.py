"""The pages on which users read notifications, and what the bell in other pages shows. They work without JavaScript.

inbox_page     the inbox as one value, which templates ask
pages          the page of one notification and that of a job
query, rows    which list a URL names, and what is shown of each notification and group
forms          what changes notifications
changes        what a form has changed, and what undoes it
saved_views    lists with filters that a user has saved as views
messages       what messages, such as e-mails, show of notifications
actions        what a notification offers to do, and what was done of it
confirming     the page that asks to confirm that
timeline       what happened to a notification
categories     what notifications are about, as the project declares it
bell           what ``{% notifications %}`` renders
client_files   where pages find the scripts and style sheets of the browser client
"""

from typing import TYPE_CHECKING

from notifications.lazy_names import export_lazily

if TYPE_CHECKING:
    from notifications.inbox.categories import ALERTS as ALERTS
    from notifications.inbox.categories import load_categories as load_categories
    from notifications.inbox.forms import return_to_inbox as return_to_inbox
    from notifications.inbox.messages import read_message_rows as read_message_rows
    from notifications.inbox.timeline import read_timeline as read_timeline
    from notifications.jobs.users import active_users as active_users
    from notifications.jobs.users import has_holders as has_holders
    from notifications.jobs.users import read_recipient as read_recipient
    from notifications.jobs.users import require_permission as require_permission
    from notifications.jobs.users import user_field as user_field
    from notifications.paths import absolute as absolute
    from notifications.paths import job_path as job_path
    from notifications.streams.listing import read_numbered_position as read_numbered_position
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "notifications.inbox.categories": "ALERTS load_categories",
            "notifications.inbox.forms": "return_to_inbox",
            "notifications.inbox.messages": "read_message_rows",
            "notifications.inbox.timeline": "read_timeline",
            "notifications.jobs.users": (
                "active_users has_holders read_recipient require_permission user_field"
            ),
            "notifications.paths": "absolute job_path",
            "notifications.streams.listing": "read_numbered_position",
        },
    )
