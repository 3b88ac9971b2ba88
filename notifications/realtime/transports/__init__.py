"""The ways to a client. Each is a subscriber of the hub.

consumers, websocket, incoming  the WebSocket: handshake, flow control, frames of clients
sse                             Server-Sent Events
poll                            long polls
feeds                           both, of what clients follow beside the stream of their user
"""
