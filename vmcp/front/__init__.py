"""The side towards clients: one ASGI application, two protocol eras on one endpoint, and the service endpoints.

No web framework: on the way of a call every microsecond is ours. `app` routes, `legacy` and `modern` speak the two
eras, `exchange` answers one POST as JSON or, as soon as something must be said before the answer, as an event stream.
"""
