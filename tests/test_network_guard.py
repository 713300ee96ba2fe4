import socket

import pytest

from tests.network_guard import is_loopback


@pytest.mark.parametrize("address", [("192.0.2.1", 443), ("api.anthropic.com", 443)])
def test_a_connection_to_another_machine_fails_the_test(address):
    with pytest.raises(pytest.fail.Exception, match="nothing but loopback"):
        socket.create_connection(address, timeout=0.1)
    with socket.socket() as one, pytest.raises(pytest.fail.Exception, match="nothing but loopback"):
        one.connect_ex(address)


def test_a_server_on_loopback_is_reached():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5):
        pass


@pytest.mark.parametrize(("host", "ours"), [
    ("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("localhost", True), (None, True), (b"localhost", True),
    ("0.0.0.0", False), ("10.0.0.1", False), ("localhost.example.com", False), ("::ffff:192.0.2.1", False),
])
def test_loopback_is_this_machine_only(host, ours):
    assert is_loopback(host) is ours
