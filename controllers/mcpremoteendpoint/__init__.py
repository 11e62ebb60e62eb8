"""MCPRemoteEndpoint: a remote server, reached directly or through a proxy of its own.

Story of one reconcile: look up the group, auth config, tool config, namesakes and the gateways' reports in the cache;
learn from Secrets and ConfigMaps what must be known; make all checks (`decide.judge`); of type proxy, write its objects
when every check passes (`controllers.shared.proxy`); conclude phase, url and conditions
(`decide.conclude`); write the status once, if it differs. Neither type needs a finalizer: direct endpoints create
nothing, and what a proxy owns goes with it.
"""

from controllers.mcpremoteendpoint.controller import NAME, RULES, setup

__all__ = ["NAME", "RULES", "setup"]
