"""Ask a service in the same container how it is: `python -m estarsync_runtime.probe [livez|readyz]`.

For container engines without HTTP probes of their own. Only the standard library, so that asking costs little.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException

_SECONDS = 4.0
_OK = 200


def answers(port: int, page: str = "livez") -> bool:
    """Whether the service on this port says yes; blocks for at most four seconds."""
    connection = HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request("GET", f"/{page}")
        return connection.getresponse().status == _OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def main() -> int:
    """Exit code 0 for yes, 1 for no, 2 where `HTTP_PORT` is not set."""
    port = os.environ.get("HTTP_PORT", "")
    if not port.isdecimal():
        sys.stderr.write("probe: HTTP_PORT is not set: set it to the port that the service listens on\n")
        return 2
    return 0 if answers(int(port), *sys.argv[1:2]) else 1


if __name__ == "__main__":
    sys.exit(main())
