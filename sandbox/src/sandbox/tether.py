"""Run a command that dies with the process that started it (Linux): `python tether.py OWNER_PID COMMAND…`.

The command takes this process over, so its pid and exit code are the ones that the owner sees.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
NOT_FOUND = 127


def main() -> None:
    """Tie the knot, make sure that the owner is still there, become the command."""
    owner, command = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    # SIGKILL, because a command that hangs must not outlive its owner either.
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"tether: prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != owner:  # it died before the knot was tied, and will send no signal any more
        sys.exit("tether: the owner is gone")
    try:
        os.execvp(command[0], command)  # noqa: S606 - without a shell is the point
    except OSError as error:
        print(f"tether: {command[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201 - goes to the command's log
        sys.exit(NOT_FOUND)


if __name__ == "__main__":
    main()
