"""Which broker: the one that is given, else a real Kafka, else librdkafka's mock."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from estarsync_core.clock import Clock
from estarsync_core.errors import ConfigurationError
from estarsync_runtime.clock import SystemClock
from sandbox.kafka import container, jars, mock
from sandbox.kafka.kinds import KAFKA_VERSION, Broker, Kind, Unavailable
from sandbox.kafka.node import kafka_node
from sandbox.kafka.ping import answers

_GIVEN_SECONDS = 8.0
_GIVEN_REMEDY = "start it, mend the address, or unset the variable to have a broker started for you"
_FORCIBLE: tuple[Kind, ...] = ("docker", "maven", "mock")

Opener = Callable[[], AbstractContextManager[Broker]]


@dataclass(frozen=True, slots=True)
class Facts:
    """What this machine offers.

    Args:
        given: KAFKA_BOOTSTRAP_SERVERS.
        forced: SANDBOX_BROKER.
        docker: why Docker is out of the question, or None where an engine answers.
        java: feature release of the `java` found.
        mvn: whether `mvn` is there.
        jars: whether Kafka's jars have been fetched before.
    """

    given: str | None = None
    forced: str | None = None
    docker: str | None = None
    java: int | None = None
    mvn: bool = False
    jars: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """The kinds to try, best first, and a line for each better one that is out of the question."""

    kinds: tuple[Kind, ...]
    refusals: tuple[str, ...] = ()


def plan(facts: Facts, *, real: bool = False) -> Plan:
    """What to try, from what is known.

    Args:
        facts: about this machine.
        real: leave the mock out.

    Raises:
        ConfigurationError: a wish that can't be granted, or no real broker where one is asked for.
    """
    if facts.forced is not None and facts.forced not in _FORCIBLE:
        raise ConfigurationError([f"SANDBOX_BROKER is {facts.forced!r}; give one of {', '.join(_FORCIBLE)}"])
    if facts.given is not None and facts.forced is not None:
        raise ConfigurationError(["KAFKA_BOOTSTRAP_SERVERS and SANDBOX_BROKER are both set: unset one"])
    if facts.given is not None:
        return Plan(("given",))
    obstacles: dict[Kind, str | None] = {"docker": facts.docker, "maven": _no_maven(facts), "mock": None}
    if real:
        obstacles["mock"] = "the mock is no real Kafka, and one is required"
    if facts.forced is not None:
        forced = next(kind for kind in _FORCIBLE if kind == facts.forced)
        if obstacle := obstacles[forced]:
            raise ConfigurationError([f"SANDBOX_BROKER={forced}, but {obstacle}"])
        return Plan((forced,))
    refusals = tuple(
        f"no Kafka from {kind}: {why}" for kind, why in obstacles.items() if why and kind != "mock"
    )
    kinds = tuple(kind for kind, why in obstacles.items() if not why)
    if not kinds:
        raise ConfigurationError([*refusals, _advice()])
    return Plan(kinds, refusals)


def probe(env: Mapping[str, str]) -> Facts:
    """Look at this machine, no further than needed; blocks for a few seconds at most."""
    given, forced = env.get("KAFKA_BOOTSTRAP_SERVERS") or None, env.get("SANDBOX_BROKER") or None
    if given is not None or forced == "mock":
        return Facts(given, forced)
    java = jars.java_command(env)
    return Facts(
        forced=forced,
        docker=container.obstacle(env) if forced != "maven" else None,
        java=jars.java_version(java) if java else None,
        mvn=jars.maven_command(env) is not None,
        jars=jars.cached_jars(env).is_dir(),
    )


@contextmanager
def broker(log: Callable[[str], None], *, real: bool = False) -> Iterator[Broker]:
    """A broker that answers, for as long as the block runs.

    KAFKA_BOOTSTRAP_SERVERS if that is set; else a real Kafka in Docker or from Maven; else librdkafka's mock.
    SANDBOX_BROKER=docker|maven|mock asks for one kind. A broker started here ends with the block, or with
    this process, however that ends.

    Args:
        log: takes lines for people: why a better choice was not taken, and what there is now.
        real: do without the mock.

    Raises:
        ConfigurationError: the one that is given doesn't answer, or none can be had.
    """
    env = os.environ
    facts = probe(env)
    with ExitStack() as stack:
        wishes = plan(facts, real=real)
        found = first_of(wishes, _openers(env, log, SystemClock()), log, stack)
        log(f"broker: {found.description}, at {found.bootstrap}")
        yield found


def first_of(
    wishes: Plan, openers: Mapping[Kind, Opener], log: Callable[[str], None], stack: ExitStack
) -> Broker:
    """Open the first kind that works; it is closed with the stack.

    Raises:
        ConfigurationError: none works.
    """
    for refusal in wishes.refusals:
        log(refusal)
    reasons = list(wishes.refusals)
    for kind in wishes.kinds:
        try:
            return stack.enter_context(openers[kind]())
        except Unavailable as reason:
            reasons.append(f"no Kafka from {kind}: {reason}")
            log(reasons[-1])
    raise ConfigurationError([*reasons, _advice()])


def _openers(env: Mapping[str, str], log: Callable[[str], None], clock: Clock) -> dict[Kind, Opener]:
    return {
        "given": partial(given_broker, env.get("KAFKA_BOOTSTRAP_SERVERS", "")),
        "docker": partial(container.kafka_in_docker, log, clock),
        "maven": partial(_from_maven, env, log, clock),
        "mock": mock.mock_cluster,
    }


@contextmanager
def given_broker(bootstrap: str, seconds: float = _GIVEN_SECONDS) -> Iterator[Broker]:
    """The broker of KAFKA_BOOTSTRAP_SERVERS, which has so many seconds to answer.

    Raises:
        ConfigurationError: it doesn't.
    """
    if not answers(bootstrap, seconds):
        raise ConfigurationError(
            [f"KAFKA_BOOTSTRAP_SERVERS={bootstrap}: no broker answered within {seconds:g} s; {_GIVEN_REMEDY}"]
        )
    yield Broker(bootstrap, "given", "the broker given in KAFKA_BOOTSTRAP_SERVERS")


@contextmanager
def _from_maven(env: Mapping[str, str], log: Callable[[str], None], clock: Clock) -> Iterator[Broker]:
    java = jars.java_command(env)
    if java is None:
        raise Unavailable("no java")
    folder = jars.cached_jars(env)
    jars.ensure_jars(folder, log)
    with kafka_node(java, folder, clock) as (bootstrap, process):
        yield Broker(
            bootstrap, "maven", f"Apache Kafka {KAFKA_VERSION}, one node, brought by Maven", process.pid
        )


def _no_maven(facts: Facts) -> str | None:
    if facts.java is None:
        return f"no java is found; {jars.JAVA_NEEDED} or newer is needed"
    if facts.java < jars.JAVA_NEEDED:
        return f"java is {facts.java}; {jars.JAVA_NEEDED} or newer is needed"
    if not facts.mvn and not facts.jars:
        return "no mvn is found"
    return None


def _advice() -> str:
    return (
        f"start Docker, or install a JDK {jars.JAVA_NEEDED} and Maven, "
        "or set KAFKA_BOOTSTRAP_SERVERS to a broker that runs"
    )
