"""From the members of a group to the backends of a gateway, or the reason why not. Pure: no IO, no clock.

Both programs that turn members into backends import this: the operator, which writes them into a configuration, and the
gateway that watches its group itself. Nothing of it is written a second time.

    member = read_member(kind, meta, raw)        # an object of any of the four kinds, in one shape
    members = standing.look(objects, read)       # the same for a group, from look to look
    chosen = choose(members, gateway)            # usable ones, and the others with their reasons
    backend = backend_of(member, place, names)   # URL, transport, CA bundle, headers, metadata
    strategy = strategy_for(member, ...)         # outgoing authentication
    sources = member_sources(member, gateway)    # the variables that it needs

A member that cannot be used costs itself only. Whoever feeds this keeps a member as it stood until it `is_settled`
again: a URL and credentials of two generations never meet.
"""

from membership.auth import (
    Failure,
    References,
    Resolution,
    is_judged,
    judge_auth_config,
    references_of,
    strategies_for,
    strategy_for,
)
from membership.backend import (
    EnvName,
    Place,
    backend_of,
    ca_volume,
    has_ca,
    header_forward,
    header_input,
    manifest_input,
)
from membership.choose import Chosen, GatewayTraits, Material, choose, member_sources
from membership.judge import Skipped, judge_member, unique_names
from membership.member import Member, MemberMeta, MemberType, SecretHeader, is_settled, read_member
from membership.standing import Standing, disowned, is_claimed
from membership.tools import with_tool_config, with_tools_of_members

__all__ = [
    "Chosen",
    "EnvName",
    "Failure",
    "GatewayTraits",
    "Material",
    "Member",
    "MemberMeta",
    "MemberType",
    "Place",
    "References",
    "Resolution",
    "SecretHeader",
    "Skipped",
    "Standing",
    "backend_of",
    "ca_volume",
    "choose",
    "disowned",
    "has_ca",
    "header_forward",
    "header_input",
    "is_claimed",
    "is_judged",
    "is_settled",
    "judge_auth_config",
    "judge_member",
    "manifest_input",
    "member_sources",
    "read_member",
    "references_of",
    "strategies_for",
    "strategy_for",
    "unique_names",
    "with_tool_config",
    "with_tools_of_members",
]
