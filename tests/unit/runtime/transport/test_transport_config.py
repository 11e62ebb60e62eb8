"""Where the API server is and who we are, from files as users have them."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import stat
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from runtime.transport import ConfigurationError, Transport, load_endpoint
from runtime.transport.auth import LoaderCredentials, NoCredentials, TokenFile
from runtime.transport.tls import ReloadingContext, TlsFiles
from tests.support.eventually import eventually

CA = trustme.CA()


def kubeconfig(
    path: Path, *, user: dict[str, Any] | None = None, server: str = "https://one:6443", **cluster: Any
) -> Path:
    ca = base64.b64encode(CA.cert_pem.bytes()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "team"}}],
        "clusters": [{"name": "k", "cluster": {"server": server, "certificate-authority-data": ca, **cluster}}],
        "users": [{"name": "u", "user": user if user is not None else {"token": "t1"}}],
    }
    path.write_text(yaml.safe_dump(config))
    return path


def service_account(directory: Path) -> Path:
    directory.mkdir()
    (directory / "token").write_text("sa-token\n")
    (directory / "ca.crt").write_bytes(CA.cert_pem.bytes())
    (directory / "namespace").write_text("pods\n")
    return directory


IN_POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


async def test_the_flag_wins_then_the_variable_then_the_pod_then_the_home(tmp_path: Path) -> None:
    flag = kubeconfig(tmp_path / "flag", server="https://flag")
    variable = kubeconfig(tmp_path / "variable", server="https://variable")
    (tmp_path / ".kube").mkdir()
    kubeconfig(tmp_path / ".kube" / "config", server="https://home")
    pod = service_account(tmp_path / "sa")
    environ = {**IN_POD, "KUBECONFIG": str(variable), "HOME": str(tmp_path)}

    async def url(kubeconfig: str | None = None, **without: None) -> str:
        left = {name: value for name, value in environ.items() if name not in without}
        return (await load_endpoint(kubeconfig, environ=left, service_account_dir=pod)).url

    assert await url(str(flag)) == "https://flag"
    assert await url() == "https://variable"
    assert await url(KUBECONFIG=None) == "https://10.0.0.1:443"
    assert await url(KUBECONFIG=None, KUBERNETES_SERVICE_HOST=None) == "https://home"


async def test_without_any_configuration_the_message_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="give --kubeconfig, set KUBECONFIG"):
        await load_endpoint(environ={"HOME": str(tmp_path)}, service_account_dir=tmp_path)


async def test_a_missing_or_broken_file_is_one_sentence_without_its_content(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        await load_endpoint(str(tmp_path / "absent"))
    broken = tmp_path / "broken"
    broken.write_text("users: [{user: {token: hunter2}}]\ncurrent-context: x\n")
    with pytest.raises(ConfigurationError) as error:
        await load_endpoint(str(broken))
    assert "hunter2" not in str(error.value)
    assert str(broken) in str(error.value)


async def test_several_files_are_merged(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    whole = yaml.safe_load(kubeconfig(first).read_text())
    second.write_text(yaml.safe_dump({**whole, "contexts": [], "current-context": "c"}))
    first.write_text(yaml.safe_dump({**whole, "users": [], "clusters": []}))
    endpoint = await load_endpoint(environ={"KUBECONFIG": f"{first}:{second}:{tmp_path / 'absent'}"})
    assert (endpoint.url, endpoint.namespace) == ("https://one:6443", "team")
    assert await endpoint.credentials.header() == "Bearer t1"


async def test_server_name_proxy_and_insecure_are_taken_over(tmp_path: Path) -> None:
    path = kubeconfig(
        tmp_path / "c", **{"tls-server-name": "real", "proxy-url": "http://p:1", "insecure-skip-tls-verify": True}
    )
    endpoint = await load_endpoint(str(path))
    assert (endpoint.tls.server_name, endpoint.proxy, endpoint.tls.verify) == ("real", "http://p:1", False)


async def test_basic_auth_and_no_user_at_all(tmp_path: Path) -> None:
    basic = await load_endpoint(str(kubeconfig(tmp_path / "a", user={"username": "u", "password": "p"})))
    assert await basic.credentials.header() == "Basic " + base64.b64encode(b"u:p").decode()
    nobody = await load_endpoint(str(kubeconfig(tmp_path / "b", user={})))
    assert isinstance(nobody.credentials, NoCredentials)


async def test_a_token_file_of_a_kubeconfig_is_found_beside_it_and_followed(tmp_path: Path) -> None:
    (tmp_path / "tok").write_text("one\n")
    endpoint = await load_endpoint(str(kubeconfig(tmp_path / "c", user={"tokenFile": "tok"})))
    assert isinstance(endpoint.credentials, TokenFile)
    assert await endpoint.credentials.header() == "Bearer one"
    (tmp_path / "new").write_text("two\n")
    (tmp_path / "new").replace(tmp_path / "tok")
    assert await endpoint.credentials.header() == "Bearer two"


async def test_a_token_file_that_vanishes_or_is_empty_leaves_the_last_good_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    credentials = TokenFile(file)
    assert await credentials.header() == "Bearer one"
    file.write_text("")
    assert await credentials.header() == "Bearer one"
    file.unlink()
    assert await credentials.header() == "Bearer one"
    assert not await credentials.rejected("Bearer one")
    file.write_text("two")
    assert await credentials.rejected("Bearer one")


async def test_the_pods_token_is_stripped_of_its_line_end(tmp_path: Path) -> None:
    endpoint = await load_endpoint(environ=IN_POD, service_account_dir=service_account(tmp_path / "sa"))
    assert await endpoint.credentials.header() == "Bearer sa-token"
    assert endpoint.namespace == "pods"


def plugin(tmp_path: Path) -> dict[str, Any]:
    """An exec plugin that counts its runs and gives a token with the count."""
    program = tmp_path / "plugin"
    status = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    program.write_text(
        textwrap.dedent(f"""\
        #!{sys.executable}
        import json, pathlib
        runs = pathlib.Path({str(tmp_path / "runs")!r})
        runs.write_text((runs.read_text() if runs.exists() else "") + "x")
        status = {{"token": f"t{{len(runs.read_text())}}", "expirationTimestamp": "2999-01-01T00:00:00Z"}}
        print(json.dumps({{**{json.dumps(status)}, "status": status}}))
        """)
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"exec": {"command": str(program), "apiVersion": status["apiVersion"], "interactiveMode": "Never"}}


async def test_an_exec_plugin_runs_once_and_again_only_when_its_token_is_refused(tmp_path: Path) -> None:
    endpoint = await load_endpoint(str(kubeconfig(tmp_path / "c", user=plugin(tmp_path))))
    credentials = endpoint.credentials
    assert isinstance(credentials, LoaderCredentials)
    for _ in range(3):
        assert await credentials.header() == "Bearer t1"
    credentials.MIN_PAUSE = 0.0
    assert await credentials.rejected("Bearer t1")
    assert await credentials.header() == "Bearer t2"
    # Another request that was refused with the old token needs no further run.
    assert await credentials.rejected("Bearer t1")
    assert await credentials.header() == "Bearer t2"
    assert (tmp_path / "runs").read_text() == "xx"


async def test_a_plugin_that_fails_is_a_configuration_error_without_its_output(tmp_path: Path) -> None:
    program = tmp_path / "plugin"
    program.write_text("#!/bin/sh\necho hunter2\nexit 3\n")
    program.chmod(0o755)
    user = {"exec": {"command": str(program), "apiVersion": "client.authentication.k8s.io/v1"}}
    with pytest.raises(ConfigurationError) as error:
        await load_endpoint(str(kubeconfig(tmp_path / "c", user=user)))
    assert "hunter2" not in str(error.value)


PLUGIN_API = "client.authentication.k8s.io/v1"


def script(tmp_path: Path, text: str) -> dict[str, Any]:
    program = tmp_path / "plugin"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return {"exec": {"command": str(program), "apiVersion": PLUGIN_API}}


HANGING = {
    "waits for ever": "echo $$ > {pids}; exec sleep 600",
    "waits for a child of its own": "sleep 600 & echo $! > {pids}; wait",
    "has answered and does not end": "echo $$ > {pids}; echo '{{}}'; exec sleep 600",
}


@pytest.mark.parametrize("text", HANGING.values(), ids=HANGING.keys())
async def test_a_plugin_that_hangs_is_ended_with_what_it_started_and_named(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.transport.plugin.LIMIT", 1.0)
    pids = tmp_path / "pids"
    user = script(tmp_path, text.format(pids=pids))
    with pytest.raises(ConfigurationError, match="exec: plugin did not answer within 1 s"):
        await load_endpoint(str(kubeconfig(tmp_path / "c", user=user)))
    await eventually(lambda: not alive(int(pids.read_text())))


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody asked about yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_plugin_that_asks_a_question_gets_no_answer_and_one_that_talks_much_is_heard(tmp_path: Path) -> None:
    status = {"token": "t"}
    answer = json.dumps({"apiVersion": PLUGIN_API, "kind": "ExecCredential", "status": status})
    user = script(tmp_path, f"read line; head -c 300000 /dev/zero >&2; echo '{answer}'")
    endpoint = await load_endpoint(str(kubeconfig(tmp_path / "c", user=user)))
    assert await endpoint.credentials.header() == "Bearer t"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo hunter2; echo hunter2 >&2; exit 3", "failed with exit code 3"),
        ("echo hunter2", "did not answer with JSON"),
        ("""echo '{"status": {"token": "hunter2"}}'""", "answered in another version"),
        ("echo '[]'", "did not answer with an ExecCredential"),
        ("head -c 2000000 /dev/zero", "wrote more than 1 MiB"),
    ],
)
async def test_what_is_wrong_with_a_plugin_is_said_without_its_output(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as error:
        await load_endpoint(str(kubeconfig(tmp_path / "c", user=script(tmp_path, text))))
    assert "hunter2" not in str(error.value)


async def test_a_plugin_that_hangs_later_leaves_the_last_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = json.dumps({"apiVersion": PLUGIN_API, "kind": "ExecCredential", "status": {"token": "t"}})
    second = tmp_path / "second"
    user = script(tmp_path, f"[ -e {second} ] && exec sleep 600; touch {second}; echo '{answer}'")
    credentials = (await load_endpoint(str(kubeconfig(tmp_path / "c", user=user)))).credentials
    assert isinstance(credentials, LoaderCredentials)
    credentials.MIN_PAUSE = 0.0
    monkeypatch.setattr("runtime.transport.plugin.LIMIT", 0.5)
    assert not await credentials.rejected("Bearer t")
    assert await credentials.header() == "Bearer t"


async def test_the_environments_proxy_counts_where_the_kubeconfig_names_none(tmp_path: Path) -> None:
    environ = {"HTTPS_PROXY": "http://u:hunter2@proxy:3128", "NO_PROXY": "10.0.0.0/8"}

    async def proxy(path: Path, **more: Any) -> str | None:
        return (await load_endpoint(str(path), environ=environ, **more)).proxy

    assert await proxy(kubeconfig(tmp_path / "a")) == "http://u:hunter2@proxy:3128"
    assert await proxy(kubeconfig(tmp_path / "b", **{"proxy-url": "http://other:1"})) == "http://other:1"
    pod = service_account(tmp_path / "sa")
    inside = await load_endpoint(environ={**IN_POD, **environ}, service_account_dir=pod)
    assert inside.proxy is None, "a Service's address in NO_PROXY"
    environ["HTTPS_PROXY"] = "socks5://u:hunter2@proxy:1"
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY: proxies of type socks5 are not supported") as error:
        await proxy(kubeconfig(tmp_path / "d"))
    assert "hunter2" not in str(error.value)


async def test_requests_go_through_the_proxy_with_its_password_and_end_at_the_right_server(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert("api.invalid").configure_cert(context)

    async def api(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    heads: list[str] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        there, back = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                while chunk := await source.read(65536):
                    target.write(chunk)
                target.close()

        await asyncio.gather(pump(reader, back), pump(there, writer))

    server = await asyncio.start_server(api, "127.0.0.1", 0, ssl=context)
    proxy = await asyncio.start_server(relay, "127.0.0.1", 0)
    environ = {"https_proxy": f"http://user:pass@127.0.0.1:{proxy.sockets[0].getsockname()[1]}"}
    path = kubeconfig(tmp_path / "c", server="https://api.invalid:6443")
    transport = Transport(await load_endpoint(str(path), environ=environ))
    try:
        assert (await transport.request("GET", "/version", retry=False)).body == b"{}"
    finally:
        await transport.close()
        server.close()
        proxy.close()
    assert heads[0].startswith("CONNECT api.invalid:6443 ")
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'user:pass').decode()}" in heads[0]
    assert "Bearer" not in heads[0]


def test_a_changed_certificate_makes_a_new_context_and_a_broken_one_keeps_the_old(tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_bytes(CA.cert_pem.bytes())
    context = ReloadingContext(TlsFiles(ca_file=str(file)))
    first = context.current(0.0)
    assert context.current(100.0) is first
    other = trustme.CA()
    file.write_bytes(other.cert_pem.bytes() + CA.cert_pem.bytes())
    assert context.current(101.0) is first  # not looked at yet
    second = context.current(106.0)
    assert second is not first
    assert len(second.get_ca_certs()) == 2
    file.write_text("-----BEGIN CERTIFICATE-----\nhalf")
    assert context.current(112.0) is second
    file.unlink()
    assert context.current(118.0) is second


def test_the_loaders_are_imported_without_the_models() -> None:
    """37 MiB and a third of a second: the reason for the lean import."""
    code = """
        import sys
        from runtime.transport._library import library
        lib = library()
        assert lib.kube_config.KubeConfigLoader and lib.Configuration().verify_ssl
        assert not [name for name in sys.modules if name.startswith(("kubernetes_asyncio", "urllib3"))]
        user = lib.Configuration(username="u", password="p")
        assert user.get_basic_auth_token() == "Basic dTpw"
        import urllib3
        assert urllib3.PoolManager
        import kubernetes_asyncio
        assert kubernetes_asyncio.client.CoreV1Api
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)
