"""From a ring to a frame on a client's connection.

doorbell/                    rings of this process and of others
hub                          marks users whose streams have changed, and knows all clients of this process
connections                  their users, whose positions show what followed a lost ring; the row of the process
fanout, reader, frames       reads the changes once, encodes them once, and hands them to each subscriber
subscriber, transports/      a client: WebSockets, event streams, long polls
feeds                        what clients follow beside the stream of their user, such as the output of a job
auth/                        who may connect, and who has signed out
close_reasons                why a connection is closed, and the limits of clients
servers/                     Daphne and uvicorn
checks                       how the project is served
probe                        tries whether the project's ASGI application leads to the WebSocket
pool                         threads for queries, and the clock of periodic work
freed_memory                 gives the memory of closed connections back to the system
"""

from typing import TYPE_CHECKING

from notifications.lazy_names import export_lazily

if TYPE_CHECKING:
    from notifications.jobs.claiming.unserved import WaitingQueues as WaitingQueues
    from notifications.jobs.claiming.unserved import waiting_jobs as waiting_jobs
    from notifications.realtime.doorbell import flush as flush
    from notifications.realtime.doorbell import listen as listen
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "notifications.jobs.claiming.unserved": "WaitingQueues waiting_jobs",
            "notifications.realtime.doorbell": "flush listen",
        },
    )
