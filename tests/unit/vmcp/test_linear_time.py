"""What comes from outside takes time linear in its size: each parser, matcher and redactor, beside inputs that hurt.

Measured in CPU time of this thread, so a busy machine does not count. What is not done at once is compared with a
quarter of the input: linear work takes 4 times as long, quadratic work 16 times.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import inspect
import json
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from re import _constants as codes  # type: ignore[attr-defined]  # the only description of a pattern that there is
from re import _parser as parser  # type: ignore[attr-defined]
from types import ModuleType
from typing import Any

import pytest

import api.contract
import vmcp
from api.contract.duration import Duration
from api.contract.errors import ConfigErrors
from api.contract.gotemplate import referenced_outputs, template_problem
from api.contract.headers import header_name_problem, header_value_problem
from api.contract.section import resolve, whole_number
from api.contract.urls import has_http_url_shape, validate_remote_url
from api.contract.yaml_reader import read_yaml
from vmcp.audit.interface import AuditEvent, AuditResult, EventType
from vmcp.audit.line import LineMaker, LineSettings, bare_url
from vmcp.auth.tokens import BadCredential, bearer_token
from vmcp.backend.modern.mirrored import mirror_of, mirrored_headers
from vmcp.core.items import member, replace_members
from vmcp.core.naming import NameClaim, name_prompts, name_tools
from vmcp.core.requests import read_target, with_name
from vmcp.core.rules import AggregationRules, ConflictPolicy
from vmcp.core.seal import Purpose, Sealer
from vmcp.core.snapshot import Route
from vmcp.core.state import request_digest
from vmcp.core.templates import compile_template
from vmcp.front.envelope import check_mirrored
from vmcp.front.guard import check_depth
from vmcp.front.listen import read_filter
from vmcp.http.server.asgi import Refusal
from vmcp.observe.redact import Redactor, is_secret_key
from vmcp.trace import parse as parse_trace
from vmcp.wire.jsonrpc import fields, loads_str, parse
from vmcp.wire.mending import read_batch, read_message
from vmcp.wire.protocol import check_header, decode_value, encode_value
from vmcp.wire.sse import SseParser, encode

REFUSALS = (Refusal, BadCredential, ConfigErrors, ValueError)
"""How an input may end."""
SIZE = 16_384
"""Characters, or members: quadratic work of this size takes a tenth of a second even where a step takes half a
nanosecond."""
HARMLESS = 0.005
"""CPU seconds for `SIZE` that only linear work keeps within."""
CLEAR = 0.1
"""CPU seconds that no disturbance falsifies much."""
GROWTH = 4
MOST = 8.0
"""Times as long, for `GROWTH` times as much; quadratic would be 16."""


def seconds(work: Callable[[Any], Any], value: Any, *, runs: int) -> float:
    """CPU seconds of this thread, the best of some runs: what disturbs only makes them longer."""
    best = float("inf")
    gc.disable()
    try:
        for _ in range(runs):
            start = time.thread_time()
            with contextlib.suppress(*REFUSALS):
                work(value)
            best = min(best, time.thread_time() - start)
            if best > CLEAR:
                break
    finally:
        gc.enable()
    return best


def assert_linear(work: Callable[[Any], Any], make: Callable[[int], Any], size: int = SIZE) -> None:
    """`make(n)` is an input of about n characters or members."""
    value = make(size)
    taken = seconds(work, value, runs=1)
    if taken < HARMLESS:
        return
    quarter = make(size // GROWTH)
    before = float("inf")
    for _ in range(12):  # others share the machine and its caches: only the best run says what the work costs
        taken, before = min(taken, seconds(work, value, runs=2)), min(before, seconds(work, quarter, runs=4))
        if taken < max(HARMLESS, MOST * before):
            return
    pytest.fail(f"{size} takes {taken:.4f} s, a quarter of it {before:.4f} s: {str(value)[:60]!r}")


# --- functions, each with the inputs that hurt its kind ---


def texts(*pieces: str) -> Iterator[Callable[[int], str]]:
    """A text is a piece many times over, between what may stand at its two ends."""
    for piece in pieces:
        for before, after in AROUND:
            yield partial(lambda n, b, p, a: b + p * (n // len(p)) + a, b=before, p=piece, a=after)


AROUND = (("", ""), ('"', "!"), ("[" * 101 + '"', "\n"), ("{", "}"))
PIECES = (
    "a", "aaaaaaaa.", "1", "0", "-", ".", "/", ":", '"', '\\"', "\\", "\\\\", "[", "[[],", '{"a":', "{}", "{a}", "{{",
    "}}", "{a", '"[",', " ", "\t", "\n", "\r", "\r\n", "\n\n", "\u00e9", "e\u0301\u0316", "\u00ad", "%41", "&token=",
    "?token=a", "bearer ", "Bearer aaaa", "basic\t", "eyJaaaaa", "eyJaaaaa-", "eyJaaaaa.", "eyJaaaaa.aaaaa", "://",
    "://a", "://a:", "://a:b@", "=", ";", ",", "data:", "data: a\n", "id: a\n\n", "x: a\n", "1h", "1.5s", "1e",
    "max-age=", "=?base64?", "YWFh", "password", "_", "/../", "a/", "'", "`", "$", "(", "()", "|",
    ".steps.a.output.b", "\u0301\u0316",
)  # fmt: skip


def raw(function: Callable[[bytes], Any]) -> Callable[[str], Any]:
    return lambda text: function(text.encode())


def lines(function: Callable[[LineMaker, AuditEvent], Any]) -> Callable[[str], Any]:
    maker = LineMaker(LineSettings(include_request_data=True), Redactor(["s3cr3t-value"]))

    def work(text: str) -> Any:
        return function(
            maker,
            AuditEvent(
                EventType.TOOL_CALL,
                AuditResult.SUCCESS,
                method=text,
                name=text,
                request_id=text,
                error=text,
                user_agent=text,
            ),
        )

    return work


def streamed(text: str) -> None:
    data = text.encode()
    parsed = SseParser()
    for place in range(0, len(data), 4096):
        parsed.feed(data[place : place + 4096])


TEXT_FUNCTIONS: dict[str, Callable[[str], Any]] = {
    "check_depth": raw(lambda body: check_depth(body, 100)),
    "parse": raw(parse),
    "read_message": raw(read_message),
    "read_message, half of a pair": raw(lambda body: read_message(b'["\\ud83d",NaN,"' + body)),
    "read_batch": raw(lambda body: read_batch(b"[" + body)),
    "fields": raw(fields),
    "loads_str": raw(loads_str),
    "read_target": raw(lambda body: read_target(body, "name")),
    "with_name": raw(lambda body: with_name(body, "a", "b")),
    "read_filter": raw(read_filter),
    "request_digest": raw(lambda body: request_digest("a", "b", b'["' + body.hex().encode() + b'"]')),
    "redact": Redactor(["s3cr3t-value", "aaaaaaaaaaab"]).text,
    "redact a start": lambda text: Redactor(["s3cr3t-value"]).text(text, 256),
    "redact a value": lambda text: Redactor().value({text: [text]}),
    "is_secret_key": is_secret_key,
    "audit line": lines(lambda maker, event: maker.line(event, 0.0)),
    "bare_url": bare_url,
    "event stream": streamed,
    "event": raw(encode),
    "compile_template": compile_template,
    "match a template": lambda text: (
        compile_template("a{b}/{c}a{+d}") and compile_template("{a}" + "a{b}" * 9).matches(text)
    ),  # type: ignore[union-attr]
    "check_header": lambda text: check_header("a", text),
    "header name": lambda text: check_header(text, "a"),
    "encode_value": encode_value,
    "decode_value": lambda text: decode_value(f"=?base64?{text}?="),
    "unseal": lambda text: Sealer().open(Purpose.CURSOR, text),
    "bearer_token": lambda text: bearer_token([(b"authorization", f"Bearer {text}".encode())]),
    "trace context": lambda text: parse_trace({"traceparent": text, "tracestate": text, "baggage": text}),
    "mirror_of": raw(lambda body: mirror_of(b'{"inputSchema":{"x-mcp-header":' + body)),
    "mirrored_headers": raw(lambda body: mirrored_headers(((("a",), "b"),), body)),
    "member": raw(lambda body: member(body, "a")),
    "replace_members": raw(lambda body: replace_members(body, {"a": 1})),
    "remote URL": lambda text: validate_remote_url.__wrapped__(f"https://{text}"),
    "remote URL, path": lambda text: validate_remote_url.__wrapped__(f"https://a.example/{text}"),
    "URL shape": lambda text: has_http_url_shape(f"http://{text}"),
    "duration": Duration.parse,
    "whole_number": whole_number,
    "resolve": resolve,
    "template_problem": template_problem,
    "template action": lambda text: template_problem("{{" + text + "}}"),
    "referenced_outputs": referenced_outputs,
    "header_name_problem": header_name_problem,
    "header_value_problem": header_value_problem,
    "read_yaml": read_yaml,
}


@pytest.mark.parametrize("name", TEXT_FUNCTIONS)
def test_a_text_of_four_times_the_size_takes_about_four_times_as_long(name):
    for make in texts(*PIECES):
        assert_linear(TEXT_FUNCTIONS[name], make)


def equal_names(n: int) -> list[NameClaim]:
    return [NameClaim(f"b{place}", "t", "t") for place in range(n)]


def named_with(strategy: ConflictPolicy) -> Callable[[list[NameClaim]], Any]:
    return lambda claims: (
        name_tools(claims, AggregationRules(strategy=strategy)),
        name_prompts(claims, AggregationRules(strategy=strategy)),
    )


def many_merges(n: int) -> str:
    return "a:\n  <<: [" + ",".join(f"{{k{place}: 1}}" for place in range(n)) + "]\n"


def mirroring_schema(n: int) -> bytes:
    properties = {f"p{place}": {"type": "string", "x-mcp-header": f"h{place}"} for place in range(n)}
    return json.dumps({"inputSchema": {"properties": properties}}).encode()


def mirrored_call(n: int) -> tuple[list[tuple[bytes, bytes]], bytes, Route]:
    headers = [(f"mcp-param-h{place}".encode(), b"a") for place in range(n)]
    arguments = json.dumps({"arguments": {f"p{place}": "a" for place in range(n)}}).encode()
    mirror = tuple(((f"p{place}",), f"Mcp-Param-h{place}") for place in range(n))
    return headers, arguments, Route("t", "b", "t", b"{}", mirror=mirror)


def fed_in_single_bytes(data: bytes) -> None:
    reader = SseParser()
    for place in range(len(data)):
        reader.feed(data[place : place + 1])


def matching(n: int) -> tuple[Any, str]:
    return compile_template("/{a}" * n), "/a" * min(n, 4000) + "?"


def with_many_secrets(n: int) -> tuple[Redactor, str]:
    return Redactor(f"{place:x}secret" for place in range(500)), "abcdef0123" * n


STRUCTURES: dict[str, tuple[Callable[[Any], Any], Callable[[int], Any]]] = {
    "merged mappings": (read_yaml, many_merges),
    "keys": (read_yaml, lambda n: "".join(f"k{place}: 1\n" for place in range(n))),
    "members": (fields, lambda n: json.dumps({f"k{place}": 1 for place in range(n)}).encode()),
    "expressions of a template": (compile_template, lambda n: "{a}" * n),
    "parts of a template": (compile_template, lambda n: "/{a}" * n),
    "parts of a template and of a URI": (lambda pair: pair[0].matches(pair[1]), matching),
    "mirrored properties of a schema": (mirror_of, mirroring_schema),
    "mirrored headers of a call": (lambda call: check_mirrored(*call), mirrored_call),
    "equal names, prefixed on conflict": (named_with(ConflictPolicy.PREFIX_ON_CONFLICT), equal_names),
    "equal names, by priority": (named_with(ConflictPolicy.PRIORITY), equal_names),
    "equal names, manual": (named_with(ConflictPolicy.MANUAL), equal_names),
    "names of one backend": (
        named_with(ConflictPolicy.PREFIX),
        lambda n: [NameClaim("b", f"t{place}", f"t{place}") for place in range(n)],
    ),
    "values to redact": (Redactor(["s3cr3t-value"]).value, lambda n: [{"token": "a", "b": "eyJaaaaaa"}] * n),
    "text to redact, many secrets known": (lambda pair: pair[0].text(pair[1]), with_many_secrets),
    "bytes of an event that come one by one": (fed_in_single_bytes, lambda n: b"data: " + b"a" * n),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_four_times_the_members_take_about_four_times_as_long(name):
    work, make = STRUCTURES[name]
    assert_linear(work, make, SIZE // 2)


# --- every expression in the code, known here or not ---


def modules(package: ModuleType) -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def patterns() -> dict[str, re.Pattern[Any]]:
    found: dict[str, re.Pattern[Any]] = {}
    for package in (api.contract, vmcp):
        for module in modules(package):
            stack: list[tuple[str, Any]] = [
                (f"{module.__name__}.{name}", value) for name, value in vars(module).items()
            ]
            while stack:
                name, value = stack.pop()
                if isinstance(value, re.Pattern):
                    found.setdefault(name, value)
                elif isinstance(value, tuple | list) and len(value) < 50:
                    stack += [(f"{name}[{place}]", item) for place, item in enumerate(value)]
    return found


def searches(name: str) -> bool:
    """Whether the code looks for the pattern anywhere in a text, not only at its start."""
    module, _, variable = name.rpartition(".")
    used = set(re.findall(rf"\b{variable}\.(\w+)\(", inspect.getsource(importlib.import_module(module))))
    return not used or bool(used - {"match", "fullmatch"})


def literals(tree: Any) -> Iterator[str]:
    """The runs of characters and one character of each set that a pattern asks for."""
    run = ""
    for op, argument in tree:
        if op is codes.LITERAL:
            run += chr(argument)
            continue
        if run:
            yield run
            run = ""
        if op is codes.IN:
            yield from (
                chr(value[0] if kind is codes.RANGE else value)
                for kind, value in argument
                if kind in (codes.RANGE, codes.LITERAL)
            )
        elif op is codes.BRANCH:
            for branch in argument[1]:
                yield from literals(branch)
        elif op in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            yield from literals(argument[2])
        elif op is codes.SUBPATTERN:
            yield from literals(argument[3])
    if run:
        yield run


@pytest.mark.parametrize("name", sorted(patterns()))
def test_no_expression_takes_more_than_linear_time_for_its_own_characters_repeated(name):
    pattern = patterns()[name]
    binary = isinstance(pattern.pattern, bytes)
    source = pattern.pattern.decode("latin-1") if binary else pattern.pattern
    words = list(
        dict.fromkeys(literals(parser.parse(source, pattern.flags & ~re.UNICODE if binary else pattern.flags)))
    )
    pumps = list(
        dict.fromkeys(
            [
                *words[:12],
                *("".join(words[:count]) for count in (2, 3, 4)),
                *(word * 6 for word in words[:6]),
                *(f"{a}{b * 6}" for a in words[:4] for b in words[:8]),
            ]
        )
    )

    searched = searches(name)

    def work(text: str) -> None:
        value = text.encode("latin-1", "replace") if binary else text
        pattern.fullmatch(value)
        if searched:
            pattern.sub(value[:0], value)

    for pump in pumps:
        for before, after in (("", "\0"), (words[0] if words else "", "")):
            assert_linear(work, partial(lambda n, b, p, a: b + p * (n // len(p)) + a, b=before, p=pump, a=after))


@pytest.mark.parametrize(
    ("bad", "before", "piece", "size"),
    [
        (re.compile(r"\beyJ[a-zA-Z-]{5,}\."), "", "eyJaaaaa-", 8192),
        (re.compile(r'"(?:[^"\\]|\\.)*+"'), '"', '\\"', 4096),
        (re.compile(r"a+b"), "", "a", 4096),
    ],
)
def test_the_measure_finds_expressions_that_go_back_over_what_they_read(bad, before, piece, size):
    with pytest.raises(pytest.fail.Exception):
        assert_linear(lambda text: bad.sub("", text), lambda n: before + piece * (n // len(piece)), size)
