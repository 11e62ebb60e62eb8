"""MCPRemoteEndpoint, so far of type direct: judged, not deployed; its url is published when every check passes.

Story of one reconcile: look up the group, auth config, tool config, namesakes and the gateways' reports in the cache;
learn from Secrets and the CA bundle's ConfigMap what must be known; decide phase, url and conditions (`decide`); write
the status once, if it differs. Direct endpoints create nothing and need no finalizer. Type proxy is refused with
ProxyModeNotSupported until it exists.
"""

from controllers.mcpremoteendpoint.controller import NAME, RULES, setup

__all__ = ["NAME", "RULES", "setup"]
