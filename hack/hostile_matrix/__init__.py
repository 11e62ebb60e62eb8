"""Drive every limit of the gateway at ten times its value, and say what a bystander notices.

Starts the gateway as users start it, two servers behind it and, from another loopback address, a client that calls a
tool of one of them all the time. Then each limit is driven, with calls of the other server: one that has 2,000 calls to
answer lets its callers wait whatever the gateway does, and that is not what is measured. Only loopback is used.

The gateway has a core for itself where there are several; all others share another one. Whoever drives the limit, and
the server that is driven, yield to the bystander and its server (nice 10), and the idle figures are taken beside a
neighbour that is as busy and has nothing to do with the gateway: what the bystander waits for beyond that is the
gateway's doing, not the scheduler's. The same client asks for `/ping`, too, which the gateway answers alone: that shows
how long it looked after nobody else.
"""
