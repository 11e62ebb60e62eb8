"""Cedar: who may see and use what, and what can never be said to a policy from outside."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.auth.interface import ANONYMOUS, Principal
from vmcp.authz.cedar import AllowAll, CedarAuthorizer, CedarSettings, PolicyError
from vmcp.authz.interface import DENIED_MESSAGE, Action, PolicyItem
from vmcp.authz.profile import profile

CALL, READ, PROMPT = Action.CALL_TOOL, Action.READ_RESOURCE, Action.GET_PROMPT


def cedar(*policies: str, entities: object = (), **options: str) -> CedarAuthorizer:
    return CedarAuthorizer(CedarSettings("gw", policies, json.dumps(list(entities)), **options))


def who(
    subject: str = "alice", *, groups: tuple[str, ...] = (), roles: tuple[str, ...] = (), **claims: object
) -> Principal:
    return Principal(subject, "https://idp", {"sub": subject, **claims}, "token", groups, roles)


def test_nothing_is_allowed_unless_a_policy_says_so():
    authorizer = cedar('permit(principal, action == Action::"call_tool", resource == Tool::"a");')
    assert authorizer.allows(who(), CALL, "a")
    assert not authorizer.allows(who(), CALL, "b")
    assert not authorizer.allows(who(), READ, "a")
    assert not authorizer.allows(who(), PROMPT, "a")


def test_forbid_wins():
    authorizer = cedar("permit(principal, action, resource);", 'forbid(principal, action, resource == Tool::"x");')
    assert authorizer.allows(who(), CALL, "y")
    assert not authorizer.allows(who(), CALL, "x")


def test_each_action_has_its_resource_type_and_the_gateway_is_the_parent():
    authorizer = cedar(
        'permit(principal, action == Action::"read_resource", resource == Resource::"file:///a b?x=1#é");',
        'permit(principal, action == Action::"get_prompt", resource in MCP::"gw") when { resource is Prompt };',
        'permit(principal, action == Action::"call_tool", resource in MCP::"other");',
    )
    assert authorizer.allows(who(), READ, "file:///a b?x=1#é")
    assert not authorizer.allows(who(), READ, "file:///other")
    assert authorizer.allows(who(), PROMPT, "p")
    assert not authorizer.allows(who(), CALL, "t")


def test_claims_are_attributes_of_the_client_and_of_the_context():
    authorizer = cedar(
        'permit(principal, action, resource == Tool::"p") '
        'when { principal has claim_team && principal.claim_team == "x" };',
        'permit(principal, action, resource == Tool::"c") when { context has claim_level && context.claim_level > 2 };',
        'permit(principal, action, resource == Tool::"s") '
        'when { context has claim_tags && context.claim_tags.contains("b") };',
    )
    assert authorizer.allows(who(team="x"), CALL, "p")
    assert not authorizer.allows(who(team="y"), CALL, "p")
    assert authorizer.allows(who(level=3), CALL, "c")
    assert not authorizer.allows(who(level=2), CALL, "c")
    assert authorizer.allows(who(tags=["a", "b"]), CALL, "s")


def test_groups_and_roles_are_parents_and_configured_groups_may_nest():
    authorizer = cedar(
        'permit(principal in THVGroup::"staff", action, resource);',
        entities=[
            {"uid": {"type": "THVGroup", "id": "dev"}, "attrs": {}, "parents": [{"type": "THVGroup", "id": "staff"}]},
            {"uid": {"type": "THVGroup", "id": "staff"}, "attrs": {}, "parents": []},
        ],
    )
    assert authorizer.allows(who(groups=("dev",)), CALL, "t")
    assert authorizer.allows(who(roles=("staff",)), CALL, "t")
    assert not authorizer.allows(who(groups=("sales",)), CALL, "t")


def test_the_group_entity_type_can_be_chosen():
    authorizer = cedar('permit(principal in Team::"dev", action, resource);', group_entity_type="Team")
    assert authorizer.allows(who(groups=("dev",)), CALL, "t")


def test_configured_entities_of_tools_and_clients_are_merged_and_win():
    authorizer = cedar(
        "permit(principal, action, resource) when { resource has readOnlyHint && resource.readOnlyHint };",
        'permit(principal in Team::"ops", action, resource);',
        entities=[
            {"uid": {"type": "Tool", "id": "liar"}, "attrs": {"readOnlyHint": False}, "parents": []},
            {"uid": {"type": "Client", "id": "bob"}, "attrs": {}, "parents": [{"type": "Team", "id": "ops"}]},
        ],
    )
    assert authorizer.allows(who(), CALL, "t", None, {"readOnlyHint": True})
    assert not authorizer.allows(who(), CALL, "t", None, {"readOnlyHint": "true"})
    assert not authorizer.allows(who(), CALL, "liar", None, {"readOnlyHint": True})
    assert authorizer.allows(who("bob"), CALL, "liar")


def test_arguments_are_seen_where_a_policy_asks_for_them():
    authorizer = cedar(
        'permit(principal, action, resource) when { context has arg_city && context.arg_city == "Bern" };'
    )
    assert authorizer.allows(who(), CALL, "t", b'{"city":"Bern"}')
    assert not authorizer.allows(who(), CALL, "t", b'{"city":"Basel"}')
    assert not authorizer.allows(who(), CALL, "t", b"{}")
    assert not authorizer.allows(who(), CALL, "t", b"not json")
    assert not authorizer.allows(who(), CALL, "t", b"[1]")
    assert not authorizer.allows(who(), CALL, "t", b'{"city":"Bern","pad":"' + b"a" * 1_100_000 + b'"}')


def test_decisions_by_argument_are_never_taken_from_the_cache():
    authorizer = cedar("permit(principal, action, resource) when { resource has arg_n && resource.arg_n == 1 };")
    answers = [authorizer.allows(who(), CALL, "t", b'{"n":%d}' % number) for number in (1, 2, 1, 2)]
    assert answers == [True, False, True, False]


@pytest.mark.parametrize(
    "injected",
    [
        b'{"team":{"__entity":{"type":"THVGroup","id":"admins"}}}',
        b'{"team":{"a":{"__entity":{"type":"THVGroup","id":"admins"}}}}',
        b'{"team":{"__extn":{"fn":"ip","arg":"10.0.0.1"}}}',
    ],
)
def test_arguments_cannot_forge_entities_or_extension_values(injected):
    authorizer = cedar(
        'permit(principal, action, resource) when { context has arg_team && context.arg_team == THVGroup::"admins" };',
        "permit(principal, action, resource) when { context has arg_team && context.arg_team has a "
        '&& context.arg_team.a == THVGroup::"admins" };',
        'permit(principal, action, resource) when { context has arg_team && context.arg_team == ip("10.0.0.1") };',
    )
    assert not authorizer.allows(who(), CALL, "t", injected)


def test_arguments_cannot_pose_as_claims_hints_or_the_name():
    authorizer = cedar(
        "permit(principal, action, resource) when { context has claim_admin && context.claim_admin };",
        "permit(principal, action, resource) when { resource has readOnlyHint && resource.readOnlyHint };",
        'permit(principal, action, resource) when { resource.name == "open" && context has arg_x };',
    )
    assert not authorizer.allows(who(), CALL, "t", b'{"claim_admin":true,"readOnlyHint":true,"name":"open","x":1}')


def test_an_evaluation_error_denies_and_hides():
    authorizer = cedar(
        "permit(principal, action, resource);", "forbid(principal, action, resource) when { principal.claim_blocked };"
    )
    assert not authorizer.allows(who(), CALL, "t")
    assert authorizer.visible(who(), CALL, [PolicyItem("t")]) == [False]
    assert authorizer.allows(who(blocked=False), CALL, "t")


def test_lists_show_exactly_what_may_be_called():
    authorizer = cedar(
        "permit(principal, action, resource) when { resource has readOnlyHint && resource.readOnlyHint };",
        'permit(principal in THVGroup::"ops", action, resource);',
        'forbid(principal, action, resource == Tool::"never");',
    )
    items = [
        PolicyItem("r", {"readOnlyHint": True}),
        PolicyItem("w", {"readOnlyHint": False}),
        PolicyItem("none"),
        PolicyItem("never"),
    ]
    for principal in (who(), who(groups=("ops",)), ANONYMOUS):
        shown = authorizer.visible(principal, CALL, items)
        assert shown == [authorizer.allows(principal, CALL, item.name, None, item.annotations) for item in items]
        assert shown == cedar_fresh(authorizer, principal, items)
    assert authorizer.visible(who(), CALL, items) == [True, False, False, False]


def cedar_fresh(authorizer: CedarAuthorizer, principal: Principal, items: list[PolicyItem]) -> list[bool]:
    return [authorizer._decide(principal, CALL, item.name, {}, item.annotations) for item in items]  # noqa: SLF001  how often the engine was asked shows nowhere else


def test_a_decision_is_made_once_per_caller_and_item(monkeypatch):
    authorizer = cedar("permit(principal, action, resource) when { principal.claim_a == 1 };")
    made = []
    decide = authorizer._decide  # noqa: SLF001  how often the engine was asked shows nowhere else
    monkeypatch.setattr(authorizer, "_decide", lambda *args: made.append(args[2]) or decide(*args))
    for number in range(5):
        # A refreshed token: other times and ids, the same claims that the policy looks at.
        assert authorizer.allows(who(a=1, exp=number, jti=str(number)), CALL, "t", b'{"x":1}')
    assert made == ["t"]
    assert not authorizer.allows(who(a=2), CALL, "t")
    assert not authorizer.allows(Principal("alice", "https://other", {"a": 2}), CALL, "t")
    assert made == ["t"] * 3


def test_callers_share_a_view_only_when_no_policy_can_tell_them_apart():
    authorizer = cedar("permit(principal, action, resource) when { principal.claim_team == 1 };")
    assert authorizer.view(who(team=1, exp=1)) == authorizer.view(who(team=1, exp=2))
    assert authorizer.view(who(team=1)) != authorizer.view(who(team=2))
    assert authorizer.view(who("a", team=1)) != authorizer.view(who("b", team=1))
    assert authorizer.view(who(groups=("a",))) != authorizer.view(who(groups=("b",)))


def test_decisions_are_bounded():
    settings = CedarSettings("gw", ("permit(principal, action, resource);",), "[]")
    authorizer = CedarAuthorizer(settings, max_decisions=10)
    assert authorizer.visible(who(), CALL, [PolicyItem(str(n)) for n in range(100)]) == [True] * 100
    assert len(authorizer._decisions) <= 10  # noqa: SLF001  how often the engine was asked shows nowhere else


@pytest.mark.parametrize(
    ("policies", "uses", "open_ended"),
    [
        ("permit(principal, action, resource);", False, False),
        ('permit(principal == Client::"a", action, resource == Tool::"t");', False, False),
        ('permit(principal, action, resource) when { principal in THVGroup::"x" };', False, False),
        ("permit(principal, action, resource) when { context.arg_x == 1 };", True, False),
        ('permit(principal, action, resource) when { resource["arg_x"] == 1 };', True, False),
        ("permit(principal, action, resource) when { context has arg_x };", True, False),
        (
            "permit(principal, action, resource) unless { if context.claim_a then context has arg_x else false };",
            True,
            False,
        ),
        ('permit(principal, action, resource) when { context == {"arg_x": 1} };', True, True),
        ("permit(principal, action, resource) when { [context].contains(context) };", True, True),
        ("permit(principal, action, resource) when { principal.claim_a.b.c == 1 };", False, False),
    ],
)
def test_what_policies_look_at_is_known(policies, uses, open_ended):
    found = profile(policies)
    assert found.uses_arguments is uses
    assert (found.attributes is None) is open_ended


@pytest.mark.parametrize(
    ("policies", "entities", "message"),
    [
        (("permit(principal, action, resource) when {",), "[]", "policies[0]"),
        (("permit(principal, action, resource);", "nonsense"), "[]", "policies[1]"),
        (("permit(principal == ?principal, action, resource);",), "[]", "templates"),
        (("permit(principal, action, resource);",), "{}", "entitiesJson"),
        (("permit(principal, action, resource);",), "[{}]", "entitiesJson"),
        (("permit(principal, action, resource);",), "[", "entitiesJson"),
    ],
)
def test_what_is_not_cedar_is_refused_with_its_place(policies, entities, message):
    with pytest.raises(PolicyError) as caught:
        CedarAuthorizer(CedarSettings("gw", policies, entities))
    assert message in str(caught.value)


def test_without_policies_everything_is_allowed():
    assert AllowAll().allows(ANONYMOUS, CALL, "x")
    assert AllowAll().visible(ANONYMOUS, CALL, [PolicyItem("x")]) == [True]
    assert AllowAll().view(ANONYMOUS) == AllowAll().view(who())


def test_no_denial_names_the_item():
    assert set(DENIED_MESSAGE) == set(Action)
    assert all("{" not in message for message in DENIED_MESSAGE.values())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(
    claims=st.dictionaries(st.text(max_size=8), JSON, max_size=5), name=st.text(max_size=20), sub=st.text(min_size=1)
)
def test_no_claim_subject_or_name_breaks_a_decision(claims, name, sub):
    authorizer = cedar("permit(principal, action, resource) unless { context == {} };")
    principal = Principal(sub, "i", {**claims, "sub": sub})
    assert authorizer.allows(principal, CALL, name)
    assert authorizer.visible(principal, CALL, [PolicyItem(name)]) == [True]


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    annotations=st.dictionaries(st.sampled_from(["readOnlyHint", "destructiveHint", "title"]), ANY_JSON, max_size=3),
    claims=st.dictionaries(st.sampled_from(["team", "level"]), ANY_JSON, max_size=2),
    name=st.text(st.characters(exclude_categories=()), max_size=8),
)
def test_no_annotation_claim_or_name_makes_a_decision_fail(annotations, claims, name):
    authorizer = cedar(
        "permit(principal, action, resource) when { resource has readOnlyHint && resource.readOnlyHint };",
        'permit(principal, action, resource == Tool::"good") when { !(principal has claim_team) };',
    )
    caller = who(**claims)
    alone = authorizer.allows(caller, CALL, name, b"{}", annotations)
    assert alone is authorizer.visible(caller, CALL, [PolicyItem(name, annotations)])[0]


@pytest.mark.parametrize("hint", [[], {}, "true", 1, None, 1.0, [True], {"a": 1}])
def test_a_hint_of_another_type_is_not_there_and_hides_nobody_else(hint):
    authorizer = cedar(
        'permit(principal, action == Action::"call_tool", resource) unless { resource has readOnlyHint };'
    )
    odd = PolicyItem("odd", {"readOnlyHint": hint})
    true = PolicyItem("true", {"readOnlyHint": True})
    assert authorizer.visible(who(), CALL, [odd, PolicyItem("plain"), true]) == [True, True, False]
    assert authorizer.allows(who(), CALL, "odd", None, {"readOnlyHint": hint})


def test_arguments_without_end_are_denied():
    authorizer = cedar("permit(principal, action, resource) when { context.arg_a == 1 };")
    assert not authorizer.allows(who(), CALL, "t", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
