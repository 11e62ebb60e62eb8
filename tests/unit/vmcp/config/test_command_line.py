"""`python -m vmcp`: what a user, or a pipeline, gets to see."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.unit.vmcp.config.configs import text
from vmcp.__main__ import main
from vmcp.config.options import parse_networks, parse_opaque_tokens, parse_origins, parse_resolve


@pytest.fixture(autouse=True)
def no_global_logging(monkeypatch):
    monkeypatch.setattr("vmcp.observe.logs.configure", lambda **_: None)


def test_a_valid_file_is_said_to_be_valid(tmp_path, capsys):
    path = tmp_path / "c.yaml"
    path.write_bytes(text())
    assert main(["validate", "--config", str(path)], {}) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{path}: valid: gw, 2 backends, digest ")


def test_mistakes_are_listed_and_exit_with_3(tmp_path, capsys):
    path = tmp_path / "c.yaml"
    path.write_bytes(text(nme="x", backends=[{"name": "a"}]))
    assert main(["validate", "-c", str(path)], {}) == 3
    err = capsys.readouterr().err
    assert "invalid configuration" in err
    assert 'nme: unknown key; did you mean "name"?' in err


def test_warnings_do_not_make_a_file_invalid(tmp_path, capsys):
    path = tmp_path / "c.yaml"
    path.write_bytes(text())
    assert main(["validate", "-c", str(path)], {"TOOLHIVE_HEADER_FORWARD_X": "{}"}) == 0
    assert "warning: TOOLHIVE_HEADER_FORWARD_X belongs to no backend" in capsys.readouterr().err


def test_a_file_that_is_not_there_exits_with_3(tmp_path, capsys):
    assert main(["serve", "-c", str(tmp_path / "no")], {}) == 3
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["serve"],
        ["fly"],
        ["serve", "-c", "{}", "--port", "x"],
        ["serve", "-c", "{}", "--port", "70000"],
        ["serve", "-c", "{}", "--resolve", "host:443"],
        ["serve", "-c", "{}", "--resolve", "host:443:not-an-address"],
        ["serve", "-c", "{}", "--allow-origin", "*"],
        ["serve", "-c", "{}", "--allow-origin", "null"],
        ["serve", "-c", "{}", "--allow-network", "127.0.0.1/8"],
        ["serve", "-c", "{}", "--allow-network", "localhost"],
        ["serve", "-c", "{}", "--opaque-tokens", "none"],
    ],
)
def test_a_wrong_command_line_exits_with_2(arguments, tmp_path, capsys):
    path = tmp_path / "c.yaml"
    path.write_bytes(text())
    with pytest.raises(SystemExit) as caught:
        main([part.replace("{}", str(path)) for part in arguments], {})
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_resolve_has_curl_s_meaning():
    found = parse_resolve(["Api.Example:443:127.0.0.1", "six.example:8443:[::1]", "six.example:80:::1"])
    assert found == {("api.example", 443): "127.0.0.1", ("six.example", 8443): "::1", ("six.example", 80): "::1"}


def test_origins_are_read_into_the_form_in_which_browsers_send_them():
    given = ["HTTPS://App.Example:443/", " http://[::1]:80", "http://localhost:6274", "", " "]
    assert parse_origins(given) == {"https://app.example", "http://[::1]", "http://localhost:6274"}


@pytest.mark.parametrize(
    "value",
    ["*", "null", "app.example", "ftp://a.example", "https://", "https://*.example", "https://a.example/path",
     "https://a.example?q", "https://a.example#f", "https://user@a.example", "https://a.example:x", "https://[::1"],
)  # fmt: skip
def test_what_is_no_origin_is_refused_by_name(value):
    with pytest.raises(ValueError, match="is not an origin") as caught:
        parse_origins([value])
    assert value in str(caught.value)


def test_networks_are_single_addresses_or_cidr_blocks():
    assert parse_networks(["127.0.0.0/8", " ::1 ", "", " "]) == ("127.0.0.0/8", "::1/128")


def test_opaque_tokens_are_judged_by_an_endpoint_or_by_nobody():
    given = ["https://a.example/token?tenant=x=introspection=none", " https://b.example/t=https://c.example/i?v=2", " "]
    assert parse_opaque_tokens(given) == {
        "https://a.example/token?tenant=x=introspection": "none",
        "https://b.example/t": "https://c.example/i?v=2",
    }


@pytest.mark.parametrize(
    "values",
    [["none"], ["https://a.example/t"], ["https://a.example/t="], ["https://a.example/t=NONE"], ["a.example/t=none"],
     ["https://a.example/t=c.example/i"], ["https:///t=none"], ["https://a.example/t=https://"],
     ["https://a.example/t=https://gw:hush@c.example/i"], ["https://gw:hush@a.example/t=none"],
     ["https://a.example/t=none", "https://a.example/t=https://c.example/i"]],
)  # fmt: skip
def test_what_says_nothing_about_opaque_tokens_is_refused(values):
    with pytest.raises(
        ValueError, match=r"is not TOKEN_URL=|the (token|introspection) URL must|is named twice"
    ) as caught:
        parse_opaque_tokens(values)
    assert "hush" not in str(caught.value)
    assert "headerForward" not in str(caught.value)


def test_a_wrong_variable_is_a_mistake_in_the_command_line_too(tmp_path, capsys):
    path = tmp_path / "c.yaml"
    path.write_bytes(text())
    with pytest.raises(SystemExit) as caught:
        main(["serve", "-c", str(path)], {"VMCP_ALLOWED_ORIGINS": "https://a.example,*"})
    assert caught.value.code == 2
    assert "VMCP_ALLOWED_ORIGINS: '*' is not an origin" in capsys.readouterr().err


def test_the_program_runs_as_a_module_and_leaves_no_traceback(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xff\xfe not yaml {")
    done = subprocess.run(
        [sys.executable, "-m", "vmcp", "validate", "--config", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "invalid configuration" in done.stderr


@pytest.mark.parametrize(("length", "code"), [("64", 0), ("32", 0), ("31", 3), ("-1", 3), ("many", 3), ("9" * 5000, 3)])
def test_the_most_characters_of_a_name_are_a_number_that_leaves_something_to_read(tmp_path, capsys, length, code):
    path = tmp_path / "c.yaml"
    path.write_bytes(text())
    assert main(["validate", "--config", str(path), f"--max-name-length={length}"], {}) == code
    assert main(["validate", "--config", str(path)], {"VMCP_MAX_NAME_LENGTH": length}) == code
    assert ("is not a number of characters" in capsys.readouterr().err) is (code == 3)


def test_a_proxys_file_is_judged_as_one(tmp_path, capsys):
    path = tmp_path / "p.yaml"
    path.write_text(
        "name: p\nremote: {url: 'https://r.example/mcp', transport: sse}\nincomingAuth: {type: anonymous}\n"
    )
    assert main(["validate", "--proxy", "-c", str(path)], {}) == 0
    assert f"{path}: valid: p, proxy of https://r.example/mcp, digest " in capsys.readouterr().out
    assert main(["validate", "-c", str(path)], {}) == 3
    assert "remote: unknown key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name: p\nincomingAuth: {type: anonymous}\n", "remote: is required"),
        ("name: p\nendpointPrefix: /p\n", "endpointPrefix: serving clients of the 2024-11-05 transport"),
        ("name: p\nbackends: []\n", "backends: unknown key"),
        ("- a\n", "the document must be a mapping"),
        ("", "the document is empty"),
    ],
)
def test_a_proxy_with_a_mistake_in_its_file_exits_with_3_and_says_where(content, said, tmp_path, capsys):
    path = tmp_path / "p.yaml"
    path.write_text(content)
    assert main(["proxy", "-c", str(path)], {}) == 3
    assert said in capsys.readouterr().err


def test_a_proxy_has_no_configuration_but_its_file(capsys):
    environ = {"VMCP_NAME": "p", "VMCP_NAMESPACE": "n", "KUBECONFIG": "/dev/null"}
    with pytest.raises(SystemExit) as caught:
        main(["proxy"], environ)
    assert caught.value.code == 2
    assert "--config" in capsys.readouterr().err
