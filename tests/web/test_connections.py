"""Connections that are slow, many or broken, over sockets of this machine."""

import asyncio
import json
import socket
import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
from starlette.responses import Response

from mmtagclip.web.connections import make_server
from mmtagclip.web.guard import HEADERS
from mmtagclip.web.limits import Limits

BODY = b'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n'
# What is sent at once, and then every tenth of a second.
SLOW = {
    'nothing': (b'', b''),
    'headers': (b'GET / HTTP/1.1\r\nX-A: ', b'a'),
    'body': (BODY, b'a'),
    'chunks': (
        BODY.replace(b'Content-Length: 1000000', b'Transfer-Encoding: chunked'),
        b'1\r\na\r\n',
    ),
    'next request': (b'GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /', b'a'),
}


@pytest.fixture
def start(serve):
    """Start a server whose application reads the body, or answers at once; gives its address."""

    def start(read=True, size=2, **limits):
        async def app(scope, receive, send):
            while read and (message := await receive()).get('more_body'):
                pass
            if not read or message['type'] == 'http.request':
                await Response(b'x' * size)(scope, receive, send)

        app.state = SimpleNamespace(server=SimpleNamespace(limits=Limits(**limits)))
        host, port = serve(app).removeprefix('http://').split(':')
        return host, int(port)

    return start


def closes(connection, drip=b'', within=5.0):
    """Drip until the server closes; what it said, or None if it does not close in time."""
    said = b''
    end = time.monotonic() + within
    connection.settimeout(0.1)
    while time.monotonic() < end:
        try:
            if drip:
                connection.send(drip)
            piece = connection.recv(65536)
            if not piece:
                return said
            said += piece
        except TimeoutError:
            pass
        except OSError:
            return said
        else:
            time.sleep(0.01)
    return None


@pytest.mark.parametrize('kind', SLOW)
def test_slow_clients_lose_their_connection(start, kind):
    address = start(header_seconds=0.5)
    first, drip = SLOW[kind]
    connections = [socket.create_connection(address) for _ in range(50)]
    begun = time.monotonic()
    for connection in connections:
        connection.sendall(first)
    for connection in connections:
        said = closes(connection, drip)
        assert said is not None
        if kind in ('headers', 'body'):
            head, body = said.split(b'\r\n\r\n')
            assert head.startswith(b'HTTP/1.1 408')
            assert all(f'{key}: {value}'.encode() in head for key, value in HEADERS.items())
            assert json.loads(body) == {'error': 'The request took too long'}
        connection.close()
    assert time.monotonic() - begun < 5


def test_a_client_that_does_not_read_loses_its_connection(start):
    address = start(read=False, size=50_000_000, header_seconds=0.5)
    connection = socket.create_connection(address)
    connection.sendall(b'GET / HTTP/1.1\r\nHost: a\r\n\r\n')
    time.sleep(2.5)
    assert len(closes(connection)) < 40_000_000


def test_a_refused_body_is_not_read_for_ever(start):
    address = start(read=False, header_seconds=0.5)
    connection = socket.create_connection(address)
    connection.sendall(BODY)
    assert closes(connection, b'a' * 1000).startswith(b'HTTP/1.1 200')


def test_a_body_that_comes_steadily_has_time(start):
    address = start(header_seconds=0.3, body_rate=1000)
    connection = socket.create_connection(address)
    connection.sendall(BODY.replace(b'1000000', b'10000'))
    for _ in range(10):
        time.sleep(0.1)
        connection.sendall(b'a' * 1000)
    assert connection.recv(100).startswith(b'HTTP/1.1 200')


def test_a_body_has_not_for_ever(start):
    address = start(header_seconds=0.4, body_seconds=1, body_rate=1)
    connection = socket.create_connection(address)
    connection.sendall(BODY)
    assert closes(connection, b'a' * 1000).startswith(b'HTTP/1.1 408')


def test_idle_connections_make_room(start):
    """Those of a flood go first; who asks is answered."""
    address = start(connections=10)
    flood = [socket.create_connection(address) for _ in range(60)]
    for connection in flood[::2]:
        with suppress(OSError):  # closed already
            connection.sendall(BODY)
    for _ in range(20):
        with socket.create_connection(address) as connection:
            connection.sendall(b'GET / HTTP/1.1\r\nHost: a\r\n\r\n')
            assert connection.recv(100).startswith(b'HTTP/1.1 200')
    assert sum(closes(connection, within=0.1) is None for connection in flood) <= 10
    for connection in flood:
        connection.close()


@pytest.mark.parametrize(
    'request_',
    [b'nonsense\r\n\r\n', b'GET / HTTP/1.1\r\n\r\n',
    b'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n', b'\x16\x03\x01\x00\xa5\x01',
    b'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
    b'GET / HTTP/1.1\r\nHost: a\r\nX: ' + b'a' * 40_000,
    b'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n'],
)  # fmt: skip
def test_what_is_no_http_is_refused_with_the_headers(start, request_):
    with socket.create_connection(start(header_seconds=0.5)) as connection:
        connection.sendall(request_)
        head, body = closes(connection).split(b'\r\n\r\n')
    assert head.startswith(b'HTTP/1.1 4')
    assert all(f'{key}: {value}'.encode() in head for key, value in HEADERS.items())
    assert json.loads(body)['error']


def test_how_the_server_is_set_up():
    config = make_server(None, port=7).config
    assert (config.port, config.ws, config.server_header) == (7, 'none', False)
    assert config.h11_max_incomplete_event_size == 32_768
    assert config.timeout_graceful_shutdown == 5
    assert config.log_level == 'warning'
    assert config.http.limits == Limits()


def test_the_longest_idle_connection_makes_room(start):
    address = start(connections=2)
    request = b'GET / HTTP/1.1\r\nHost: a\r\n\r\n'
    first, second = (socket.create_connection(address) for _ in range(2))
    for connection in (second, first):
        connection.sendall(request)
        assert connection.recv(100).startswith(b'HTTP/1.1 200')
    with socket.create_connection(address) as third:
        third.sendall(request)
        assert third.recv(100).startswith(b'HTTP/1.1 200')
        assert closes(second) is not None
        assert closes(first, within=0.3) is None
    first.close()


def test_a_new_connection_is_refused_where_all_are_at_work(serve):
    release = threading.Event()

    async def app(scope, receive, send):
        while scope['type'] == 'http' and not release.is_set():
            await asyncio.sleep(0.01)
        await Response(b'x')(scope, receive, send)

    app.state = SimpleNamespace(server=SimpleNamespace(limits=Limits(connections=2)))
    host, port = serve(app).removeprefix('http://').split(':')
    request = b'GET / HTTP/1.1\r\nHost: a\r\n\r\n'
    working = [socket.create_connection((host, int(port))) for _ in range(2)]
    for connection in working:
        connection.sendall(request)
    time.sleep(0.3)
    with socket.create_connection((host, int(port))) as third:
        third.sendall(request)
        head, body = closes(third).split(b'\r\n\r\n')
    assert head.startswith(b'HTTP/1.1 429')
    assert b'retry-after: 5' in head.lower()
    assert json.loads(body)['error'] == 'The server is busy: try again in a few seconds'
    release.set()
    for connection in working:
        assert connection.recv(100).startswith(b'HTTP/1.1 200')
        connection.close()


@pytest.mark.parametrize('close', [b'', b'Connection: close\r\n'])
@pytest.mark.parametrize('rate, whole', [(20_000, True), (10**9, False)])
def test_a_client_that_reads_slowly_has_time(start, close, rate, whole):
    address = start(read=False, size=20_000_000, header_seconds=0.5, body_rate=rate)
    connection = socket.create_connection(address)
    connection.sendall(b'GET / HTTP/1.1\r\nHost: a\r\n' + close + b'\r\n')
    connection.settimeout(5)
    said = 0
    for share in range(4_000_000, 20_000_001, 4_000_000):
        time.sleep(0.4)
        while said < share and (piece := connection.recv(65536)):
            said += len(piece)
    assert (said >= 20_000_000) == whole
    connection.close()
