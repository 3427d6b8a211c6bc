"""Files that are templates for Services and endpoints: what they make comes, changes and goes with them."""

from pathlib import Path

import pytest

from checks.models import Config, Source, SourceScan
from checks.sources import files
from checks.sources.source import Scan
from checks.sources.sync import sync
from checks.tests.cast import owners, report
from checks.tests.kubernetes.cast import endpoint, endpoint_slice, service
from checks.tests.kubernetes.test_source import Watched
from clusteragent.lib import conf
from clusteragent.lib.clock import ago

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("warm")]

FILE = """
cluster_check: true
advanced_ad_identifiers:
  - kube_service: {name: web, namespace: shop}
instances:
  - url: http://%%host%%:%%port%%/
"""
KEY = "file/http_check.d/conf.yaml/service/shop/web/http_check"


class Shop(Watched):
    """The Service shop/web, and a folder of files."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.file = folder / "http_check.d" / "conf.yaml"
        self.file.parent.mkdir(exist_ok=True)

    def writes(self, text: str) -> None:
        self.file.write_text(text)
        self.looks()

    def looks(self) -> None:
        """Look at the files, and sync as the follower does."""
        if self.source.templates.look():
            self.source.begin_again()
        self.sync()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(conf, "CONFD", (tmp_path,))
    monkeypatch.setattr(conf, "CONFD_GIVEN", True)
    monkeypatch.setattr(files, "SETTLED_AFTER", 0)
    return tmp_path


@pytest.fixture
def shop(folder: Path) -> Shop:
    report("ash", "birch")
    shop = Shop(folder)
    shop.lists(service(), service(name="other"), slices=(endpoint_slice(endpoint(node="", pod="")),))
    return shop


def row() -> Source:
    return Source.objects.get(name="kubernetes")


def test_a_file_makes_a_check_of_the_service_that_it_names(shop: Shop) -> None:
    shop.writes(FILE)
    assert set(owners()) == {KEY}
    owner = owners()
    assert "http://10.96.0.1:8080/" in Config.objects.get().text
    shop.changes(service(ports=[{"port": 81}]))
    assert "http://10.96.0.1:81/" in Config.objects.get().text
    shop.writes(FILE.replace("http://", "https://"))
    assert "https://10.96.0.1:81/" in Config.objects.get().text
    assert owners() == owner
    shop.file.unlink()
    shop.looks()
    assert not owners()


def test_a_file_makes_a_check_of_each_endpoint_that_it_names(shop: Shop) -> None:
    shop.writes(FILE.replace("kube_service", "kube_endpoints"))
    assert set(owners()) == {"file/http_check.d/conf.yaml/endpoints/shop/web/10.244.0.7/http_check"}
    shop.changes(endpoint_slice(endpoint("10.244.0.8", node="", pod="")))
    assert set(owners()) == {"file/http_check.d/conf.yaml/endpoints/shop/web/10.244.0.8/http_check"}
    shop.deletes("web")
    assert not owners()


def test_a_new_term_has_the_files_before_it_compares(shop: Shop, folder: Path) -> None:
    shop.writes(FILE)
    again = Shop(folder)
    again.source.templates.look()
    again.lists(service())
    assert set(owners()) == {KEY}


@pytest.mark.parametrize("text", ["instances: [", FILE.replace("name: web", "name: 3, x: [")])
def test_a_file_that_is_broken_keeps_what_it_made(shop: Shop, folder: Path, text: str) -> None:
    shop.writes(FILE)
    shop.writes(text)
    assert set(owners()) == {KEY}
    again = Shop(folder)
    again.source.templates.look()
    again.lists(service())
    assert set(owners()) == {KEY}


def test_selectors_that_cannot_be_read_are_a_problem_of_the_file(shop: Shop) -> None:
    shop.writes(FILE)
    shop.writes(FILE.replace("name: web, ", ""))
    assert row().errors == [
        {
            "where": "http_check.d/conf.yaml",
            "line": None,
            "error": "advanced_ad_identifiers: kube_service needs a name and a namespace, both as texts",
        }
    ]
    assert set(owners()) == {KEY}
    shop.writes(FILE)
    assert row().errors == []


def test_a_folder_that_cannot_be_read_keeps_what_its_files_made(shop: Shop, folder: Path) -> None:
    shop.writes(FILE)
    moved = folder.rename(folder.with_name("moved"))
    shop.looks()
    shop.lists(service())
    assert set(owners()) == {KEY}
    again = Shop(moved)
    again.source.templates.look()
    again.lists(service())
    assert set(owners()) == {KEY}


def test_a_folder_with_a_space_that_cannot_be_read_keeps_what_its_files_made(shop: Shop, folder: Path) -> None:
    """A process of a new term never read it."""
    shop.file = folder / "http check.d" / "conf.yaml"
    shop.file.parent.mkdir()
    shop.writes(FILE)
    before = owners()
    assert set(before) == {"file/http%20check.d/conf.yaml/service/shop/web/http%20check"}
    again = Shop(folder)
    again.source.templates._files.scan = lambda: Scan(kept_under={"http check.d/"})  # type: ignore[method-assign]
    again.source.templates.look()
    again.lists(service())
    assert owners() == before


def test_a_file_that_the_next_leader_does_not_have_is_kept_as_long_as_other_files(
    shop: Shop, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New files reach replicas one after the other."""
    shop.writes(FILE)
    sync()
    shop.file.unlink()
    monkeypatch.setattr(conf, "REPLICA", "next")
    again = Shop(folder)
    again.looks()
    again.lists(service())
    assert set(owners()) == {KEY}
    SourceScan.objects.update(scanned_at=ago(2 * conf.REMOVAL_GRACE))
    again.looks()
    assert not owners()


def test_the_source_of_files_says_who_sends_what_a_template_makes(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "KUBECONFIG", Path("config"))
    shop.writes(FILE)
    [passed_over] = sync().passed_over
    assert passed_over.why == "a template: what it makes is sent by the source kubernetes"


def test_files_may_read_the_environment_and_annotations_may_not(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_WORD", "open")
    shop.writes(FILE.replace("%%port%%/", "%%port%%/%%env_SHOP_WORD%%"))
    assert "/open" in Config.objects.get().text
