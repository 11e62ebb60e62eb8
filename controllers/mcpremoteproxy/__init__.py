"""MCPRemoteProxy: a proxy in front of a remote server; deprecated, superseded by MCPRemoteEndpoint of type proxy.

Story of one reconcile: say that the kind is deprecated, once per generation; look up what the spec names
(`controllers.shared.proxy`), the group and namesakes; make all checks (`decide.judge`) in the words of ToolHive's
conditions; write the proxy's objects when every check passes; conclude phase, url and conditions (`decide.conclude`);
write the status once, if it differs. There is no finalizer: what a proxy owns goes with it.
"""

from controllers.mcpremoteproxy.controller import NAME, RULES, setup

__all__ = ["NAME", "RULES", "setup"]
