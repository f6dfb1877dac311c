"""The fast rings stay on this machine."""

import socket

import pytest


def test_a_connection_to_elsewhere_is_refused_before_it_is_tried() -> None:
    with socket.socket() as outward, pytest.raises(RuntimeError, match=r"reached for 192\.0\.2\.1"):
        outward.connect(("192.0.2.1", 80))


def test_a_connection_to_this_machine_is_fine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass
