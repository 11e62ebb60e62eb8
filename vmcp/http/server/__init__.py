"""The web server that clients talk to.

`protocol` reads a connection, `cycle` is one request and its answer, `asgi` is what an application uses of both.
"""
