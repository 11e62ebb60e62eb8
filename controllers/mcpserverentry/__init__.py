"""MCPServerEntry: a catalogue entry that is judged, not deployed.

Story of one reconcile: look up the group, the auth config and a namesake in the cache; learn from Secrets and the CA
bundle's ConfigMap what must be known (`controllers.shared.content`); decide phase and conditions (`decide`); write the
status once, if it differs. Woken by the entry itself, its group, auth config, Secrets, ConfigMap and namesake.
"""

from controllers.mcpserverentry.controller import NAME, RULES, setup

__all__ = ["NAME", "RULES", "setup"]
