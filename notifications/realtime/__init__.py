"""From a ring to a frame on a client's connection.

doorbell/                    rings of this process and of others
hub                          marks users whose streams have changed, and knows all clients of this process
watched_users                their positions, by which the hub finds what followed a lost ring
fanout, reader, frames       reads the changes once, encodes them once, and hands them to each subscriber
subscriber, transports/      a client: WebSockets, event streams, long polls
auth/                        who may connect, and who has signed out
close_reasons                why a connection is closed, and the limits of clients
servers/                     Daphne and uvicorn
clock, pool, server_process  the periodic work, threads and row of a server process
asgi_types                   types
"""
