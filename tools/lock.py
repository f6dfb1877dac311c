"""Write requirements/*.txt: one lock per service and one for development, with hashes and without URLs.

Run it as `make lock`. The members of the workspace depend on each other by name; those names are not on any
index, so this script gathers what each member needs from outside and gives only that to `uv pip compile`.
The development lock is made first and constrains the others: one version of a library everywhere.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEMBERS = {
    tomllib.loads(path.read_text())["project"]["name"]: path
    for path in sorted(ROOT.glob("**/pyproject.toml"))
    if path.parent != ROOT and ".venv" not in path.parts
}
LOCKS = {
    "extractor": "estarsync-extractor",
    "transformer": "estarsync-transformer",
    "loader": "estarsync-loader",
    "cli": "estarsync-cli",
    "sandbox": "estarsync-sandbox",
}
BUILD = {"setuptools>=77"}
"""What makes wheels of the members, in the build stage of an image."""


def outside(requirement: str) -> set[str]:
    """The third-party requirements behind one requirement, through the workspace's own members."""
    match = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[([a-z,]+)\])?(.*)", requirement)
    if match is None:
        raise SystemExit(f"tools/lock.py: cannot read the requirement {requirement!r}")
    name, extras, _ = match.groups()
    if name not in MEMBERS:
        return {requirement}
    project = tomllib.loads(MEMBERS[name].read_text())["project"]
    wanted = list(project.get("dependencies", []))
    for extra in (extras or "").split(",") if extras else []:
        wanted += project["optional-dependencies"][extra]
    return set().union(*map(outside, wanted)) if wanted else set()


def compile_lock(name: str, wanted: set[str], constraint: Path | None) -> None:
    """Resolve `wanted` into requirements/NAME.txt."""
    target = ROOT / "requirements" / f"{name}.txt"
    command = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "compile",
        "-",
        "--quiet",
        "--universal",
        "--generate-hashes",
    ]
    command += ["--python-version", "3.11", "--no-header", "--no-annotate", "--output-file", str(target)]
    if constraint is not None:
        command += ["--constraint", str(constraint)]
    subprocess.run(command, input="\n".join(sorted(wanted)), text=True, check=True)  # noqa: S603 - our own command
    print(target.relative_to(ROOT))


def main() -> None:
    """Write every lock."""
    everything = set().union(*map(outside, MEMBERS))
    dev = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["dev"])
    compile_lock("dev", everything | dev, None)
    compile_lock("build", BUILD, ROOT / "requirements" / "dev.txt")
    for name, member in LOCKS.items():
        compile_lock(name, outside(member), ROOT / "requirements" / "dev.txt")


if __name__ == "__main__":
    main()
