"""What is learned of Secrets and ConfigMaps: once per version, never a value, and never forgotten for a hiccup."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import gc
from typing import Any

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from controllers.shared.content import Contents, Facts, Unknown, facts_of, has_certificate
from controllers.shared.hashkey import FIELD, RECHECK, HashKey
from controllers.shared.resources import CONFIG_MAP, SECRET
from runtime import ForbiddenError, Key, NotFoundError, Record, TransportError
from runtime.wire.decode import decode_record

KEY = Key("ns", "s")
SENTINEL = "value-that-must-not-be-kept"


def record(version: int, uid: str = "u", resource=SECRET, **body: Any) -> Record:
    meta = {"name": KEY.name, "namespace": KEY.namespace, "uid": uid, "resourceVersion": str(version)}
    return decode_record(resource, orjson.dumps({"apiVersion": "v1", "kind": resource.kind, "metadata": meta} | body))


def secret(version: int, *keys: str, uid: str = "u") -> Record:
    return record(version, uid, data={key: base64.b64encode(SENTINEL.encode()).decode() for key in keys})


class Server:
    """Answers reads as scripted, and plays the metadata-only cache in front of it."""

    def __init__(self, known: Record | None, *answers: Record | Exception) -> None:
        self.known, self.answers, self.reads = known, list(answers), 0
        self.cache = self
        self.gate = asyncio.Event()
        self.gate.set()

    def get(self, resource: Any, key: Key) -> Record | None:
        return self.known

    async def get_live(self, resource: Any, key: Key) -> Record:
        self.reads += 1
        await self.gate.wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def contents(server: Server) -> Contents:
    return Contents(server, SECRET)  # type: ignore[arg-type]


async def test_an_object_is_read_once_per_version_however_many_ask() -> None:
    server = Server(secret(1), secret(1, "k"), secret(2))
    server.gate.clear()
    facts = contents(server)
    asking = [asyncio.create_task(facts.look(KEY)) for _ in range(1000)]
    await asyncio.sleep(0)
    server.gate.set()
    assert {look.content for look in await asyncio.gather(*asking)} == {Facts(frozenset({"k"}))}
    assert (await facts.look(KEY)).content == Facts(frozenset({"k"}))
    assert server.reads == 1
    server.known = secret(2)
    assert (await facts.look(KEY)).content == Facts()
    assert server.reads == 2


async def test_a_read_that_brings_a_newer_version_than_the_cache_knows_counts_for_it() -> None:
    server = Server(secret(1), secret(2, "k"))
    facts = contents(server)
    await facts.look(KEY)
    server.known = secret(2)
    assert (await facts.look(KEY)).content == Facts(frozenset({"k"}))
    assert server.reads == 1


@pytest.mark.parametrize("error", [ForbiddenError(403, "Forbidden", "no"), TransportError("gone")])
async def test_a_passing_error_keeps_the_last_facts_and_is_reported(error: Exception) -> None:
    server = Server(secret(1), secret(1, "k"), error, secret(2))
    facts = contents(server)
    await facts.look(KEY)
    server.known = secret(2)
    look = await facts.look(KEY)
    assert (look.content, look.error) == (Facts(frozenset({"k"})), error)
    assert (await facts.look(KEY)).content == Facts()


async def test_a_passing_error_on_the_first_read_is_no_verdict() -> None:
    error = TransportError("gone")
    look = await contents(Server(secret(1), error)).look(KEY)
    assert (look.content, look.error) == (Unknown.UNREAD, error)


async def test_facts_of_an_earlier_object_of_the_name_do_not_count() -> None:
    server = Server(secret(1), secret(1, "k"), TransportError("gone"))
    facts = contents(server)
    await facts.look(KEY)
    server.known = secret(5, uid="another")
    assert (await facts.look(KEY)).content is Unknown.UNREAD


async def test_only_not_found_makes_an_object_missing() -> None:
    server = Server(secret(1), secret(1, "k"), NotFoundError(404, "NotFound", "no"))
    facts = contents(server)
    await facts.look(KEY)
    server.known = secret(2)
    assert (await facts.look(KEY)).content is Unknown.MISSING
    server.known = None
    assert (await facts.look(KEY)).content is Unknown.MISSING
    assert (await facts.look(Key("ns", ""))).content is Unknown.MISSING


async def test_a_waiter_that_is_cancelled_does_not_take_the_answer_from_others() -> None:
    server = Server(secret(1), secret(1, "k"))
    server.gate.clear()
    facts = contents(server)
    first, second = asyncio.create_task(facts.look(KEY)), asyncio.create_task(facts.look(KEY))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    server.gate.set()
    assert (await second).content == Facts(frozenset({"k"}))


async def test_no_value_stays_in_memory() -> None:
    server = Server(secret(1), secret(1, "k"))
    facts = contents(server)
    await facts.look(KEY)
    server.answers.clear()
    gc.collect()
    encoded = base64.b64encode(SENTINEL.encode()).decode()
    assert encoded not in repr(facts.__dict__)


def test_an_empty_value_of_a_secret_is_no_key() -> None:
    assert facts_of(record(1, data={"a": "", "b": "eA=="})).keys == {"b"}
    assert facts_of(record(1)).keys == frozenset()


def certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    built = built.serial_number(1).not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    return built.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def test_a_certificate_is_recognised_in_text_and_binary_data() -> None:
    pem = certificate()
    data = {"text": pem.decode(), "chain": (pem + pem).decode(), "other": "x", "broken": pem.decode()[:-60]}
    binary = {"binary": base64.b64encode(pem).decode(), "der": base64.b64encode(b"\x30\x82").decode()}
    facts = facts_of(record(1, resource=CONFIG_MAP, data=data, binaryData=binary))
    assert facts.keys == {"text", "chain", "other", "broken", "binary", "der"}
    assert facts.certificates == {"text", "chain", "binary"}


def test_a_bundle_with_one_unreadable_certificate_is_no_bundle() -> None:
    pem = certificate()
    assert not has_certificate(pem + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert has_certificate(b"# a comment\n" + pem)


def test_a_secrets_values_are_judged_as_the_gateway_judges_them_and_not_kept() -> None:
    values = {
        "good": "token",
        "echo": "token\n",
        "empty": "\n",
        "broken": f"{SENTINEL}\n\n",
        "padded": f" {SENTINEL}",
        "chinese": f"{SENTINEL}\u4e2d",
    }
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    facts = facts_of(record(1, data=data))
    assert facts.keys == values.keys() - {"empty"}
    assert facts.unfit.keys() == {"broken"}
    assert facts.unfit_headers.keys() == {"broken", "padded", "chinese"}
    assert SENTINEL not in repr(facts)


async def test_a_key_for_hashes_that_may_be_read_now_hashes_what_was_read_without_it() -> None:
    """At most one question in `RECHECK` seconds, and passing failures of it change nothing."""
    now = 0.0
    stored = record(7, data={FIELD: base64.b64encode(b"k" * 32).decode()})
    refused = ForbiddenError(403, "Forbidden", "no")
    server = Server(secret(1), secret(1, "k"), refused, refused, TransportError("gone"), stored, secret(1, "k"))
    facts = contents(server)
    facts.hash_key = HashKey(server, "system", clock=lambda: now)  # type: ignore[arg-type]
    for reads in (2, 3, 4):
        for _ in range(3):
            look = await facts.look(KEY)
            assert (look.content, look.error) == (Facts(frozenset({"k"})), None)
            assert server.reads == reads
        assert not facts.hash_key.expected
        now += RECHECK
    look = await facts.look(KEY)
    assert isinstance(look.content, Facts)
    assert set(look.content.digests) == {"k"}
    assert facts.hash_key.expected
    assert await facts.look(KEY) == look
    assert server.reads == 6


@pytest.mark.parametrize("stored", ["", "no base64", base64.b64encode(b"short").decode()])
async def test_a_damaged_key_for_hashes_is_read_again_when_its_secret_changed(stored: str) -> None:
    server = Server(record(1), record(1, data={FIELD: stored}), record(2, data={FIELD: "AA" * 21 + "A="}))
    key = HashKey(server, "system", clock=lambda: 0.0)  # type: ignore[arg-type]
    assert await key.get() is None
    assert await key.get() is None
    assert server.reads == 1
    server.known = record(2)
    assert await key.get() == bytes(32)
    assert await key.get() == bytes(32)
    assert server.reads == 2


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (base64.b64encode(bytes(range(32))), ""),
        (base64.b64encode(bytes(range(32))) + b"\n", ""),
        (b"", "holds 0 bytes; at least 32 are needed"),
        (b"c2hvcnQ=", "holds 5 bytes; at least 32 are needed"),
        (b"\xff not base64", "is not base64"),
        (base64.b64encode(bytes(32)), "is all zero"),
    ],
)
def test_of_a_value_it_is_known_whether_it_can_seal_sessions(value: bytes, problem: str) -> None:
    facts = facts_of(record(1, data={"k": base64.b64encode(value).decode()}))
    assert dict(facts.sessions) == {"k": problem}
