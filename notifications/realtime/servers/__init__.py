"""What the app knows of Daphne and uvicorn beyond ASGI.

Everything here is optional: without it the server's own way is used.

An adapter for another server has up to four parts:

- a writer, ``writer_of(send)``: a function that writes an encoded frame to the socket at once, or None;
- limits: bound headers and bodies (``request_limits``) and WebSocket frames (``websocket_frames``);
- the shutdown: close the hub before the server closes connections (``call_before_shutdown``);
- a check at the start that the names it uses exist and behave as expected, or one line in the log (``fallbacks``).

``asgi.py`` installs limits and shutdown, ``transports/consumers.py`` asks for a writer.

daphne, daphne_protocols, daphne_writer  Daphne: shutdown, limits, writer
uvicorn, uvicorn_http, uvicorn_websocket, uvicorn_writer  the same for uvicorn
request_limits, websocket_frames, overload, fallbacks  what both use
"""
