"""Printing, for people and for scripts."""

import sys
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for scripts.")]


def console(*, stderr: bool = False) -> Console:
    """Where tables and lines for people go."""
    return Console(highlight=False, stderr=stderr)


def print_json(document: Any) -> None:  # noqa: ANN401 - anything that JSON can hold
    """One JSON document on stdout."""
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")


def masked(key: str) -> str:
    """A key that may be an e-mail, fit for a screen that others see: `c***@example.com`."""
    name, at, domain = key.rpartition("@")
    return f"{name[:1]}***@{domain}" if at else key


def notice(line: str) -> None:
    """A line for people that is no part of the result: on stderr."""
    Console(stderr=True, highlight=False).print(line, markup=False, soft_wrap=True)
