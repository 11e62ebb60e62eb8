"""Variables and volumes of one Deployment never share a name, and volume names are DNS labels."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from api.contract.identifiers import (
    EnvInput,
    SecretPurpose,
    assign_env_names,
    colliding_inputs,
    normalize,
    secret_identifier,
)
from api.contract.volumes import VolumeInput, VolumePurpose, assign_volume_names

NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,6}[a-z0-9])?", fullmatch=True)
LONG_NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,80}[a-z0-9])?(\.[a-z0-9]{1,20}){0,3}", fullmatch=True)
HEADERS = st.from_regex(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,6}", fullmatch=True)
ENV_INPUTS = st.one_of(
    st.builds(lambda h, o: EnvInput(SecretPurpose.HEADER_FORWARD, (h, o)), HEADERS, NAMES),
    st.builds(
        lambda p, n: EnvInput(p, (n,)),
        st.sampled_from([p for p in SecretPurpose if p is not SecretPurpose.HEADER_FORWARD]),
        NAMES,
    ),
)
VOLUME_INPUTS = st.builds(VolumeInput, st.sampled_from(VolumePurpose), st.one_of(NAMES, LONG_NAMES))
ENV_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@given(st.lists(ENV_INPUTS, max_size=30))
def test_no_two_inputs_share_a_variable(inputs: list[EnvInput]):
    names = assign_env_names(inputs)
    assert len(set(names.values())) == len(set(inputs))
    assert all(ENV_NAME.fullmatch(name) for name in names.values())


@given(st.lists(ENV_INPUTS, max_size=20), st.randoms())
def test_variables_do_not_depend_on_the_order(inputs: list[EnvInput], random):
    shuffled = list(inputs)
    random.shuffle(shuffled)
    assert assign_env_names(inputs) == assign_env_names(shuffled)


@given(st.lists(ENV_INPUTS, max_size=20))
def test_an_input_without_collision_keeps_the_stock_name(inputs: list[EnvInput]):
    names = assign_env_names(inputs)
    refused = colliding_inputs(inputs)
    taken = {names[item] for item in refused}
    for item in set(inputs) - refused:
        assert names[item] == item.natural_name or item.natural_name in taken


@given(st.lists(VOLUME_INPUTS, max_size=30))
def test_no_two_inputs_share_a_volume_and_every_name_is_a_dns_label(inputs: list[VolumeInput]):
    names = assign_volume_names(inputs)
    assert len(set(names.values())) == len(set(inputs))
    assert all(LABEL.fullmatch(name) for name in names.values()), names
    assert len({item.directory for item in names}) == len(names)


def test_dash_and_dot_collide_and_both_get_a_suffix():
    inputs = [EnvInput(SecretPurpose.TOKEN_EXCHANGE, (name,)) for name in ("a-b", "a.b", "c")]
    names = assign_env_names(inputs)
    stock = "TOOLHIVE_TOKEN_EXCHANGE_CLIENT_SECRET_A_B"
    assert names[inputs[2]] == "TOOLHIVE_TOKEN_EXCHANGE_CLIENT_SECRET_C"
    assert all(re.fullmatch(f"{stock}_[0-9A-F]{{8}}", names[item]) for item in inputs[:2])


def test_header_and_owner_cannot_be_mixed_up():
    first = EnvInput(SecretPurpose.HEADER_FORWARD, ("X-A", "b"))
    second = EnvInput(SecretPurpose.HEADER_FORWARD, ("X", "a-b"))
    assert first.natural_name == second.natural_name
    assert len(set(assign_env_names([first, second]).values())) == 2


def test_a_name_that_equals_another_inputs_suffixed_name_is_moved_too():
    pair = [EnvInput(SecretPurpose.TOKEN_EXCHANGE, (name,)) for name in ("a-b", "a.b")]
    suffixed = assign_env_names(pair)[pair[0]].removeprefix(SecretPurpose.TOKEN_EXCHANGE.value)
    third = EnvInput(SecretPurpose.TOKEN_EXCHANGE, (suffixed.lower().replace("_", "-"),))
    assert len(set(assign_env_names([*pair, third]).values())) == 3


def test_stock_names_are_the_stock_operators():
    header = EnvInput(SecretPurpose.HEADER_FORWARD, ("X-Api-Key", "git-hub"))
    assert header.natural_name == "TOOLHIVE_SECRET_HEADER_FORWARD_X_API_KEY_GIT_HUB"
    assert secret_identifier(header.natural_name) == "HEADER_FORWARD_X_API_KEY_GIT_HUB"
    assert EnvInput(SecretPurpose.HEADER_MANIFEST, ("git-hub",)).natural_name == "TOOLHIVE_HEADER_FORWARD_GIT_HUB"
    assert normalize("a-b.cß") == "A_B_C_"


def test_volume_names_are_the_stock_operators():
    def name(purpose: VolumePurpose, text: str) -> str:
        return assign_volume_names([VolumeInput(purpose, text)])[VolumeInput(purpose, text)]

    assert name(VolumePurpose.BACKEND_CA, "docs") == "ca-bundle-docs"
    assert name(VolumePurpose.BACKEND_CA, "x" * 53) == "ca-bundle-" + "x" * 53
    long = name(VolumePurpose.BACKEND_CA, "x" * 43 + "-" + "y" * 20)
    assert re.fullmatch(r"ca-bundle-x{43}-[0-9a-f]{8}", long)
    assert name(VolumePurpose.OIDC_CA, "z" * 48) == "oidc-ca-bundle-" + "z" * 48
    assert VolumeInput(VolumePurpose.BACKEND_CA, "docs").path("ca.crt") == "/etc/toolhive/ca-bundles/docs/ca.crt"
    assert VolumeInput(VolumePurpose.OIDC_CA, "pki").path("root.pem") == "/config/certs/pki/root.pem"
    assert VolumeInput(VolumePurpose.TELEMETRY_CA, "pki").path("ca.crt") == "/config/certs/otel/pki/ca.crt"
