"""`estarsync config`: the tenant profile, checked and explained."""

import re
from pathlib import Path
from typing import Annotated

import typer
from pydantic_settings import BaseSettings

from estarsync_cli.explain import explain
from estarsync_cli.output import Json, console, print_json
from estarsync_core.errors import ConfigurationError
from estarsync_core.mapping.mapper import Mapper
from estarsync_core.profile_schema import profile_schema
from estarsync_core.profile_text import read_text
from estarsync_runtime.settings import load, read_profile

app = typer.Typer(no_args_is_help=True, help="The tenant profile, checked and explained.")
_KEY = re.compile(r"([a-z_]+(?:\.[A-Za-z0-9_-]+)+): ")
Profile = Annotated[
    Path | None,
    typer.Argument(help="A profile in YAML; without it the one of TENANT_PROFILE.", metavar="FILE"),
]


class ProfileSettings(BaseSettings):
    """Where the tenant profile is."""

    tenant_profile: Path


@app.command("check")
def check(file: Profile = None, *, as_json: Json = False) -> None:
    """Read a profile and say everything that is wrong with it, with file, line and key.

    Nothing is called. Exit code 2 where there is a problem.
    """
    path = file or load(ProfileSettings).tenant_profile
    problems = problems_of(path)
    if as_json:
        print_json({"ok": not problems, "profile": str(path), "problems": problems})
    else:
        for problem in problems:
            console().print(problem, markup=False, soft_wrap=True)
        if not problems:
            console().print(f"ok: {path} is a whole profile", markup=False, soft_wrap=True)
    if problems:
        raise typer.Exit(2)


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of a profile, for editors and for other tools."""
    print_json(profile_schema())


app.command("explain")(explain)


def problems_of(path: Path) -> list[str]:
    """What is wrong with a profile, a line each."""
    try:
        profile = read_profile(path)
    except ConfigurationError as error:
        return list(error.problems)
    try:
        Mapper(profile)
    except ConfigurationError as error:
        return [_with_line(problem, path) for problem in error.problems]
    return []


def _with_line(problem: str, path: Path) -> str:
    """A problem that begins with its key, with the line of that key in front of it."""
    key = _KEY.match(problem)
    place = tuple(key[1].split(".")) if key else ()
    line = read_text(path.read_text(encoding="utf-8"), str(path)).line(place)
    return f"{path}:{line}: {problem}"
