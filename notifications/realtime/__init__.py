"""From a ring to a frame on a client's connection.

doorbell/                    rings of this process and of others
hub                          marks users whose streams have changed, and knows all clients of this process
connections                  their users, whose positions show what followed a lost ring; the row of the process
fanout, reader, frames       reads the changes once, encodes them once, and hands them to each subscriber
subscriber, transports/      a client: WebSockets, event streams, long polls
auth/                        who may connect, and who has signed out
close_reasons                why a connection is closed, and the limits of clients
servers/                     Daphne and uvicorn
probe                        tries whether the project's ASGI application leads to the WebSocket
pool                         threads for queries, and the clock of periodic work
freed_memory                 gives the memory of closed connections back to the system
"""

from typing import TYPE_CHECKING

from notifications.lazy_names import export_lazily

if TYPE_CHECKING:
    from notifications.http.access import check_request as check_request
    from notifications.http.authentication import make_check as make_check
    from notifications.http.stream_views import set_event_headers as set_event_headers
    from notifications.http.waiting_requests import WaitSlot as WaitSlot
    from notifications.http.waiting_requests import require_wait_slot as require_wait_slot
    from notifications.jobs.claiming.backlog import WaitWarning as WaitWarning
    from notifications.jobs.claiming.backlog import waiting_jobs as waiting_jobs
    from notifications.jobs.claiming.waiting_queues import find_waiting_queues as find_waiting_queues
    from notifications.jobs.claiming.waiting_queues import waiting_condition as waiting_condition
    from notifications.realtime.auth.sessions import authenticating_session_key as authenticating_session_key
    from notifications.realtime.close_reasons import SIGNED_OUT as SIGNED_OUT
    from notifications.realtime.close_reasons import Bye as Bye
    from notifications.realtime.connections import live_servers as live_servers
    from notifications.realtime.doorbell import flush as flush
    from notifications.realtime.doorbell import listen as listen
    from notifications.realtime.frames import Frame as Frame
    from notifications.realtime.hub import Hub as Hub
    from notifications.realtime.hub import current_hub as current_hub
    from notifications.realtime.transports.poll import WaitingRequest as WaitingRequest
    from notifications.realtime.transports.sse import EventStream as EventStream
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "notifications.http.access": "check_request",
            "notifications.http.authentication": "make_check",
            "notifications.http.stream_views": "set_event_headers",
            "notifications.http.waiting_requests": "WaitSlot require_wait_slot",
            "notifications.jobs.claiming.backlog": "WaitWarning waiting_jobs",
            "notifications.jobs.claiming.waiting_queues": "find_waiting_queues waiting_condition",
            "notifications.realtime.auth.sessions": "authenticating_session_key",
            "notifications.realtime.close_reasons": "Bye SIGNED_OUT",
            "notifications.realtime.connections": "live_servers",
            "notifications.realtime.doorbell": "flush listen",
            "notifications.realtime.frames": "Frame",
            "notifications.realtime.hub": "Hub current_hub",
            "notifications.realtime.transports.poll": "WaitingRequest",
            "notifications.realtime.transports.sse": "EventStream",
        },
    )
