"""VirtualMCPServer: a gateway in front of the members of a group.

Story of one reconcile: look up the group and its members by index, everything that is referenced by name, and the pods
(`observe`); decide which members are backends, the configuration, every generated object and the status (`decide`, a
pure function); apply what differs, the Deployment after a burst of changes is over (`publish`); write the status once
(`report`). Woken by the gateway itself, its group and members, everything that its last decision looked up
(`dependencies`), its pods, and what it owns.

`members` says which members are backends, `auth` which strategy each gets, `references` resolves the shared objects,
`config` builds the configuration, `environment` variables and volumes, `deployment` and `objects` the rest.
"""

from controllers.virtualmcpserver.controller import NAME, RULES, setup

__all__ = ["NAME", "RULES", "setup"]
