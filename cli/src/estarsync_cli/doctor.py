"""`estarsync doctor`: is everything that a sync needs in place?"""

from collections.abc import Callable

import typer

from estarsync_cli.config import ProfileSettings, problems_of
from estarsync_cli.connection import dotdigital, estar
from estarsync_cli.output import Json, console, print_json
from estarsync_core.errors import ConfigurationError, EstarsyncError
from estarsync_core.topics import declared_topics
from estarsync_runtime.dotdigital import provisioning
from estarsync_runtime.dotdigital.connect import DotdigitalSettings
from estarsync_runtime.kafka.admin import missing_topics
from estarsync_runtime.kafka.config import connection_config
from estarsync_runtime.settings import KafkaSettings, load

_TIMEOUT = 10.0


def doctor(*, as_json: Json = False) -> None:
    """Check Kafka, the tenant profile, eStar and Dotdigital; change nothing.

    Every problem is reported at once. Exit code 1 where there is one.
    """
    results = {name: _problems(check) for name, check in _CHECKS.items()}
    if as_json:
        print_json({"ok": not any(results.values()), "checks": results})
    else:
        for name, problems in results.items():
            console().print(f"{'problem' if problems else 'ok':8}{name}")
            for problem in problems:
                console().print(f"        {problem}")
    if any(results.values()):
        raise typer.Exit(1)


def _problems(check: Callable[[], None]) -> list[str]:
    try:
        check()
    except ConfigurationError as error:
        return list(error.problems)
    except EstarsyncError as error:
        return [str(error)]
    return []


def _kafka() -> None:
    settings = load(KafkaSettings)
    servers = connection_config(settings)
    missing = missing_topics(servers, declared_topics(), settings.topic_prefix, timeout=_TIMEOUT)
    if missing:
        raise ConfigurationError([f"topics are missing ({', '.join(missing)}): run `estarsync topics apply`"])


def _profile() -> None:
    problems = problems_of(load(ProfileSettings).tenant_profile)
    if problems:
        raise ConfigurationError(problems)


def _estar() -> None:
    with estar() as source:
        source.check()


def _dotdigital() -> None:
    settings = load(DotdigitalSettings)
    steps = provisioning.inspect(dotdigital(settings), settings).steps(settings)
    if steps:
        raise ConfigurationError([f"not there yet, `estarsync provision` would {step}" for step in steps])


_CHECKS: dict[str, Callable[[], None]] = {
    "Kafka": _kafka,
    "tenant profile": _profile,
    "eStar": _estar,
    "Dotdigital": _dotdigital,
}
