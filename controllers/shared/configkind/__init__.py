"""Kinds that only hold configuration for others: what each of them does besides judging its own spec.

Such an object is held by a finalizer and let go when nobody refers to it any more; meanwhile `DeletionBlocked` names
who does. Its status repeats a hash of the spec, by which those that use it see that it changed. A kind gives what is
its own (`ConfigKind`): who refers to it, its words, and one function that judges a spec:

    KIND = ConfigKind(resource=..., model=..., finalizer=..., users=..., judge=judge)

    def setup(manager, options):
        run(manager, NAME, KIND)
"""

from controllers.shared.configkind.decide import Announcement, ConfigDecision, Judged, Snapshot, decide, hash_in_status
from controllers.shared.configkind.keep import ConfigKind, Users, rules, run

__all__ = [
    "Announcement",
    "ConfigDecision",
    "ConfigKind",
    "Judged",
    "Snapshot",
    "Users",
    "decide",
    "hash_in_status",
    "rules",
    "run",
]
