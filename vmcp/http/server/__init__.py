"""The web server that clients talk to.

`door` says who may connect, `protocol` reads a connection by a `parser`, `cycle` is one request and its answer, `sweep`
ends what takes too long, and `asgi` is what an application uses of all that.
"""
