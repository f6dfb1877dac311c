"""Which broker is taken on which machine, and how Kafka's jars are fetched."""

import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from typer.testing import CliRunner

from estarsync_core.errors import ConfigurationError
from estarsync_runtime.clock import SystemClock
from sandbox.kafka import container, jars, node
from sandbox.kafka.choice import Facts, Opener, Plan, first_of, given_broker, plan
from sandbox.kafka.cli import app
from sandbox.kafka.kinds import Broker, Kind, Unavailable
from sandbox.kafka.mock import mock_cluster

NO_DOCKER = "no Docker engine answers"
EVERYTHING = Facts(java=21, mvn=True)
NOTHING = Facts(docker=NO_DOCKER)


@pytest.mark.parametrize(
    ("facts", "kinds", "refusals"),
    [
        (Facts(given="kafka:9092"), ["given"], []),
        (EVERYTHING, ["docker", "maven", "mock"], []),
        (Facts(docker=NO_DOCKER, java=17, mvn=True), ["maven", "mock"], [NO_DOCKER]),
        (Facts(docker=NO_DOCKER, java=17, jars=True), ["maven", "mock"], [NO_DOCKER]),  # fetched before
        (Facts(docker=NO_DOCKER, java=11, mvn=True), ["mock"], [NO_DOCKER, "java is 11; 17 or newer"]),
        (Facts(docker=NO_DOCKER, java=21), ["mock"], [NO_DOCKER, "no mvn is found"]),
        (NOTHING, ["mock"], [NO_DOCKER, "no java is found; 17 or newer"]),
        (Facts(java=11), ["docker", "mock"], ["java is 11"]),
        (Facts(forced="docker", java=21, mvn=True), ["docker"], []),
        (Facts(forced="maven", java=21, mvn=True), ["maven"], []),
        (Facts(forced="mock"), ["mock"], []),
    ],
)
def test_the_best_broker_comes_first(facts: Facts, kinds: Sequence[Kind], refusals: Sequence[str]) -> None:
    found = plan(facts)
    assert list(found.kinds) == kinds
    assert len(found.refusals) == len(refusals)
    for line, part in zip(found.refusals, refusals, strict=True):
        assert part in line


@pytest.mark.parametrize(
    ("facts", "complaint"),
    [
        (Facts(forced="redpanda"), "SANDBOX_BROKER is 'redpanda'; give one of docker, maven, mock"),
        (Facts(forced="mock", given="kafka:9092"), "unset one"),
        (Facts(forced="docker", docker=NO_DOCKER), "SANDBOX_BROKER=docker, but no Docker engine answers"),
        (Facts(forced="maven", java=11, mvn=True), "SANDBOX_BROKER=maven, but java is 11"),
    ],
)
def test_a_wish_that_cannot_be_granted_is_said_so(facts: Facts, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan(facts)
    assert len(caught.value.problems) == 1
    assert complaint in caught.value.problems[0]


def test_the_mock_is_no_real_broker() -> None:
    assert plan(EVERYTHING, real=True).kinds == ("docker", "maven")
    with pytest.raises(ConfigurationError, match="SANDBOX_BROKER=mock, but"):
        plan(Facts(forced="mock"), real=True)
    with pytest.raises(ConfigurationError) as caught:
        plan(NOTHING, real=True)
    assert [problem.partition(",")[0] for problem in caught.value.problems] == [
        "no Kafka from docker: no Docker engine answers",
        "no Kafka from maven: no java is found; 17 or newer is needed",
        "start Docker",
    ]


def works(kind: Kind, events: list[str]) -> Opener:
    @contextmanager
    def opened() -> Iterator[Broker]:
        events.append(f"{kind} opened")
        yield Broker("127.0.0.1:9", kind, "")
        events.append(f"{kind} closed")

    return opened


def fails() -> AbstractContextManager[Broker]:
    raise Unavailable("the image can't be pulled")


def test_where_one_fails_the_next_is_taken_and_the_reason_is_told() -> None:
    events: list[str] = []
    openers: dict[Kind, Opener] = {"docker": fails, "maven": works("maven", events), "mock": fails}
    with ExitStack() as stack:
        found = first_of(Plan(("docker", "maven", "mock")), openers, events.append, stack)
        assert found.kind == "maven"
    assert events == ["no Kafka from docker: the image can't be pulled", "maven opened", "maven closed"]


def test_where_all_fail_every_reason_is_told() -> None:
    with ExitStack() as stack, pytest.raises(ConfigurationError) as caught:
        first_of(Plan(("maven",), ("no Docker",)), {"maven": fails}, lambda _: None, stack)
    assert caught.value.problems[:2] == ("no Docker", "no Kafka from maven: the image can't be pulled")


def test_a_given_broker_that_does_not_answer_is_one_clear_line() -> None:
    with pytest.raises(ConfigurationError) as caught, given_broker("127.0.0.1:1", 0.2):
        pass
    (problem,) = caught.value.problems
    assert problem.startswith(
        "KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:1: no broker answered within 0.2 s; start it"
    )


def test_the_mock_serves_other_clients_and_says_what_it_is() -> None:
    with mock_cluster() as broker:
        assert not broker.real
        assert "not Kafka" in broker.description
        with given_broker(broker.bootstrap, 5):
            writer = Producer({"bootstrap.servers": broker.bootstrap})
            writer.produce("anything", b"value")
            assert writer.flush(10) == 0
            reader = Consumer(
                {
                    "bootstrap.servers": broker.bootstrap,
                    "group.id": "it",
                    "auto.offset.reset": "earliest",
                    "session.timeout.ms": 6000,
                }
            )
            assert len(reader.list_topics("anything", timeout=5).topics["anything"].partitions) == 4
            reader.close()


# Docker


@contextmanager
def engine(path: Path, answer: bytes) -> Iterator[dict[str, str]]:
    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1024)
            connection.sendall(answer)

    with socket.socket(socket.AF_UNIX) as server, ThreadPoolExecutor(1) as pool:
        server.bind(str(path))
        server.listen()
        pool.submit(serve)
        yield {"DOCKER_HOST": f"unix://{path}"}


def test_a_docker_engine_that_answers_is_no_obstacle(tmp_path: Path) -> None:
    with engine(tmp_path / "s", b"HTTP/1.0 200 OK\r\n\r\nOK") as env:
        assert container.obstacle(env) is None


def test_a_docker_engine_that_is_ill_or_away_is_one(tmp_path: Path) -> None:
    with engine(tmp_path / "ill", b"HTTP/1.0 500 Oops\r\n\r\n") as env:
        assert container.obstacle(env) == f"the Docker engine at {tmp_path / 'ill'} is not well"
    away = container.obstacle({"DOCKER_HOST": f"unix://{tmp_path / 'none'}"})
    assert away == f"no Docker engine answers at {tmp_path / 'none'} (No such file or directory)"
    far = container.obstacle({"DOCKER_HOST": "tcp://far:2375"})
    assert far is not None
    assert "only an engine of this machine" in far


# Java


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str, str], Path]:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    return write


@pytest.mark.parametrize(
    ("says", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "25-ea" 2025-09-16', 25),
        ('java version "1.8.0_402"', 8),
        ("Unable to locate a Java Runtime.", None),
    ],
)
def test_javas_version_is_read(script: Callable[[str, str], Path], says: str, version: int | None) -> None:
    assert jars.java_version(str(script("java", f"echo '{says}' >&2"))) == version


def test_java_home_comes_before_path(script: Callable[[str, str], Path], tmp_path: Path) -> None:
    on_path, at_home = script("path/java", ""), script("home/bin/java", "")
    env = {"PATH": str(on_path.parent)}
    assert jars.java_command(env) == str(on_path)
    assert jars.java_command({**env, "JAVA_HOME": str(tmp_path / "home")}) == str(at_home)
    assert jars.java_command({**env, "JAVA_HOME": str(tmp_path / "gone")}) == str(on_path)
    assert jars.java_command({"PATH": str(tmp_path)}) is None
    assert jars.java_version(str(tmp_path / "gone")) is None


# Jars


def brings_a_jar(pom: Path, target: Path) -> None:
    assert "kafka_2.13" in pom.read_text()
    target.mkdir()
    (target / "kafka.jar").touch()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return jars.cached_jars({"XDG_CACHE_HOME": str(tmp_path)})


def test_jars_are_fetched_once(cache: Path) -> None:
    lines: list[str] = []
    jars.ensure_jars(cache, lines.append, brings_a_jar)
    jars.ensure_jars(cache, lines.append, brings_a_jar)
    assert [path.name for path in cache.iterdir()] == ["kafka.jar"]
    assert len(lines) == 1


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), Unavailable("offline")])
def test_an_interrupted_fetch_leaves_nothing(cache: Path, interruption: BaseException) -> None:
    def interrupted(pom: Path, target: Path) -> None:
        brings_a_jar(pom, target)
        raise interruption

    with pytest.raises(type(interruption)):
        jars.ensure_jars(cache, lambda _: None, interrupted)
    assert [path.name for path in cache.parent.iterdir()] == ["fetch.lock"]


def test_what_a_killed_fetch_left_is_removed_by_the_next(cache: Path) -> None:
    leftover = cache.parent / "part-killed"
    leftover.mkdir(parents=True)
    (leftover / "half.jar").touch()
    jars.ensure_jars(cache, lambda _: None, brings_a_jar)
    assert cache.is_dir()
    assert not leftover.exists()


def test_two_fetches_at_once_are_one(cache: Path) -> None:
    begun, waiting = threading.Event(), threading.Event()
    fetches: list[Path] = []

    def slow(pom: Path, target: Path) -> None:
        fetches.append(target)
        begun.set()
        assert waiting.wait(10)
        brings_a_jar(pom, target)

    def notice(line: str) -> None:
        if "waiting" in line:
            waiting.set()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(jars.ensure_jars, cache, notice, slow)
        assert begun.wait(10)
        second = pool.submit(jars.ensure_jars, cache, notice, slow)
        first.result()
        second.result()
    assert len(fetches) == 1


# The node


def test_folders_of_killed_owners_are_removed_and_those_in_use_are_not(tmp_path: Path) -> None:
    orphan = tmp_path / f"estarsync-kafka-{os.getuid()}-orphan"
    orphan.mkdir()
    (orphan / "owner.lock").touch()
    with node.temporary_folder(tmp_path) as first, node.temporary_folder(tmp_path) as second:
        assert first.is_dir()
        assert second.is_dir()
        assert not orphan.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_node_that_does_not_start_says_why(script: Callable[[str, str], Path], tmp_path: Path) -> None:
    java = script("java", 'case "$*" in *StorageTool*) exit 0;; esac; echo "out of luck"; exit 1')
    with pytest.raises(Unavailable, match="out of luck"), node.kafka_node(str(java), tmp_path, SystemClock()):
        pass


def test_a_port_that_was_lost_is_chosen_anew(script: Callable[[str, str], Path], tmp_path: Path) -> None:
    count = tmp_path / "count"
    java = script(
        "java",
        f'case "$*" in *StorageTool*) exit 0;; esac; echo x >> {count}; echo "Address already in use"; exit 1',
    )
    with pytest.raises(Unavailable), node.kafka_node(str(java), tmp_path, SystemClock()):
        pass
    assert count.read_text().split() == ["x"] * 3


# The command


def test_fetch_says_what_will_be_used() -> None:
    env = {"KAFKA_BOOTSTRAP_SERVERS": "", "SANDBOX_BROKER": "mock"}
    result = CliRunner().invoke(app, ["fetch"], env=env)
    assert result.exit_code == 0
    assert "librdkafka's mock" in result.stderr


def test_a_wrong_setting_ends_the_command_with_code_2() -> None:
    env = {"KAFKA_BOOTSTRAP_SERVERS": "", "SANDBOX_BROKER": "best"}
    result = CliRunner().invoke(app, ["run"], env=env)
    assert result.exit_code == 2
    assert "give one of docker, maven, mock" in result.stderr
