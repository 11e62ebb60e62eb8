"""MCPGroup: lists its members and says that it is there.

Story of one reconcile: take off the finalizer that another operator put on it, look its members of all kinds up by
index, decide the status (`decide`), and write it when the members have come to rest. Woken by the group itself and by
members that come, go or change their group.
"""

from controllers.mcpgroup.controller import NAME, RULES, setup

__all__ = ["NAME", "RULES", "setup"]
