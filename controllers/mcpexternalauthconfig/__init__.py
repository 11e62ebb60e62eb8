"""MCPExternalAuthConfig: judged, and held while anything refers to it.

Story of one reconcile: hold the object with a finalizer; decide whether its spec can be used (`decide`, with the rules
of `auth_server` and the gateway's own rules for strategies); write the status once, if it differs. A deletion waits,
with DeletionBlocked, for objects of every kind that can refer to it; their going or changing wakes it.
"""

from controllers.mcpexternalauthconfig.controller import NAME, RULES, setup

__all__ = ["NAME", "RULES", "setup"]
