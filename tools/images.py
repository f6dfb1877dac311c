"""Build the images and try each one: `make images`.

Needs a Docker engine. Where none answers, but `dockerd` is installed and this is root, one is started for the time of
the run, on a socket of its own. BASE gives another base image, TAG another tag than `dev`.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
IMAGES = {
    "extractor": "services/extractor/Dockerfile",
    "transformer": "services/transformer/Dockerfile",
    "loader": "services/loader/Dockerfile",
    "cli": "cli/Dockerfile",
    "sandbox": "sandbox/Dockerfile",
}
SERVICES = {
    "extractor": "extractor",
    "webhooks": "extractor",
    "transformer": "transformer",
    "loader": "loader",
}
BASE = os.environ.get("BASE") or "python:3.11-slim-bookworm"
TAG = os.environ.get("TAG") or "dev"
MOST_BYTES = 80_000_000
"""What a service may add to its base."""
LOCKED = [
    "--read-only",
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
    "--tmpfs",
    "/data:uid=10001",
]
TOOLS = ("pip", "pip3", "gcc", "cc", "make", "ld")
_ENGINE_SECONDS = 30
_EXIT_CONFIGURATION = 2
_SETTINGS = {
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "TENANT_PROFILE": "/nowhere.yaml",
    "ESTAR_BASE_URL": "http://127.0.0.1:1",
    "ESTAR_USERNAME": "smoke",
    "ESTAR_PASSWORD": "smoke",
    "ESTAR_WEBHOOK_SECRET": "smoke",
    "DOTDIGITAL_USERNAME": "smoke",
    "DOTDIGITAL_PASSWORD": "smoke",
}


class Failure(Exception):  # noqa: N818 - one line for people
    """An image is not as it must be."""


def docker(*arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run docker; what it printed and its exit code."""
    command = ["docker", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout)  # noqa: S603 - our own command


@contextmanager
def engine() -> Iterator[None]:
    """A Docker engine: the one that answers, else one for this run only."""
    if shutil.which("docker") is None:
        raise Failure("there is no `docker` here: install Docker (Debian: apt-get install docker.io)")
    if docker("version", "--format", "{{.Server.Version}}").returncode == 0:
        yield
        return
    if shutil.which("dockerd") is None or os.geteuid() != 0:
        raise Failure("no Docker engine answers: start Docker, or set DOCKER_HOST to where one runs")
    with TemporaryDirectory(prefix="estarsync-docker-") as folder, (Path(folder) / "log").open("wb") as log:
        os.environ["DOCKER_HOST"] = f"unix://{folder}/docker.sock"
        command = ["dockerd", "--host", os.environ["DOCKER_HOST"], "--pidfile", f"{folder}/pid"]
        process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - our own command
        try:
            deadline = time.monotonic() + _ENGINE_SECONDS  # noqa: TID251 - a script has no clock handed in
            while docker("version", "--format", "{{.Server.Version}}").returncode != 0:
                if process.poll() is not None or time.monotonic() > deadline:  # noqa: TID251 - as above
                    last = "\n".join((Path(folder) / "log").read_text(errors="replace").splitlines()[-5:])
                    raise Failure(f"no Docker engine answers, and `dockerd` does not start:\n{last}")
                time.sleep(0.2)  # noqa: TID251 - as above
            yield
        finally:
            process.terminate()
            process.wait(60)


def build(name: str, revision: str) -> None:
    """Build one image."""
    arguments = ["--build-arg", f"BASE={BASE}", "--build-arg", f"REVISION={revision}"]
    if os.environ.get("BUILD_NETWORK"):
        arguments += ["--network", os.environ["BUILD_NETWORK"]]
    done = docker(
        "build", "--quiet", *arguments, "-f", IMAGES[name], "-t", tag_of(name), str(ROOT), timeout=1800
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()
        raise Failure(
            f"{name} does not build; give another base image with BASE=… where {BASE} can't be had:\n{said}"
        )


def tag_of(name: str) -> str:
    """An image's name."""
    return f"estarsync/{name}:{TAG}"


def facts(image: str) -> dict[str, object]:
    """What the engine says of an image."""
    done = docker("image", "inspect", image)
    if done.returncode != 0:
        raise Failure(f"there is no image {image}: {done.stderr.strip()}")
    found: dict[str, object] = json.loads(done.stdout)[0]
    return found


def size(image: str) -> int:
    """An image's bytes."""
    return int(str(facts(image)["Size"]))


def shell(name: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script inside an image, as locked down as in the manifests."""
    return docker(
        "run", "--rm", "--network", "none", *LOCKED, "--entrypoint", "sh", tag_of(name), "-c", script
    )


def smoke(name: str) -> None:
    """What must hold for every image."""
    config = facts(tag_of(name))["Config"]
    expect(
        isinstance(config, dict) and config["User"] == "10001:10001", f"{name} does not run as 10001:10001"
    )
    done = shell(name, "id -u; touch /opt/estarsync/x 2>/dev/null && echo writable; exit 0")
    expect(done.stdout == "10001\n", f"{name} runs as root, or its files can be written: {done.stdout!r}")
    found = shell(
        name, f"command -v {' '.join(TOOLS)}; python -c 'import pip' 2>/dev/null && echo pip; exit 0"
    )
    expect(not found.stdout.strip(), f"{name} holds build tools: {found.stdout.split()}")


def smoke_service(command: str, name: str) -> None:
    """Wrong settings are named and end a service; with right ones it is alive, and ends when it is told to."""
    done = docker("run", "--rm", "--network", "none", *LOCKED, tag_of(name), command)
    expect(
        done.returncode == _EXIT_CONFIGURATION and "KAFKA_BOOTSTRAP_SERVERS is not set" in done.stderr,
        f"{command} without settings ends with {done.returncode}: {done.stderr[-300:]!r}",
    )
    environment = [argument for pair in _SETTINGS.items() for argument in ("-e", "=".join(pair))]
    started = docker("run", "-d", "--network", "none", *LOCKED, *environment, tag_of(name), command)
    container = started.stdout.strip()
    try:
        wait_alive(container, command)
        stopped = docker("stop", "--time", "20", container)
        state = json.loads(docker("inspect", "--format", "{{json .State}}", container).stdout)
        expect(stopped.returncode == 0 and state["ExitCode"] != 137, f"{command} had to be killed")  # noqa: PLR2004 - SIGKILL
    finally:
        docker("rm", "-f", container)


def wait_alive(container: str, command: str) -> None:
    """Until the probe inside says yes, which depends on nothing outside."""
    for _ in range(50):
        if docker("exec", container, "python", "-m", "estarsync_runtime.probe").returncode == 0:
            ready = docker("exec", container, "python", "-m", "estarsync_runtime.probe", "readyz").returncode
            expect(ready == 1, f"{command} is ready without Kafka")
            return
        time.sleep(0.2)  # noqa: TID251 - as above
    raise Failure(f"{command} never said that it is alive: {docker('logs', container).stderr[-300:]!r}")


def expect(holds: object, otherwise: str) -> None:
    """Fail with words."""
    if not holds:
        raise Failure(otherwise)


def git_revision(environment: Mapping[str, str]) -> str:
    """The commit that is built."""
    if "REVISION" in environment:
        return environment["REVISION"]
    done = subprocess.run(  # noqa: S603 - our own command
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"],  # noqa: S607 - whichever git there is
        check=False,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip() or "unknown"


def main() -> int:
    """Build and try everything; 0 where every image is as it must be."""
    try:
        with engine():
            for name in IMAGES:
                build(name, git_revision(os.environ))
                smoke(name)
            for command, name in SERVICES.items():
                smoke_service(command, name)
            base = size(BASE)
            for name in IMAGES:
                added = size(tag_of(name)) - base
                print(f"{tag_of(name)}: builds and holds; {added / 1e6:.0f} MB on top of its base")
                limit = MOST_BYTES if name in SERVICES.values() else 2 * MOST_BYTES
                expect(added <= limit, f"{name} adds {added:,} bytes to its base; {limit:,} are allowed")
    except Failure as failure:
        print(f"images: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
