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
    from notifications.http.stream_views import event_response as event_response
    from notifications.http.stream_views import long_poll as long_poll
    from notifications.http.stream_views import read_follower as read_follower
    from notifications.jobs.claiming.backlog import waiting_jobs as waiting_jobs
    from notifications.jobs.claiming.waiting_queues import WaitingQueues as WaitingQueues
    from notifications.realtime.doorbell import flush as flush
    from notifications.realtime.doorbell import listen as listen
    from notifications.realtime.subscriber import Follower as Follower
    from notifications.realtime.transports.poll import WaitingRequest as WaitingRequest
    from notifications.realtime.transports.sse import EventStream as EventStream
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "notifications.http.stream_views": "event_response long_poll read_follower",
            "notifications.jobs.claiming.backlog": "waiting_jobs",
            "notifications.jobs.claiming.waiting_queues": "WaitingQueues",
            "notifications.realtime.doorbell": "flush listen",
            "notifications.realtime.subscriber": "Follower",
            "notifications.realtime.transports.poll": "WaitingRequest",
            "notifications.realtime.transports.sse": "EventStream",
        },
    )
