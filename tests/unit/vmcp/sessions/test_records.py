"""The record of a session, and the form in which it is kept."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.sessions.record import FORMAT, RecordError, SessionRecord, decode_record, encode_record

RECORD = SessionRecord(
    id="id", owner="https://issuer\0ann", version="2025-11-25", capabilities=b"{}", info=None, expires_at=2e9
)

texts = st.text(max_size=30)
records = st.builds(
    SessionRecord,
    id=texts,
    owner=texts,
    version=texts,
    capabilities=st.binary(max_size=50),
    info=st.none() | st.binary(max_size=50),
    expires_at=st.floats(allow_nan=False),
    level=st.none() | texts,
    subscriptions=st.lists(texts, max_size=4).map(tuple),
)


@given(records)
def test_a_record_reads_back_as_it_was_kept(record):
    assert decode_record(encode_record(record)) == record


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda data: bytes((FORMAT,)) + data))
def test_bytes_that_are_no_record_are_refused_and_nothing_else_happens(data):
    try:
        found = decode_record(data)
    except RecordError:
        return
    assert isinstance(found, SessionRecord)


@given(records, st.data())
def test_a_record_that_was_cut_off_is_refused(record, data):
    kept = encode_record(record)
    with pytest.raises(RecordError):
        decode_record(kept[: data.draw(st.integers(0, len(kept) - 1))])


def test_a_record_of_a_newer_version_with_another_field_can_be_read():
    newer = msgspec.msgpack.encode({**msgspec.structs.asdict(RECORD), "added": 1})
    assert decode_record(bytes((FORMAT,)) + newer) == RECORD


def test_a_record_of_another_format_is_refused():
    with pytest.raises(RecordError, match="unknown format"):
        decode_record(bytes((FORMAT + 1,)) + encode_record(RECORD)[1:])


def test_the_usual_record_is_small():
    declared = b'{"roots":{"listChanged":true},"sampling":{},"elicitation":{"form":{},"url":{}}}'
    usual = msgspec.structs.replace(
        RECORD, id="x" * 150, capabilities=declared, info=b'{"name":"client","version":"1.0.0"}', level="info"
    )
    for number in range(20):
        usual = usual.with_subscription(f"https://files.example.com/documents/{number}")
    assert len(encode_record(usual)) < 2048


def test_subscriptions_are_a_set():
    twice = RECORD.with_subscription("b:1").with_subscription("a:1").with_subscription("b:1")
    assert twice.subscriptions == ("a:1", "b:1")
    assert twice.without_subscription("a:1").without_subscription("c:1").subscriptions == ("b:1",)
    assert RECORD.subscriptions == ()
