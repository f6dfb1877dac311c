"""The sandbox Dotdigital on a port."""

import random
from collections.abc import Callable

from estarsync_core.clock import Clock
from sandbox.asgi import HOST, asgi, serve
from sandbox.dotdigital.handler import DotdigitalSandbox
from sandbox.dotdigital.options import Options


def serve_dotdigital(
    options: Options, clock: Clock, *, seed: int, port: int, on_ready: Callable[[str], None], host: str = HOST
) -> None:
    """Serve until SIGINT or SIGTERM; blocks.

    Args:
        options: who it is and how it behaves.
        clock: where time comes from.
        seed: of everything that is random.
        port: 0 picks a free one.
        on_ready: called with the base URL.
        host: the address to listen on.

    Raises:
        ConfigurationError: the port is in use or not allowed.
    """
    sandbox = DotdigitalSandbox(options, clock, random.Random(seed))
    try:
        # It guards its own state, so that a slow answer holds up nobody else.
        serve(asgi(sandbox.handle, parallel=True), port, on_ready, host)
    finally:
        sandbox.close()
