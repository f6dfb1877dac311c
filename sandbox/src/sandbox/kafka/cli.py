"""`sandbox kafka`: the broker by hand."""

import os
import signal
import threading
from typing import Annotated, NoReturn

import typer

from estarsync_core.errors import ConfigurationError
from estarsync_core.topics import declared_topics
from estarsync_runtime.kafka.admin import apply_topics
from sandbox.kafka import jars
from sandbox.kafka.choice import broker, plan, probe
from sandbox.kafka.kinds import KAFKA_VERSION, Broker, Unavailable

app = typer.Typer(no_args_is_help=True, help="A Kafka broker for development and tests.")

_ADMIN_SECONDS = 15.0
_NAMES = {
    "given": "the broker of KAFKA_BOOTSTRAP_SERVERS",
    "docker": "Kafka in Docker",
    "maven": f"Apache Kafka {KAFKA_VERSION} from Maven",
    "mock": "librdkafka's mock, which serves a small demo and no test of delivery",
}


@app.command()
def fetch() -> None:
    """Make Kafka ready for later, where a JDK and Maven are present; say what will be used."""
    try:
        facts = probe(os.environ)
        wishes = plan(facts)
    except ConfigurationError as error:
        _fail(error)
    kinds, reasons = list(wishes.kinds), list(wishes.refusals)
    if "maven" in kinds and not facts.jars:
        try:
            jars.ensure_jars(jars.cached_jars(os.environ), _say)
        except Unavailable as reason:
            kinds.remove("maven")
            reasons.append(f"no Kafka from maven: {reason}")
    best = f"the broker for tests and the demo: {_NAMES[kinds[0]]}" if kinds else "there is no broker"
    why = f" ({'; '.join(reasons)})" if not kinds or kinds[0] == "mock" else ""
    _say(f"{best}{why}")


@app.command()
def run(
    prefix: Annotated[str, typer.Option(envvar="TOPIC_PREFIX", help="Goes before each topic's name.")] = "",
) -> None:
    """Start a broker, create the topics, print its bootstrap address, and run until Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with broker(_say) as it:
            _create_topics(it, prefix)
            typer.echo(it.bootstrap)
            _say("running until Ctrl-C")
            threading.Event().wait()
    except ConfigurationError as error:
        _fail(error)
    except KeyboardInterrupt:
        _say("stopped")


def _create_topics(it: Broker, prefix: str) -> None:
    if not it.real:
        _say("the mock takes no topics: they appear on first use, with 4 partitions")
        return
    created = apply_topics({"bootstrap.servers": it.bootstrap}, declared_topics(), prefix, 1, _ADMIN_SECONDS)
    _say(f"topics: {len(created)} created, {len(declared_topics()) - len(created)} were there")


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _fail(error: ConfigurationError) -> NoReturn:
    for problem in error.problems:
        _say(problem)
    raise typer.Exit(2)
