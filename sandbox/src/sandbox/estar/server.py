"""Serves the sandbox shop on a port."""

from collections.abc import Callable

from sandbox.asgi import HOST, asgi, serve
from sandbox.estar.soap import ShopSandbox


def serve_shop(shop: ShopSandbox, port: int, on_ready: Callable[[str], None], host: str = HOST) -> None:
    """Serve until SIGINT or SIGTERM; blocks.

    Args:
        shop: what to serve.
        port: 0 picks a free one.
        on_ready: called with the base URL when requests are answered.
        host: the address to listen on.

    Raises:
        ConfigurationError: the port is in use or not allowed.
    """
    serve(asgi(shop.handle, parallel=True), port, on_ready, host)
