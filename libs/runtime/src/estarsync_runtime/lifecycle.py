"""From the command line to a running service and out again: settings, signals, health, exit codes."""

import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from typing import NoReturn, TypeVar

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector

from estarsync_core.clock import Clock
from estarsync_core.errors import ConfigurationError, EstarsyncError, Fenced
from estarsync_runtime import health, logs
from estarsync_runtime.clock import SystemClock
from estarsync_runtime.kafka.reach import require_kafka
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.settings import ServiceSettings, load
from estarsync_runtime.tracing import OFF, Tracing, tracing

S = TypeVar("S", bound=ServiceSettings)

EXIT_STOPPED = 0
EXIT_FAILED = 1
EXIT_CONFIGURATION = 2
EXIT_FENCED = 3


class StopSignal:
    """Set by SIGTERM or SIGINT; a service looks at it between two steps."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask the service to finish what it holds and end."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether the service should end."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Block for at most so many seconds; true where the service should end."""
        return self._event.wait(seconds)


@dataclass(frozen=True, slots=True)
class Context:
    """What the surroundings lend to a service."""

    stop: StopSignal
    health: health.Health
    metrics: Metrics
    clock: Clock
    tracing: Tracing = OFF


def run(
    service: str,
    settings_type: type[S],
    body: Callable[[S, Context], None],
    require: Callable[[S], None] = require_kafka,
) -> NoReturn:
    """Run a service until it is done or told to stop, and exit the process.

    Args:
        service: its name, for people.
        settings_type: what it reads from the environment.
        body: the service.
        require: what must be there before it begins; raises ConfigurationError where it isn't.

    Exit codes: 0 stopped cleanly, 1 stopped on purpose or failed, 2 wrong configuration (every problem is
    printed), 3 fenced by a newer process.
    """
    sys.exit(_run(service, settings_type, body, require))


def _run(
    service: str, settings_type: type[S], body: Callable[[S, Context], None], require: Callable[[S], None]
) -> int:
    with ExitStack() as stack:
        try:
            settings = load(settings_type)
            logs.configure(service, settings.log_level)
            clock = SystemClock()
            traces = stack.enter_context(tracing(service, settings, clock))
            context = Context(StopSignal(), health.Health(clock), Metrics(CollectorRegistry()), clock, traces)
            _show(service, context)
            if settings.http_port is not None:
                stack.callback(health.serve(settings.http_port, context.health, context.metrics.registry))
            # Before anything that waits: as process 1 of a container, what has no handler is ignored.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: context.stop.set())
            require(settings)
            body(settings, context)
        except ConfigurationError as error:
            for problem in error.problems:
                print(f"{service}: {problem}", file=sys.stderr)  # noqa: T201 - for people, before any log
            return EXIT_CONFIGURATION
        except Fenced as error:
            print(f"{service}: {error}", file=sys.stderr)  # noqa: T201 - for people
            return EXIT_FENCED
        except EstarsyncError as error:
            print(f"{service}: stopped: {error}", file=sys.stderr)  # noqa: T201 - for people
            return EXIT_FAILED
        except Exception:  # noqa: BLE001 - the outermost edge: whatever it was, it must be in the log
            structlog.get_logger().exception("failed")
            return EXIT_FAILED
    return EXIT_STOPPED


def _show(service: str, context: Context) -> None:
    metrics, state = context.metrics, context.health
    ProcessCollector(registry=metrics.registry)  # memory, CPU, start: where the system tells (Linux)
    metrics.info.labels(service, version("estarsync-runtime")).set(1)
    metrics.ready.labels(service).set_function(lambda: float(state.ready))
    metrics.loop_age.labels(service).set_function(lambda: state.loop_age)
