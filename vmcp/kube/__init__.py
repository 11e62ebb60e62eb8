"""What a gateway learns from the API server: its own ConfigMap, and in discovered mode the members of its group.

`identity` says whether there is an API server to ask, `connection` follows it with the runtime's informers, and `named`
follows single objects by name. `document` is the gateway's own ConfigMap, `look` takes one look at the group, `compose`
makes a configuration of it, and `source` feeds the reload. Nothing is judged here: what becomes a backend, and why
something does not, `membership` decides.

All but `identity` is imported only by gateways that have an API server, and what concerns the group only by those that
find their backends themselves.
"""
