"""What topics take on the broker's disk, by Kafka's own tool, which `make setup` brings with the development broker."""

import json
import os
import subprocess

from sandbox.kafka import jars

_SECONDS = 60
_TOOL = "org.apache.kafka.tools.LogDirsCommand"


def disk_bytes(bootstrap: str, prefix: str) -> dict[str, int] | None:
    """Bytes of each topic whose name begins with the prefix, by the rest of its name; of one replica of each partition.

    Blocks for seconds: a JVM starts. None where there is no Java, or Kafka's jars have not been fetched.
    """
    java, folder = jars.java_command(os.environ), jars.cached_jars(os.environ)
    if java is None or not folder.is_dir():
        return None
    command = [java, "-Xmx128m", "-cp", f"{folder}/*", _TOOL, "--bootstrap-server", bootstrap, "--describe"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)  # noqa: S603 - Kafka's own tool
    except (OSError, subprocess.SubprocessError):
        return None
    answer = next((line for line in done.stdout.splitlines() if line.startswith("{")), None)
    return None if answer is None else _largest(json.loads(answer), prefix)


def _largest(
    document: dict[str, list[dict[str, list[dict[str, list[dict[str, object]]]]]]], prefix: str
) -> dict[str, int]:
    """The sizes in the tool's answer; of a partition's replicas the largest counts."""
    partitions: dict[str, int] = {}
    for broker in document["brokers"]:
        for folder in broker["logDirs"]:
            for each in folder["partitions"]:
                name, size = str(each["partition"]), int(str(each["size"]))
                partitions[name] = max(size, partitions.get(name, 0))
    found: dict[str, int] = {}
    for name, size in partitions.items():
        topic = name.rpartition("-")[0]
        if topic.startswith(prefix):
            rest = topic.removeprefix(prefix)
            found[rest] = found.get(rest, 0) + size
    return found
