"""The scans of the file source, without a database."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.sources import fileformat, files
from checks.sources.files import FileSource
from checks.sources.source import BrokenConfig, Scan
from checks.wire import patching, yamlerrors
from checks.wire.lint import lint
from checks.wire.patching import IntegrationConfig
from checks.wire.yamlnodes import InvalidYAML
from clusteragent.lib import conf
from tests.table import table

CONFIG = "cluster_check: true\ninstances:\n  - url: http://one\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    confd = tmp_path / "conf.d"
    confd.mkdir()
    monkeypatch.setattr(conf, "CONFD", (confd,))
    monkeypatch.setattr(conf, "CONFD_GIVEN", True)
    monkeypatch.setattr(files, "SETTLED_AFTER", 0)
    return confd


class Clock:
    """Both clocks, as the file source sees them. They start at the present, since files get their times from the system."""

    def __init__(self) -> None:
        self.now = time.time()

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(files, "SETTLED_AFTER", 1)
    clock = Clock()
    # Not the functions of the module `time`: other threads of this process live by them.
    monkeypatch.setattr(files, "time", clock)
    return clock


def write(path: Path, text: str | bytes = CONFIG) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def scan() -> Scan:
    return FileSource().scan()


def found(scan: Scan) -> dict[str, IntegrationConfig]:
    return {found.key: found.read().config for found in scan.found}


def only(folder: Path, text: str | bytes = CONFIG) -> IntegrationConfig:
    """The config of a file with this text."""
    write(folder / "http_check.yaml", text)
    (config,) = found(scan()).values()
    return config


def error(folder: Path, text: str | bytes) -> tuple[str, int | None]:
    """The error of a file with this text, and its line."""
    with pytest.raises(BrokenConfig) as caught:
        only(folder, text)
    return str(caught.value), caught.value.line


# Names


def test_a_folder_names_the_check_and_a_file_at_the_top_names_itself(folder: Path) -> None:
    for name in ("postgres.d/conf.yaml", "postgres.d/other.yml", "http_check.yaml", "tcp_check.yml"):
        write(folder / name)
    assert {key: config.name for key, config in found(scan()).items()} == {
        "postgres.d/conf.yaml": "postgres",
        "postgres.d/other.yml": "postgres",
        "http_check.yaml": "http_check",
        "tcp_check.yml": "tcp_check",
    }


@pytest.mark.parametrize(
    "name",
    [".hidden.yaml", ".hidden.d/conf.yaml", "postgres.d/.conf.yaml", "postgres.d/deeper/conf.yaml", "plain/conf.yaml",
     "README", "postgres.d/conf.yaml.example", "metrics.yaml", "postgres.d/conf.yaml~", ".yaml", "folder.yaml/x"],
)  # fmt: skip
def test_other_names_are_ignored(folder: Path, name: str) -> None:
    write(folder / name)
    looked = scan()
    assert (looked.found, looked.problems, looked.unsettled) == ([], [], set())


@pytest.mark.parametrize("other", ["http_check.yaml", "http_check.d/conf.yml"])
def test_a_default_file_counts_only_where_its_check_has_no_other(folder: Path, other: str) -> None:
    write(folder / "http_check.d/conf.yaml.default")
    write(folder / "tcp_check.yaml.default")
    assert {config.name for config in found(scan()).values()} == {"http_check", "tcp_check"}
    write(folder / other)
    assert set(found(scan())) == {other, "tcp_check.yaml.default"}


def test_a_file_of_jmx_metrics_does_not_override_a_default_file(folder: Path) -> None:
    write(folder / "kafka.d/conf.yaml.default")
    write(folder / "kafka.d/metrics.yaml", "jmx_metrics:\n  - include: {domain: kafka}\n")
    assert set(found(scan())) == {"kafka.d/conf.yaml.default", "kafka.d/metrics.yaml"}


def test_the_first_folder_wins(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = tmp_path / "second"
    monkeypatch.setattr(conf, "CONFD", (folder, second))
    write(folder / "a.d/conf.yaml", "instances: [{url: first}]")
    write(second / "a.d/conf.yaml", "instances: [{url: second}]")
    write(second / "b.yaml", "instances: [{url: second}]")
    assert {key: (config.instances, config.source) for key, config in found(scan()).items()} == {
        "a.d/conf.yaml": (("url: first\n",), "file:a.d/conf.yaml"),
        "b.yaml": (("url: second\n",), "file:b.yaml"),
    }


def test_a_broken_file_of_the_first_folder_still_hides_the_second_s(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conf, "CONFD", (folder, tmp_path / "second"))
    (folder / "a.yaml").symlink_to("nowhere")
    write(tmp_path / "second/a.yaml")
    looked = scan()
    assert not looked.found
    assert [str(problem) for problem in looked.problems] == ["a.yaml: points to nothing"]


def test_a_name_that_is_not_utf8_is_shown_with_escapes(folder: Path) -> None:
    write(Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.yaml")))
    assert [str(problem) for problem in scan().problems] == ["caf\\udce9.yaml: the name is not UTF-8"]


# What can't be read


def test_a_missing_folder_keeps_everything_and_is_a_problem(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.rmdir()
    looked = scan()
    assert looked.keeps("anything.yaml")
    assert not looked.readable
    assert [problem.where for problem in looked.problems] == [str(folder)]


def test_a_missing_default_folder_is_no_problem_of_a_fresh_installation(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conf, "CONFD_GIVEN", False)
    folder.rmdir()
    looked = scan()
    assert (looked.readable, looked.problems, len(looked.missing)) == (True, [], 1)
    assert looked.keeps("anything.yaml")


def test_a_folder_of_a_check_that_cant_be_read_keeps_only_what_came_from_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "postgres.d/conf.yaml")
    write(folder / "http_check.yaml")
    real = os.scandir

    def denied(path: Path) -> object:
        if path == folder / "postgres.d":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", denied)
    looked = scan()
    assert set(found(looked)) == {"http_check.yaml"}
    assert [str(problem) for problem in looked.problems] == [
        "postgres.d/: Permission denied; its configs stay as they are"
    ]
    assert looked.readable
    assert looked.keeps("postgres.d/conf.yaml")
    assert not looked.keeps("tcp_check.yaml")


def test_a_second_folder_s_file_does_not_take_the_place_of_one_that_cant_be_read(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = tmp_path / "second"
    monkeypatch.setattr(conf, "CONFD", (folder, second))
    write(folder / "a.yaml", "instances: [{url: first}]")
    for path in (second / "a.yaml", second / "b.yaml"):
        write(path, "instances: [{url: second}]")
    source = FileSource()
    source.scan()
    folder.rename(tmp_path / "away")
    for _ in range(2):
        looked = source.scan()
        assert [found.key for found in looked.found] == ["b.yaml"]
        assert looked.keeps("a.yaml")
    (tmp_path / "away").rename(folder)
    assert {found.key: found.read().config.instances for found in source.scan().found} == {
        "a.yaml": ("url: first\n",),
        "b.yaml": ("url: second\n",),
    }


def test_a_file_below_a_file_is_nothing(folder: Path) -> None:
    write(folder / "postgres.d", "a file, not a folder")
    looked = scan()
    assert (looked.found, looked.problems) == ([], [])


def test_a_folder_that_is_a_file_is_a_problem(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "CONFD", (write(folder / "file"),))
    looked = scan()
    assert [problem.error for problem in looked.problems] == ["Not a directory; its configs stay as they are"]
    assert not looked.readable


@pytest.mark.parametrize("make", [lambda path: path.symlink_to(path), lambda path: os.mkfifo(path),
                                  lambda path: path.symlink_to("/dev/zero"), lambda path: path.symlink_to("gone")])  # fmt: skip
def test_loops_pipes_devices_and_links_to_nothing_are_problems_and_hang_nobody(
    folder: Path, make: Callable[[Path], None]
) -> None:
    make(folder / "odd.yaml")
    write(folder / "http_check.yaml")
    looked = scan()
    assert set(found(looked)) == {"http_check.yaml"}
    assert [problem.where for problem in looked.problems] == ["odd.yaml"]
    assert looked.keeps("odd.yaml")


def test_a_folder_that_links_to_itself_or_to_nothing_is_a_problem(folder: Path) -> None:
    (folder / "loop.d").symlink_to(folder / "loop.d")
    (folder / "nothing.d").symlink_to(folder / "gone")
    looked = scan()
    assert [problem.where for problem in looked.problems] == ["loop.d/", "nothing.d/"]
    assert looked.keeps("nothing.d/conf.yaml")


def test_a_folder_that_links_to_its_parent_is_read_once(folder: Path) -> None:
    (folder / "up.d").symlink_to(folder)
    write(folder / "http_check.yaml")
    assert set(found(scan())) == {"http_check.yaml", "up.d/http_check.yaml"}


def test_a_file_that_was_replaced_after_the_look_is_not_read(folder: Path) -> None:
    path = write(folder / "http_check.yaml")
    (look,) = scan().found
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(files.Unsettled):
        look.read()


def test_a_file_that_vanished_after_the_look_is_a_passing_problem(folder: Path) -> None:
    path = write(folder / "http_check.yaml")
    (look,) = scan().found
    path.unlink()
    with pytest.raises(BrokenConfig, match="No such file") as caught:
        look.read()
    assert not caught.value.lasting


# When a file is read


def test_a_file_is_read_once_its_times_are_a_second_old(folder: Path, clock: Clock) -> None:
    write(folder / "http_check.yaml")
    source = FileSource()
    clock.now += 0.5
    first = source.scan()
    assert (first.found, first.unsettled) == ([], {"http_check.yaml"})
    assert first.keeps("http_check.yaml")
    clock.now += 0.6
    looked = source.scan()
    assert (set(found(looked)), looked.unsettled) == ({"http_check.yaml"}, set())


def test_a_new_process_need_not_look_twice(folder: Path, clock: Clock) -> None:
    write(folder / "http_check.yaml")
    clock.now += 1.1
    assert set(found(scan())) == {"http_check.yaml"}


@pytest.mark.parametrize("ahead", [5, 3600])
def test_two_looks_tell_when_a_file_s_clock_is_ahead(folder: Path, clock: Clock, ahead: float) -> None:
    path = write(folder / "http_check.yaml")
    os.utime(path, (clock.now + ahead, clock.now + ahead))
    source = FileSource()
    assert source.scan().unsettled
    clock.now += 0.9
    assert source.scan().unsettled
    clock.now += 0.2
    assert set(found(source.scan())) == {"http_check.yaml"}


def test_a_change_between_two_looks_starts_the_second_anew(folder: Path, clock: Clock) -> None:
    path = write(folder / "http_check.yaml", "instances:")
    source = FileSource()
    assert source.scan().unsettled
    clock.now += 5
    write(path)
    assert source.scan().unsettled
    clock.now += 0.9
    write(path, CONFIG + "# more")
    assert source.scan().unsettled
    clock.now += 1
    assert set(found(source.scan())) == {"http_check.yaml"}


def test_a_second_edit_is_read_as_soon_as_the_first(folder: Path, clock: Clock) -> None:
    source = FileSource()
    for text in ("first", "second"):
        write(folder / "http_check.yaml", f"instances: [{{url: {text}}}]")
        clock.now += 1.1
        (config,) = found(source.scan()).values()
        assert config.instances == (f"url: {text}\n",)


def test_an_edit_that_keeps_size_and_time_is_another_version(folder: Path) -> None:
    path = write(folder / "http_check.yaml", "instances: [{url: a}]")
    before = path.stat()
    (first,) = scan().found
    path.write_text("instances: [{url: b}]")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    (second,) = scan().found
    assert first.version != second.version


# What a file says


def test_a_file_makes_one_config_of_all_its_instances(folder: Path) -> None:
    config = only(
        folder,
        "init_config: {service: web}\ninstances: [{url: one}, {url: two}, ]\ncluster_check: true\n"
        "logs: [{type: file, path: /a}]\njmx_metrics: [{include: {domain: x}}]\n"
        "ignore_autodiscovery_tags: true\ncheck_tag_cardinality: high\nunknown: whatever\n",
    )
    assert config == IntegrationConfig(
        name="http_check",
        init_config="service: web\n",
        instances=("url: one\n", "url: two\n"),
        logs="logs:\n- path: /a\n  type: file\n",
        metric_config="- include:\n    domain: x\n",
        provider="file",
        source="file:http_check.yaml",
        cluster_check=True,
        ignore_autodiscovery_tags=True,
        check_tag_cardinality="high",
    )


def test_an_instance_that_says_nothing_is_an_empty_map(folder: Path) -> None:
    assert only(folder, "instances:\n  -\n  - {}\n").instances == ("{}\n", "{}\n")


def test_identifiers_make_a_template_and_a_node_makes_an_endpoint_check(folder: Path) -> None:
    template = only(folder, "ad_identifiers: [redis, 7]\ninstances: [{host: '%%host%%', pw: '%%env_NOT_THERE%%'}]")
    assert (template.is_template, template.ad_identifiers) == (True, ("redis", "7"))
    advanced = only(folder, "advanced_ad_identifiers: [{kube_service: {name: web}}]\ninstances: [{}]")
    assert advanced.is_template
    assert advanced.advanced_ad_identifiers == ({"kube_service": {"name": "web"}},)
    selected = only(
        folder, "cel_selector: {kube_services: ['true'], pods: null}\ninstances: [{a: '%%env_NOT_THERE%%'}]"
    )
    assert (selected.is_template, selected.ad_identifiers) == (True, ("cel://kube_service",))
    endpoint = only(folder, "ad_identifiers: [redis]\nnode_name: birch\ninstances: [{host: '%%host%%'}]")
    assert (endpoint.is_template, endpoint.node_name) == (False, "birch")
    assert endpoint.instances == ("host: '%%host%%'\n",)


@pytest.mark.parametrize("word", ["true", "True", "yes", "on", "y"])
def test_every_word_for_true_makes_a_cluster_check(folder: Path, word: str) -> None:
    assert only(folder, f"cluster_check: {word}\ninstances: [{{}}]").cluster_check


@table("word", ["false", "no", "", "~", "n"])
def test_every_word_for_false_makes_none(folder: Path, word: str) -> None:
    assert not only(folder, f"cluster_check: {word}\ninstances: [{{}}]").cluster_check


@table("value", ["12:30:45", "22:22", "010", "1e3", "1.10", "yes", "no", "~", "2024-01-01", "=", "0x1F",
                                   "1_000", ".5", "+1", "NaN", "é", "'010'", "'yes'"])  # fmt: skip
def test_no_scalar_is_reinterpreted(folder: Path, value: str) -> None:
    config = only(folder, f"init_config: {{a: {value}}}\ninstances: [{{a: {value}}}]\nlogs: [{{a: {value}}}]\n")
    written = f"a: {value}\n" if value != "~" else "a: null\n"
    assert config.instances == (written,)
    assert config.init_config == written
    assert config.logs == f"logs:\n- {written}"


def test_anchors_are_expanded_wherever_they_stand(folder: Path) -> None:
    config = only(
        folder,
        "init_config: &shared\n  timeout: 1e3\n  tags: &tags [a]\n"
        "instances:\n  - <<: *shared\n    url: one\n  - tags: *tags\n    at: 12:30:45\n",
    )
    assert config.init_config == "tags:\n- a\ntimeout: 1e3\n"
    assert config.instances == ("tags:\n- a\ntimeout: 1e3\nurl: one\n", "at: 12:30:45\ntags:\n- a\n")


def test_a_byte_order_mark_and_windows_line_ends_are_fine(folder: Path) -> None:
    assert only(folder, b"\xef\xbb\xbf" + CONFIG.replace("\n", "\r\n").encode()).instances == ("url: http://one\n",)


@table(
    ("text", "problem", "line"),
    [
        ("", "is empty", None),
        (" \n", "is empty", None),
        ("# nothing\n", "has nothing but comments", None),
        ("text\n", "is not a map with keys such as init_config and instances", 1),
        ("- a\n", "is not a map with keys such as init_config and instances, but a list: put it under instances", 1),
        ("init_config:\n", "has no instances", 1),
        ("cluster_check: true\ninstances: []\n", "has no instances", 2),
        ("cluster_check: true\ninit_config:\ninstances:\n", "has no instances", 3),
        ("\ninstances: a\n", "instances is not a list", 2),
        ("\ninstances: {a: b}\n", "instances is not a list: put a dash before the first key of each", 2),
        ("instances:\n  - a: b\n  - text\n", "an instance is not a map", 3),
        ("instances: [{}]\ncluster_check: 'true'\n", "cluster_check is neither true nor false (without quotes)", 2),
        ("instances: [{}]\ncluster_check: 1\n", "cluster_check is neither true nor false (without quotes)", 2),
        ("instances: [{}]\nad_identifiers: redis\n", "ad_identifiers is not a list", 2),
        ("instances: [{}]\nad_identifiers: [{}]\n", "an item of ad_identifiers is not a text", 2),
        ("instances: [{}]\nnode_name: [a]\n", "node_name is not a text", 2),
        ("instances: [{a: 1}]\ninit_config:\ninstances: [{b: 2}]\n", "the key instances occurs twice", 3),
        ("instances: [{a: !!int b}]\n", "the tag !!int does not fit what follows it", 1),
        ("\ninstances:\n  -host: a\n", yamlerrors.NO_BLANK, 3),
        ("\ninstances:\n  -- host: a\n", yamlerrors.NO_BLANK, 3),
        ("\ninstances:\n  host: a\n  -port: 1\n", yamlerrors.NO_BLANK, 4),
        ("\ninstances:\n-host: a\n", yamlerrors.NO_BLANK, 3),
        ("\ninstances:\n-host: a\n-host: b\n", yamlerrors.NO_BLANK, 4),
        ("---\n---\ninstances: [{}]\n", "its first document is empty, and only the first one is read", None),
        (
            "instances:\n  - a: *nowhere\n",
            "an alias refers to no earlier anchor: put a text that begins with * in quotes",
            2,
        ),
        (b"a: b\ninstances: \xff\n", "is not UTF-8", 2),
        ("a: b\nc: \0\n", "holds a NUL character", None),
    ],
)
def test_what_is_wrong_is_told_with_its_line(folder: Path, text: str, problem: str, line: int | None) -> None:
    assert error(folder, text) == (problem, line)


@pytest.mark.parametrize("rest", ["---\n", "---\ninstances: [{b: 2}]\n", "...\n", "---\n]"])
def test_the_first_document_is_the_config(folder: Path, rest: str) -> None:
    assert only(folder, f"instances: [{{a: 1}}]\n{rest}").instances == ("a: 1\n",)


def test_a_merge_key_overrides_what_stands_before_it_as_for_node_agents(folder: Path) -> None:
    config = only(folder, "instances: [{a: 1, b: 1, <<: [{b: 2, c: 2}, {c: 3, d: 3}], d: 4}]")
    assert config.instances == ("a: 1\nb: 2\nc: 2\nd: 4\n",)


def test_an_anchor_that_is_named_twice_is_the_last_one_before_its_alias(folder: Path) -> None:
    assert only(folder, "instances: [{a: &x 1, b: &x 2, c: *x}]").instances == ("a: 1\nb: 2\nc: 2\n",)
    assert only(folder, "instances: [{a: &x 1, b: &x 2}]").instances == ("a: 1\nb: 2\n",)


def test_a_huge_file_is_not_even_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "http_check.yaml"
    with path.open("wb") as stream:
        stream.truncate(10**12)
    monkeypatch.delattr(os, "open")
    (look,) = scan().found
    with pytest.raises(BrokenConfig, match="has 1000000000000 bytes, allowed are 1048576"):
        look.read()


@pytest.mark.parametrize("text", ["[" * 100_000, "a: &a [1]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(9))])  # fmt: skip
def test_a_bomb_is_told_as_an_error(folder: Path, text: str) -> None:
    problem, _ = error(folder, text)
    assert "more than" in problem or "deeper than" in problem


@given(st.text(alphabet="abin:-[]{}&*!|>'\"%#~?@,.<0123 \n\t\r\x85\u2028\ufeff\ud800é", max_size=60), st.booleans())
@settings(max_examples=300, deadline=None)
def test_whatever_a_file_says_is_a_config_or_a_told_error(tail: str, as_instance: bool) -> None:
    text = f"instances:\n  - a: {tail}" if as_instance else f"instances: [{{}}]\ninit_config: {tail}"
    with suppress(InvalidYAML):
        lint(text, "http_check", written_here=True)
    with suppress(InvalidYAML):
        config = fileformat.parse(text, name="http_check", source="file:a")
        assert len(config.instances) >= 1
        assert patching.patch(config, ["a:b"]).wire


# Variables of the environment


@table(
    ("value", "written"),
    [("secret", "secret"), ("5432", "5432"), ("-7", "-7"), ("true", "true"), ("TRUE", "true"), ("0123", "83"),
     ("0x1F", "31"), ("089", "'089'"), ("9223372036854775808", "'9223372036854775808'"), ("t", "true"), ("F", "false"),
     ("1e3", "'1e3'"), ("", "''"), ("yes", "'yes'"), ("a: b", "'a: b'"), ("12:30", "'12:30'"), ("é", "'é'")],
)  # fmt: skip
def test_a_variable_alone_becomes_a_number_or_a_boolean_when_it_reads_as_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, value: str, written: str
) -> None:
    monkeypatch.setenv("CAST_VALUE", value)
    config = only(folder, "instances: [{a: '%%env_CAST_VALUE%%', b: 'x%%env_CAST_VALUE%%'}]")
    assert config.instances[0].startswith(f"a: {written}\n")
    assert yaml.safe_load(config.instances[0])["b"] == f"x{value}"


def test_variables_are_resolved_in_init_config_and_logs_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAST_A", "ash")
    monkeypatch.setenv("CAST_B", "birch")
    config = only(
        folder,
        "init_config: {a: 'http://%%env_CAST_A%%/%%env_CAST_B%%'}\ninstances: [{a: [{b: '%%env_CAST_A%%'}]}]\n"
        "logs: [{path: '%%env_CAST_B%%'}]\n",
    )
    assert config.init_config == "a: http://ash/birch\n"
    assert config.instances == ("a:\n- b: ash\n",)
    assert config.logs == "logs:\n- path: birch\n"


def test_other_variables_stay_as_they_are(folder: Path) -> None:
    config = only(folder, "instances: [{host: '%%host%%', query: \"like '%%a%%'\"}]")
    assert yaml.safe_load(config.instances[0]) == {"host": "%%host%%", "query": "like '%%a%%'"}


@pytest.mark.parametrize(
    ("text", "problem", "line"),
    [
        ("instances:\n  - a: b\n    pw: '%%env_CAST_GONE%%'\n",
         "%%env_CAST_GONE%%: there is no such environment variable", 3),
        ("instances:\n  - a: b\n    pw: 'x%%env%%'\n", "%%env%% names no variable", 3),
        ("instances:\n  - '%%env_CAST_GONE%%': b\n", "a key holds an %%env_...%% variable: only values may", 2),
    ],
)  # fmt: skip
def test_a_variable_that_cant_be_resolved_is_an_error(folder: Path, text: str, problem: str, line: int) -> None:
    assert error(folder, text) == (problem, line)


def test_the_options_say_which_variables_configs_may_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAST_A", "ash")
    monkeypatch.setattr(conf, "AD_ALLOWED_ENV_VARS", frozenset({"cast_a"}))
    assert only(folder, "instances: [{a: '%%env_CAST_A%%'}]").instances == ("a: ash\n",)
    forbidden = ("%%env_PATH%%: the options forbid this variable in configs", 1)
    assert error(folder, "instances: [{a: '%%env_PATH%%'}]") == forbidden
    monkeypatch.setattr(conf, "AD_DISABLE_ENV_VAR_RESOLUTION", True)
    assert error(folder, "instances: [{a: '%%env_CAST_A%%'}]")[0].endswith("forbid this variable in configs")


SECRETS = [
    "CLUSTERAGENT_LOCAL_TOKEN", "CLUSTERAGENT_SECRET_KEY_FILE", "CLUSTERAGENT_VAR", "clusteragent_local_token",
    "DATABASE_URL", "DATABASE_URL_FILE", "SECRET_KEY", "DJANGO_SECRET_KEY", "PGPASSWORD", "PGPASSFILE", "PG_SSL_PASS",
    "DD_CLUSTER_AGENT_AUTH_TOKEN", "DD_CLUSTER_AGENT_AUTH_TOKEN_FILE", "DD_API_KEY", "DD_APP_KEY", "DD_API_KEY_FILE",
    "DD_EXTERNAL_METRICS_PROVIDER_API_KEY", "DD_LOGS_CONFIG_ADDITIONAL_ENDPOINTS",
]  # fmt: skip


@table("name", SECRETS)
@table("value", ["hunter22", None])
def test_our_own_secrets_are_refused_whether_there_or_not_and_whatever_the_options_allow(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    if value is None:
        monkeypatch.delenv(name, raising=False)
    else:
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(conf, "AD_ALLOWED_ENV_VARS", frozenset({name.lower()}))
    problem = f"%%env_{name}%%: configs never get this program's own secrets"
    for text in (
        f"instances:\n- a: 'x%%env_{name}%%'\n",
        f"init_config:\n  a: [b, '%%x%%%%env_{name}%%']\ninstances: [{{}}]\n",
        f'instances:\n- a: "\\x25%env_{name}%%"\n',
    ):
        assert error(folder, text) == (problem, 2)


@pytest.mark.parametrize("name", ["DB_PASSWORD", "PGHOST", "DD_SITE", "MY_API_KEY", "APGPASS"])
def test_other_names_may_be_used(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "ash")
    assert only(folder, f"instances: [{{a: '%%env_{name}%%'}}]").instances == ("a: ash\n",)
