"""Pages on which staff write a notification to many users, follow how it is sent, and withdraw it.

composing, forms  write one: the form, a preview, a confirmation
page              the list of broadcasts, and the page of one
links             what the pages of notifications show of broadcasts
"""

from notifications.contrib.broadcasts.admin.links import WithBroadcasts
from notifications.contrib.broadcasts.admin.page import BroadcastAdmin

__all__ = ["BroadcastAdmin", "WithBroadcasts"]
