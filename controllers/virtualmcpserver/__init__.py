"""VirtualMCPServer: a gateway in front of the members of a group.

Story of one reconcile, each stage a function that takes the value of the one before:

    observe    -> Snapshot      the group and its members by index, everything that the spec names
    resolve    -> Parts         what each reference comes to: a verdict, a section, variables, volumes, what it needs
    observe    -> Learned       the Secrets and ConfigMaps that the parts name
    choose     -> Choice        the members that are backends, and the configuration that they make
    render     -> Objects       every generated object
    conclude   -> Decision      conditions, phase, fields of the status
    publish                     writes what differs, the Deployment after a burst of changes is over
    report                      writes the status once

`resolve` to `conclude` are pure; `decide` lists the last three. Each kind that a gateway refers to is resolved in the
module that is named after it. Woken by the gateway itself, its group and members, everything that its last decision
looked up (`controllers.shared.dependencies`), its pods, and what it owns. What makes pods, of whatever kind, is in
`controllers.shared.workload`.
"""

from controllers.virtualmcpserver.controller import NAME, RULES, setup

__all__ = ["NAME", "RULES", "setup"]
