"""Install each service alone, with its own lock only, and import its composition root.

Run it as `make alone`. With everything installed in one environment, a service could use a library that it
doesn't declare and every test would still pass; here it can't.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEMBERS = {
    "extractor": "services/extractor",
    "transformer": "services/transformer",
    "loader": "services/loader",
    "cli": "cli",
}
LIBRARIES = ["schemas", "libs/core", "libs/runtime"]
IMPORTS = {"cli": "estarsync_cli.app"}


def run(*command: str, env: dict[str, str] | None = None) -> None:
    """Run a command; end with its exit code where it fails."""
    code = subprocess.run(command, check=False, env=env).returncode  # noqa: S603 - our own commands
    if code:
        sys.exit(code)


def main() -> None:
    """Install and import every service."""
    uv = [sys.executable, "-m", "uv", "--quiet"]
    with tempfile.TemporaryDirectory() as folder:
        # Wheels, as an image would install them: a file that is missing from a package shows here.
        wheels = Path(folder) / "wheels"
        every = [str(ROOT / member) for member in [*LIBRARIES, *MEMBERS.values()]]
        pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
        run(*pip, "--wheel-dir", str(wheels), *every)
        for member in every:  # setuptools leaves it behind, and would put deleted files into the next wheel
            shutil.rmtree(Path(member) / "build", ignore_errors=True)
        for name in MEMBERS:
            home = Path(folder) / name
            python = str(home / "bin" / "python")
            run(*uv, "venv", "--python", sys.executable, str(home))
            lock = str(ROOT / "requirements" / f"{name}.txt")
            run(*uv, "pip", "install", "--python", python, "--require-hashes", "-r", lock)
            own = [f"estarsync-{part}" for part in ("schemas", "core", "runtime", name)]
            run(
                *uv,
                "pip",
                "install",
                "--python",
                python,
                "--no-deps",
                "--no-index",
                "--find-links",
                str(wheels),
                *own,
            )
            environment = {"PATH": os.environ["PATH"]}
            module = IMPORTS.get(name, f"{name}.app")
            check = f"import {module}; from estarsync_core.topics import declared_topics; assert declared_topics()"
            run(python, "-c", check, env=environment)
            print(f"{name}: installs alone")


if __name__ == "__main__":
    main()
