"""One Apache Kafka node on this machine, from jars: broker and controller in one process."""

import base64
import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from estarsync_core.clock import Clock
from sandbox import processes
from sandbox.kafka.kinds import MAX_MESSAGE_BYTES, Unavailable
from sandbox.kafka.ping import wait_until_up
from sandbox.processes import Process

_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_TRIES = 3
# One small heap and the quick compiler: it starts in two seconds and leaves the cores to the services.
_JVM = ["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]

SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "5",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "5",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "5",
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "false",
    "message.max.bytes": str(MAX_MESSAGE_BYTES),
}
"""What a single node for development needs, however it is run."""


@contextmanager
def kafka_node(java: str, jars: Path, clock: Clock) -> Iterator[tuple[str, Process]]:
    """Run a node, and yield its bootstrap address and its process once it answers.

    Its data lies in a temporary folder and goes when it stops, which is at the end of the block or of this
    process, whichever comes first.

    Raises:
        Unavailable: it doesn't start; the text carries the last lines of its log.
    """
    for attempt in range(1, _TRIES + 1):
        with temporary_folder(Path(tempfile.gettempdir())) as folder:
            bootstrap = f"127.0.0.1:{processes.free_port()}"
            process = _start(java, jars, folder, bootstrap)
            try:
                if wait_until_up(bootstrap, _START_SECONDS, clock, process.alive):
                    yield bootstrap, process
                    return
                complaint = process.tail(5)
            finally:
                processes.stop(process, _STOP_SECONDS)
            # Another process took a port between our choice and Kafka's start: choose again.
            if "Address already in use" not in process.tail(50) or attempt == _TRIES:
                raise Unavailable(f"Kafka did not start:\n{complaint}")


def _start(java: str, jars: Path, folder: Path, bootstrap: str) -> Process:
    controller = f"127.0.0.1:{processes.free_port()}"
    settings = {
        **SETTINGS,
        "controller.quorum.voters": f"1@{controller}",
        "listeners": f"PLAINTEXT://{bootstrap},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{bootstrap}",
        "log.dirs": str(folder / "data"),
    }
    properties = folder / "node.properties"
    properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    (folder / "log4j2.xml").write_bytes(files("sandbox.kafka").joinpath("log4j2.xml").read_bytes())
    command = [java, *_JVM, f"-Dlog4j2.configurationFile={folder / 'log4j2.xml'}", "-cp", f"{jars}/*"]
    # It starts with an A, because the storage tool takes an id that starts with a dash for an option.
    cluster = base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).rstrip(b"=").decode()
    _format(command, cluster, properties, folder)
    return processes.start(
        "kafka", [*command, "kafka.Kafka", str(properties)], os.environ, folder / "kafka.log"
    )


def _format(command: list[str], cluster: str, properties: Path, folder: Path) -> None:
    tool = [*command, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)]
    process = processes.start("kafka-storage", tool, os.environ, folder / "format.log")
    try:
        code = process.wait(_START_SECONDS)
    finally:
        processes.stop(process, 0)
    if code != 0:
        raise Unavailable(f"Kafka could not format its folder:\n{process.tail(5)}")


@contextmanager
def temporary_folder(root: Path) -> Iterator[Path]:
    """A folder that goes with the block; those of owners that were killed are removed on the way."""
    prefix = f"estarsync-kafka-{os.getuid()}-"
    for other in root.glob(f"{prefix}*/owner.lock"):
        try:
            with other.open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # its owner lives, or has just removed it
        shutil.rmtree(other.parent, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=root, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with (folder / "owner.new").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (folder / "owner.new").rename(folder / "owner.lock")  # shows up only when it is locked
            yield folder
