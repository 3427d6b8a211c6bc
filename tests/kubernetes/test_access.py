"""How the API server is reached: what a kubeconfig and a pod's files say, and what is told of broken ones."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from checks.sources.kubernetes import plugins
from checks.sources.kubernetes.access import Access, Channel, choose, from_kubeconfig, from_pod
from checks.sources.kubernetes.connections import connect
from checks.sources.kubernetes.errors import BadAccess
from tests.kubernetes.certificates import Authority

AUTHORITY = Authority()
CLIENT = AUTHORITY.sign("ash")
SECRET = "a-token-that-nobody-may-see"


def kubeconfig(cluster: dict[str, Any], user: Any = None, **fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "ours", "user": "me"}}],
        "clusters": [{"name": "other", "cluster": {}}, {"name": "ours", "cluster": cluster}],
        "users": [{"name": "me", "user": {"token": SECRET} if user is None else user}],
    } | fields


def written(folder: Path, config: object) -> Path:
    path = folder / "kubeconfig"
    path.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
    return path


def data(content: bytes) -> str:
    return base64.b64encode(content).decode()


SERVER = {"server": "https://10.0.0.1:6443"}


@pytest.mark.parametrize(
    ("cluster", "user", "expected"),
    [
        (SERVER, {}, Access(Channel("https://10.0.0.1:6443"))),
        ({"server": "10.0.0.1:6443/"}, {}, Access(Channel("https://10.0.0.1:6443"))),
        ({"server": "https://rancher.example.com/k8s/clusters/c-1"}, {}, Access(Channel("https://rancher.example.com/k8s/clusters/c-1"))),
        (SERVER, {"token": f"{SECRET}\n"}, Access(Channel("https://10.0.0.1:6443"), SECRET)),
        (SERVER, {"tokenFile": "token", "token": "older"}, Access(Channel("https://10.0.0.1:6443"), SECRET)),
        (SERVER | {"certificate-authority": "ca.pem"}, {}, Access(Channel("https://10.0.0.1:6443", AUTHORITY.certificate))),
        (
            SERVER | {"certificate-authority-data": data(AUTHORITY.certificate), "certificate-authority": "nowhere"},
            {},
            Access(Channel("https://10.0.0.1:6443", AUTHORITY.certificate)),
        ),
        (SERVER | {"insecure-skip-tls-verify": True}, {}, Access(Channel("https://10.0.0.1:6443", verify=False))),
        (SERVER | {"tls-server-name": "api"}, {}, Access(Channel("https://10.0.0.1:6443", server_name="api"))),
        (SERVER | {"proxy-url": "http://10.0.0.2:3128"}, {}, Access(Channel("https://10.0.0.1:6443", proxy="http://10.0.0.2:3128"))),
        (
            SERVER,
            {"client-certificate-data": data(CLIENT.certificate), "client-key": "client.key"},
            Access(Channel("https://10.0.0.1:6443", certificate=CLIENT.certificate, key=CLIENT.key)),
        ),
    ],
)  # fmt: skip
def test_a_kubeconfig_says_how_to_reach_the_server(tmp_path: Path, cluster: Any, user: Any, expected: Access) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.certificate)
    (tmp_path / "client.key").write_bytes(CLIENT.key)
    assert from_kubeconfig(written(tmp_path, kubeconfig(cluster, user))) == expected


BROKEN = [
    ("", "its top is no mapping"),
    ("- a", "its top is no mapping"),
    ("a: [", ", line 2: not YAML"),
    ("a:\n\tb", ", line 2: not YAML"),
    ("a: &a [*a]\n? *a\n: 1", "not YAML"),
    ("a: \x00", "not YAML"),
    (kubeconfig(SERVER, **{"current-context": ""}), "no current-context"),
    (kubeconfig(SERVER, **{"current-context": 7}), "current-context is no text"),
    (kubeconfig(SERVER, **{"current-context": "elsewhere"}), 'contexts has no "elsewhere" (it has here)'),
    (kubeconfig(SERVER, contexts=None), 'contexts has no "here" (it has nothing)'),
    (kubeconfig(SERVER, contexts="here"), "contexts is no list"),
    (kubeconfig(SERVER, contexts=[{"name": "here", "context": "ours"}]), 'contexts, "here": context is no mapping'),
    (kubeconfig(SERVER, contexts=[{"name": "here", "context": {"user": "me"}}]), 'context "here": cluster is missing'),
    (kubeconfig(SERVER, clusters=[]), 'clusters has no "ours"'),
    (kubeconfig(SERVER, users=[]), 'users has no "me"'),
    (kubeconfig({}), 'cluster "ours": server is missing'),
    (kubeconfig({"server": 6443}), "server is no text"),
    (kubeconfig({"server": "ftp://a"}), "server: not a URL"),
    (kubeconfig({"server": "https://"}), "server: not a URL"),
    (kubeconfig({"server": "https://someone:secret@a"}), "server: not a URL"),
    (kubeconfig({"server": "https://a:0x"}), "server: not a URL"),
    (kubeconfig(SERVER | {"insecure-skip-tls-verify": "yes, please"}), "neither true nor false"),
    (kubeconfig(SERVER | {"insecure-skip-tls-verify": True, "certificate-authority-data": "YQ=="}), "contradict"),
    (kubeconfig(SERVER | {"certificate-authority-data": "not base64!"}), "certificate-authority-data is not base64"),
    (kubeconfig(SERVER | {"certificate-authority": "nowhere.pem"}), "nowhere.pem: can't be read: No such file"),
    (kubeconfig(SERVER | {"certificate-authority": "."}), "can't be read: Is a directory"),
    (kubeconfig(SERVER | {"proxy-url": "socks5://a:1"}), "proxy-url: only http"),
    (kubeconfig(SERVER, {"client-certificate-data": "YQ=="}), "need each other"),
    (kubeconfig(SERVER, {"token": f"{SECRET}\r\nX-Other: 1"}), "the token has characters that no token has"),
    (kubeconfig(SERVER, {"tokenFile": "nowhere"}), "nowhere: can't be read"),
    (kubeconfig(SERVER, {"exec": "aws"}), 'user "me": exec: command is missing'),
    (kubeconfig(SERVER, {"exec": {"command": "a", "args": "b"}}), "exec: args is no list"),
    (kubeconfig(SERVER, {"exec": {"command": "a"}}), "exec: apiVersion is none of client.authentication.k8s.io/v1, "),
    (kubeconfig(SERVER, {"exec": {"command": "a", "interactiveMode": "Always"}}), "it needs a terminal"),
    (kubeconfig(SERVER, {"exec": {"command": "a", "provideClusterInfo": True}}), "provideClusterInfo is not supported"),
    (kubeconfig(SERVER, {"auth-provider": {"name": "oidc"}}), "ended with Kubernetes 1.26 (auth-provider)"),
    (kubeconfig(SERVER, {"username": "admin", "password": SECRET}), "logs in by a password"),
    (kubeconfig(SERVER, {"token": SECRET, "as": "system:admin"}), "acts as somebody else (as)"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "told"), BROKEN)
def test_what_is_wrong_with_a_kubeconfig_is_told_with_its_place_and_without_secrets(
    tmp_path: Path, config: object, told: str
) -> None:
    with pytest.raises(BadAccess) as caught:
        from_kubeconfig(written(tmp_path, config))
    assert told in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert SECRET not in str(caught.value)


def program(folder: Path, script: str, **fields: Any) -> Path:
    """Write a kubeconfig whose user is what a program says."""
    (folder / "plugin").write_text(f"#!/bin/sh\necho called >> {folder}/calls\n{script}\n")
    (folder / "plugin").chmod(0o755)
    asked = {"command": "./plugin", "apiVersion": "client.authentication.k8s.io/v1", "installHint": "Get it.", **fields}
    return written(folder, kubeconfig(SERVER, {"exec": asked}))


def handed_out(**status: str) -> str:
    told = {"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": status}
    return f"cat <<'END'\n{json.dumps(told)}\nEND"


def test_a_program_is_asked_once_while_what_it_hands_out_lasts(tmp_path: Path) -> None:
    path = program(tmp_path, handed_out(token=SECRET, expirationTimestamp="2999-01-01T00:00:00Z"))
    assert [from_kubeconfig(path).token for _ in range(3)] == [SECRET] * 3
    assert (tmp_path / "calls").read_text() == "called\n"


def test_a_program_is_asked_again_when_that_is_over(tmp_path: Path) -> None:
    path = program(tmp_path, handed_out(token=SECRET, expirationTimestamp="2026-01-01T00:00:00Z"))
    assert [from_kubeconfig(path).token for _ in range(2)] == [SECRET] * 2
    assert (tmp_path / "calls").read_text() == "called\n" * 2


def test_a_program_may_hand_out_a_certificate(tmp_path: Path) -> None:
    certificate, key = CLIENT.certificate.decode(), CLIENT.key.decode()
    path = program(tmp_path, handed_out(clientCertificateData=certificate, clientKeyData=key))
    channel = from_kubeconfig(path).channel
    assert (channel.certificate, channel.key) == CLIENT


def test_a_program_gets_its_arguments_and_its_environment_and_no_secrets_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTERAGENT_LOCAL_TOKEN", "ours")
    script = f'echo "$1$CLUSTERAGENT_LOCAL_TOKEN $REGION $KUBERNETES_EXEC_INFO" > {tmp_path}/given\n{handed_out(token=SECRET)}'
    from_kubeconfig(program(tmp_path, script, args=["get-token"], env=[{"name": "REGION", "value": "eu"}]))
    given, region, asked = (tmp_path / "given").read_text().split(" ", 2)
    assert (given, region) == ("get-token", "eu")
    assert json.loads(asked)["spec"] == {"interactive": False}


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo log in first >&2; exit 3", "ended with status 3: log in first"),
        (f"echo {SECRET}", "printed no ExecCredential"),
        ('echo \'{"kind": "ExecCredential"}\'', "printed no ExecCredential with a status"),
        (handed_out(), "neither a token nor a certificate with its key"),
        (handed_out(clientKeyData=SECRET), "neither a token nor a certificate with its key"),
        (handed_out(token=SECRET, expirationTimestamp="soon"), "expirationTimestamp is no time"),
        ("exec sleep 30", "took more than 0.5 s"),
    ],
)
def test_a_program_that_hands_out_nothing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, told: str
) -> None:
    if "sleep" in script:
        monkeypatch.setattr(plugins, "PATIENCE", 0.5)
    with pytest.raises(BadAccess) as caught:
        from_kubeconfig(program(tmp_path, script))
    assert f'{tmp_path}/kubeconfig: user "me": exec: ' in str(caught.value)
    assert told in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_program_that_is_not_there_is_told_with_its_hint(tmp_path: Path) -> None:
    path = program(tmp_path, "", command="gke-gcloud-auth-plugin-of-tests")
    with pytest.raises(BadAccess, match=r"can't be started: No such file or directory\. Get it\."):
        from_kubeconfig(path)


@pytest.mark.parametrize(
    ("channel", "told"),
    [
        (Channel("https://a", ca=b"no certificate"), "the certificate authority of https://a: no certificates in PEM"),
        (Channel("https://a", ca=b"\xff"), "no certificates in PEM"),
        (Channel("https://a", certificate=b"a", key=b"b"), "the client certificate for https://a"),
        (Channel("https://a", certificate=CLIENT.certificate, key=AUTHORITY.sign("b").key), "do not belong together"),
    ],
)
def test_certificates_that_are_none_are_told(channel: Channel, told: str) -> None:
    with pytest.raises(BadAccess, match=told):
        connect(channel)


def test_a_certificate_and_its_key_leave_no_file() -> None:
    connect(Channel("https://a", certificate=CLIENT.certificate, key=CLIENT.key))
    held = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert not [path for path in held if "client-certificate" in str(path)]


def test_a_pod_has_its_files_and_the_cluster_s_address(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    (tmp_path / "ca.crt").write_bytes(AUTHORITY.certificate)
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    assert from_pod(tmp_path, environ) == Access(Channel("https://[fd00::1]:6443", AUTHORITY.certificate), SECRET)
    (tmp_path / "token").write_text("the-next-token")
    assert from_pod(tmp_path, environ).token == "the-next-token"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "token: can't be read: No such file"),
        (b" \n", "there is no token in it"),
        (b"\xff", "characters that no token has"),
        (b"a" * 2**21, "more than 1 MiB"),
    ],
)
def test_a_pod_without_a_usable_token_is_told(tmp_path: Path, content: bytes | None, told: str) -> None:
    (tmp_path / "ca.crt").write_bytes(AUTHORITY.certificate)
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(BadAccess, match=told):
        from_pod(tmp_path, {"KUBERNETES_SERVICE_HOST": "10.96.0.1"})


def test_without_pod_and_kubeconfig_it_is_told_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(BadAccess, match="CLUSTERAGENT_KUBECONFIG"):
        choose(None, {})
    assert choose(None, {"KUBERNETES_SERVICE_HOST": "10.96.0.1"})
    path = written(tmp_path, kubeconfig(SERVER))
    assert choose(path, {"KUBERNETES_SERVICE_HOST": "10.96.0.1"})().token == SECRET


def test_what_is_printed_of_an_access_has_no_secret() -> None:
    shown = repr(Access(Channel("https://a", key=b"hidden", proxy="http://me:hidden@b"), "hidden"))
    assert "https://a" in shown
    assert "hidden" not in shown
