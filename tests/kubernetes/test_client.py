"""Calls of a real API server: pages, watches, writes, and what is told when it refuses, is away or does not answer."""

import asyncio
import base64
import contextlib
import functools
import gc
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from checks.sources.kubernetes import client as limits
from checks.sources.kubernetes.access import Reader, from_kubeconfig, from_pod
from checks.sources.kubernetes.client import Client, Event, Page
from checks.sources.kubernetes.errors import Away, Forbidden, Gone, NotFound, Rejected, Slow, Unauthorized
from checks.sources.kubernetes.resources import ENDPOINTSLICES, EVENTS, SERVICES, Resource, Selection
from tests.kubernetes.cluster import Cluster, Namespace, Refused
from tests.replicas import wait_for

pytestmark = pytest.mark.kubernetes

T = TypeVar("T")


def run(read: Reader, work: Callable[[Client], Awaitable[T]]) -> T:
    """Do some work with a client."""

    async def all_of_it() -> T:
        client = Client(read)
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(all_of_it())


async def pages(client: Client, selection: Selection, size: int = limits.PAGE) -> list[Page]:
    async with aclosing(client.pages(selection, size)) as found:
        return [page async for page in found]


async def names(client: Client, selection: Selection) -> list[str]:
    return [item["metadata"]["name"] for page in await pages(client, selection) for item in page.items]


async def events(
    client: Client, selection: Selection, version: str, seconds: float = 10, idle: float = 60
) -> list[Event]:
    async with client.watch(selection, version, seconds, idle) as found:
        return [event async for event in found]


@pytest.fixture
def admin(cluster: Cluster, tmp_path: Path) -> Reader:
    """Access as the admin."""
    return functools.partial(from_kubeconfig, cluster.kubeconfig(tmp_path / "admin"))


@pytest.fixture
def selection(namespace: Namespace) -> Selection:
    """The Services of the test's namespace."""
    return Selection(SERVICES, namespace.name)


def reader(path: Path) -> Reader:
    return functools.partial(from_kubeconfig, path)


def test_a_list_comes_in_pages_of_one_version(admin: Reader, namespace: Namespace, selection: Selection) -> None:
    for number in range(7):
        namespace.service(f"s{number}")
    found = run(admin, lambda client: pages(client, selection, 3))
    assert [len(page.items) for page in found] == [3, 3, 1]
    assert sorted(item["metadata"]["name"] for page in found for item in page.items) == [f"s{n}" for n in range(7)]
    assert len({page.version for page in found}) == 1


def test_a_selection_has_labels_and_fields(admin: Reader, namespace: Namespace) -> None:
    namespace.slice("web", [])
    namespace.slice("shop", [])
    chosen = Selection(ENDPOINTSLICES, namespace.name, labels="kubernetes.io/service-name=web")
    found = run(admin, lambda client: names(client, chosen))
    assert len(found) == 1
    by_name = Selection(ENDPOINTSLICES, namespace.name, fields=f"metadata.name={found[0]}")
    assert run(admin, lambda client: names(client, by_name)) == found


def test_a_page_that_is_too_large_is_asked_for_in_smaller_ones(
    admin: Reader, namespace: Namespace, selection: Selection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        namespace.service(f"s{number}", {"text": "x" * 10_000})
    monkeypatch.setattr(limits, "MAX_PAGE_BYTES", 50_000)
    found = run(admin, lambda client: pages(client, selection))
    assert max(len(page.items) for page in found) < 5
    assert sum(len(page.items) for page in found) == 12


def test_a_list_that_expires_between_pages_is_gone(
    admin: Reader, cluster: Cluster, namespace: Namespace, selection: Selection
) -> None:
    for number in range(3):
        namespace.service(f"s{number}")

    async def interrupted(client: Client) -> None:
        async with aclosing(client.pages(selection, 1)) as found:
            await anext(found)
            namespace.annotate("s0", {"a": "b"})
            cluster.forget()
            await anext(found)

    with pytest.raises(Gone):
        run(admin, interrupted)


def test_a_watch_tells_each_change_once_and_in_order(admin: Reader, namespace: Namespace, selection: Selection) -> None:
    namespace.service("before")

    async def watched(client: Client) -> list[tuple[str, str, str | None]]:
        version = (await pages(client, selection))[0].version
        async with client.watch(selection, version, 60, 60) as found:

            def change() -> None:
                namespace.service("web", {"text": "a\u0085b\u2028c\nd"})
                namespace.annotate("web", {"text": "e"})
                namespace.annotate("before", {"text": "f"})
                namespace.delete("services", "web")

            changes = asyncio.create_task(asyncio.to_thread(change))
            seen = [await anext(found) for _ in range(4)]
            await changes
        return [(kind, about["metadata"]["name"], about["metadata"]["annotations"].get("text")) for kind, about in seen]

    assert run(admin, watched) == [
        ("ADDED", "web", "a\u0085b\u2028c\nd"),
        ("MODIFIED", "web", "e"),
        ("MODIFIED", "before", "f"),
        ("DELETED", "web", "e"),
    ]


def test_a_watch_ends_in_its_time(admin: Reader, selection: Selection) -> None:
    began = time.monotonic()
    version = run(admin, lambda client: pages(client, selection))[0].version
    assert run(admin, lambda client: events(client, selection, version, seconds=1)) == []
    assert 1 <= time.monotonic() - began < 10


@pytest.mark.long
def test_a_watch_gets_a_bookmark_each_minute(admin: Reader, namespace: Namespace, selection: Selection) -> None:
    namespace.service("web")
    version = run(admin, lambda client: pages(client, selection))[0].version
    namespace.cluster.namespace().service("elsewhere")
    seen = run(admin, lambda client: events(client, selection, version, seconds=63, idle=90))
    assert {event.kind for event in seen} == {"BOOKMARK"}
    assert int(seen[0].object["metadata"]["resourceVersion"]) > int(version)


def test_a_version_that_the_server_forgot_is_gone(
    admin: Reader, cluster: Cluster, namespace: Namespace, selection: Selection
) -> None:
    version = run(admin, lambda client: pages(client, selection))[0].version
    namespace.service("web")
    cluster.forget()
    with pytest.raises(Gone):
        run(admin, lambda client: events(client, selection, version))


def test_a_server_that_stands_still_is_slow(
    admin: Reader, cluster: Cluster, selection: Selection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LIST", 0.5)
    monkeypatch.setattr(limits, "BEGIN", 0.5)

    async def silent(client: Client) -> None:
        version = (await pages(client, selection))[0].version
        async with client.watch(selection, version, 60, 0.5) as found:
            with cluster.frozen(), pytest.raises(Slow, match=r"watch services: not a word for 0\.5 s"):
                await anext(found)

    run(admin, silent)
    with cluster.frozen():
        with pytest.raises(Slow, match="list services: "):
            run(admin, lambda client: pages(client, selection))
        with pytest.raises(Slow, match="watch services: "):
            run(admin, lambda client: events(client, selection, "1"))


def test_a_connection_that_is_given_up_is_closed(
    admin: Reader, cluster: Cluster, selection: Selection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LIST", 0.5)
    with cluster.frozen():
        for _ in range(3):
            with pytest.raises(Slow):
                run(admin, lambda client: pages(client, selection))
    gc.collect()  # what was left open would be a warning now, which is an error in tests


def test_a_server_that_is_away_is_told_with_its_address(admin: Reader, cluster: Cluster, selection: Selection) -> None:
    async def broken_off(client: Client) -> None:
        version = (await pages(client, selection))[0].version
        async with client.watch(selection, version, 60, 60) as found:
            cluster.stop_apiserver()
            await anext(found)

    with pytest.raises(Away, match=r"watch services: the connection to .* broke off"):
        run(admin, broken_off)
    with pytest.raises(Away, match=f"can't connect to {cluster.url}: Connection refused"):
        run(admin, lambda client: pages(client, selection))
    cluster.start()
    assert run(admin, lambda client: pages(client, selection))


@pytest.mark.parametrize(
    ("verb", "work"),
    [
        ("list", lambda client, name: pages(client, Selection(SERVICES))),
        ("list", lambda client, name: pages(client, Selection(SERVICES, name))),
        ("watch", lambda client, name: events(client, Selection(SERVICES), "1")),
        ("get", lambda client, name: client.get(SERVICES, name, "web")),
        ("create", lambda client, name: client.create(SERVICES, name, {})),
        ("patch", lambda client, name: client.patch(SERVICES, name, "web", {})),
        ("patch", lambda client, name: client.patch(SERVICES, name, "web", {}, "status")),
    ],
)
def test_a_refusal_names_who_lacks_which_verb_on_which_resource(
    cluster: Cluster, namespace: Namespace, tmp_path: Path, verb: str, work: Callable[[Client, str], Awaitable[Any]]
) -> None:
    path = cluster.kubeconfig(tmp_path / "config", cluster.account(namespace.name, "agent"))
    with pytest.raises(Forbidden) as caught:
        run(reader(path), lambda client: work(client, namespace.name))
    text, call = str(caught.value), caught.value.call
    assert f"system:serviceaccount:{namespace.name}:agent may not {verb} {call.names} " in text
    assert f'apiGroups: [""], resources: ["{call.names}"], verbs: ["{verb}"]' in text
    assert (f"in namespace {namespace.name}" if call.namespace else "in all namespaces") in text


def test_a_refusal_names_the_group(cluster: Cluster, namespace: Namespace, tmp_path: Path) -> None:
    path = cluster.kubeconfig(tmp_path / "config", cluster.account(namespace.name, "agent"))
    with pytest.raises(Forbidden, match=r'apiGroups: \["discovery.k8s.io"\], resources: \["endpointslices"\]'):
        run(reader(path), lambda client: pages(client, Selection(ENDPOINTSLICES)))


def test_a_token_that_is_none_is_told(cluster: Cluster, selection: Selection, tmp_path: Path) -> None:
    path = cluster.kubeconfig(tmp_path / "config", "some-token")
    with pytest.raises(Unauthorized, match="expired or were revoked"):
        run(reader(path), lambda client: pages(client, selection))


def test_a_resource_that_is_not_there_is_told(admin: Reader, namespace: Namespace) -> None:
    declared = Selection(Resource("example.com", "v1", "clusterchecks"))
    with pytest.raises(NotFound, match="list clusterchecks: not there"):
        run(admin, lambda client: pages(client, declared))
    with pytest.raises(NotFound):
        run(admin, lambda client: events(client, declared, "1"))
    with pytest.raises(NotFound, match='services "web" not found'):
        run(admin, lambda client: client.get(SERVICES, namespace.name, "web"))


def test_objects_are_made_and_patched_and_their_status_too(admin: Reader, namespace: Namespace) -> None:
    uid = namespace.service("web", {"kept": "1"}, type="LoadBalancer")["metadata"]["uid"]
    # kubectl finds an event by the uid of what it is about.
    about = {"apiVersion": "v1", "kind": "Service", "name": "web", "namespace": namespace.name, "uid": uid}
    event = {
        "metadata": {"name": "web.1", "namespace": namespace.name},
        "involvedObject": about,
        "reason": "Broken",
        "message": "instances are no list",
        "type": "Warning",
    }
    status = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}

    async def write(client: Client) -> None:
        await client.create(EVENTS, namespace.name, event)
        await client.patch(SERVICES, namespace.name, "web", {"metadata": {"annotations": {"new": "2"}}})
        await client.patch(SERVICES, namespace.name, "web", status, "status")

    run(admin, write)
    service = run(admin, lambda client: client.get(SERVICES, namespace.name, "web"))
    assert service["metadata"]["annotations"] == {"kept": "1", "new": "2"}
    assert service["status"]["loadBalancer"]["ingress"][0]["ip"] == "192.0.2.1"
    assert "instances are no list" in namespace.cluster.kubectl("-n", namespace.name, "describe", "service", "web")
    with pytest.raises(Rejected, match="already exists") as caught:
        run(admin, lambda client: client.create(EVENTS, namespace.name, event))
    assert caught.value.status == 409
    with pytest.raises(Rejected, match=r"patch services: refused \(422\)"):
        run(admin, lambda client: client.patch(SERVICES, namespace.name, "web", {"spec": {"ports": []}}))


def test_a_token_is_read_anew_when_it_rotates(
    cluster: Cluster, namespace: Namespace, selection: Selection, tmp_path: Path
) -> None:
    rule = {"apiGroups": [""], "resources": ["services"], "verbs": ["list"]}
    token = tmp_path / "token"
    token.write_text(cluster.account(namespace.name, "agent", rule))
    read = reader(cluster.kubeconfig(tmp_path / "config", tokenFile="token"))

    async def rotated(client: Client) -> None:
        await pages(client, selection)
        # Its tokens end with the ServiceAccount, as soon as the server no longer remembers that they were good.
        account = namespace.path("serviceaccounts", "agent")
        cluster.call("DELETE", account)
        cluster.call("POST", namespace.path("serviceaccounts"), {"metadata": {"name": "agent"}})
        old = token.read_text()
        wait_for("the old token is refused", lambda: is_refused(cluster, old, selection.path()))
        with pytest.raises(Unauthorized):
            await pages(client, selection)
        token.write_text(cluster.token(namespace.name, "agent"))
        await pages(client, selection)

    run(read, rotated)


def test_a_pod_reads_the_files_that_the_kubelet_replaces(
    cluster: Cluster, namespace: Namespace, selection: Selection, tmp_path: Path
) -> None:
    rule = {"apiGroups": [""], "resources": ["services"], "verbs": ["list"]}
    tokens = ["no-token", cluster.account(namespace.name, "agent", rule)]
    for number, token in enumerate(tokens):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "token").write_text(token)
        (tmp_path / f"{number}" / "ca.crt").write_bytes(cluster.ca)
    mount = tmp_path / "serviceaccount"
    mount.symlink_to("0")
    host, port = cluster.url.removeprefix("https://").split(":")
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}

    async def replaced(client: Client) -> None:
        with pytest.raises(Unauthorized):
            await pages(client, selection)
        (tmp_path / "next").symlink_to("1")
        (tmp_path / "next").rename(mount)
        await pages(client, selection)

    run(functools.partial(from_pod, mount, environ), replaced)


def is_refused(cluster: Cluster, token: str, path: str) -> bool:
    try:
        cluster.call("GET", path, token=token)
    except Refused as refused:
        return refused.status == 401
    time.sleep(0.2)
    return False


def test_an_authority_is_read_anew_when_it_rotates(
    admin: Reader, cluster: Cluster, selection: Selection, tmp_path: Path
) -> None:
    old = yaml.safe_load(cluster.kubeconfig(tmp_path / "old").read_text())
    old["clusters"][0]["cluster"]["certificate-authority-data"] = base64.b64encode(cluster.ca).decode()
    (tmp_path / "old").write_text(yaml.safe_dump(old))

    async def rotated(client: Client) -> None:
        await pages(client, selection)
        cluster.stop_apiserver()
        cluster.renew_certificate()
        cluster.start()
        await pages(client, selection)

    run(admin, rotated)
    with pytest.raises(Away, match=r"can't connect to .*: its certificate is not trusted"):
        run(reader(tmp_path / "old"), lambda client: pages(client, selection))


def test_a_client_certificate_is_shown(cluster: Cluster, selection: Selection, tmp_path: Path) -> None:
    signed = cluster.clients.sign("ash", "system:masters")
    (tmp_path / "ash.pem").write_bytes(signed.certificate)
    key = base64.b64encode(signed.key).decode()
    fields = {"client-certificate": "ash.pem", "client-key-data": key}
    assert run(reader(cluster.kubeconfig(tmp_path / "config", **fields)), lambda client: pages(client, selection))


@pytest.mark.parametrize(
    "fields",
    [
        {"tls-server-name": "kubernetes.default.svc"},
        {"certificate-authority": None, "insecure-skip-tls-verify": True},
    ],
)
def test_a_server_is_trusted_as_the_kubeconfig_says(
    cluster: Cluster, selection: Selection, tmp_path: Path, fields: dict[str, Any]
) -> None:
    assert run(reader(with_cluster(cluster, tmp_path, fields)), lambda client: pages(client, selection))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"tls-server-name": "elsewhere"}, "its certificate is not trusted: Hostname mismatch"),
        ({"certificate-authority": None}, "its certificate is not trusted: "),
    ],
)
def test_another_server_is_not_trusted(
    cluster: Cluster, selection: Selection, tmp_path: Path, fields: dict[str, Any], told: str
) -> None:
    with pytest.raises(Away, match=told):
        run(reader(with_cluster(cluster, tmp_path, fields)), lambda client: pages(client, selection))


def with_cluster(cluster: Cluster, folder: Path, fields: dict[str, Any]) -> Path:
    """Write a kubeconfig with other fields of its cluster."""
    path = cluster.kubeconfig(folder / "config")
    config = yaml.safe_load(path.read_text())
    config["clusters"][0]["cluster"] |= fields
    path.write_text(yaml.safe_dump(config))
    return path


async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one CONNECT of an HTTP proxy."""
    host, port = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode().split(":")
    there, to = await asyncio.open_connection(host, int(port))
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    try:
        await asyncio.gather(copied(reader, to), copied(there, writer))
    finally:
        for each in (writer, to):
            each.transport.abort()


async def copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(2**16):
            writer.write(part)
            await writer.drain()
        writer.close()


@pytest.mark.parametrize("fields", [{}, {"tls-server-name": "kubernetes.default.svc"}])
def test_a_server_is_reached_by_a_proxy(
    cluster: Cluster, selection: Selection, tmp_path: Path, fields: dict[str, Any]
) -> None:
    tunnels: list[asyncio.Task[None]] = []

    async def through(client: Client) -> list[Page]:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tunnels.append(asyncio.get_running_loop().create_task(tunnel(reader, writer)))

        proxy = await asyncio.start_server(accept, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        with_cluster(cluster, tmp_path, fields | {"proxy-url": url})
        async with proxy:
            found = await pages(client, selection)
            await client.close()
            await asyncio.wait(tunnels)
        return found

    assert run(reader(tmp_path / "config"), through)
    assert len(tunnels) == 1
