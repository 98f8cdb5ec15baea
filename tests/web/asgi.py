"""Requests to an application without sockets."""

import asyncio
import json
from dataclasses import dataclass

from mmtagclip.web.guard import HEADERS


@dataclass
class Reply:
    status: int
    headers: dict
    body: bytes

    def json(self):
        return json.loads(self.body)

    def is_safe(self):
        """Whether all safety headers are there, and a refusal is JSON that says why."""
        headers = all(self.headers.get(key.lower()) == value for key, value in HEADERS.items())
        return headers and (self.status < 400 or bool(self.json()['error']))


async def call(
    app, path, body=None, method=None, headers=(), query=b'', chunk=None, client='127.0.0.1'
):
    """Send a request; its body in one piece, or in pieces of a size, or as an iterator has them."""
    if isinstance(body, bytes | None):
        body = body or b''
        size = chunk or max(1, len(body))
        pieces = iter([body[start : start + size] for start in range(0, len(body), size)] or [b''])
    else:
        pieces = iter(body)
    method = method or ('GET' if body == b'' else 'POST')
    sent = []
    done = asyncio.Event()
    following = next(pieces, b'')
    over = False

    async def receive():
        nonlocal following, over
        if over:
            await done.wait()
            return {'type': 'http.disconnect'}
        piece, following = following, next(pieces, None)
        over = following is None
        return {'type': 'http.request', 'body': piece, 'more_body': not over}

    async def send(message):
        sent.append(message)

    given = {key.lower(): value for key, value in headers}
    scope = {
        'type': 'http',
        'asgi': {'version': '3.0'},
        'http_version': '1.1',
        'method': method,
        'scheme': 'http',
        'path': path,
        'raw_path': path.encode('utf-8', 'replace'),
        'root_path': '',
        'query_string': query,
        'headers': [(b'host', b'127.0.0.1')] * (b'host' not in given) + list(headers),
        'client': (client, 1),
        'server': ('127.0.0.1', 80),
        'state': {},
    }
    await app(scope, receive, send)
    start, *rest = sent
    return Reply(
        start['status'],
        {key.decode('latin-1'): value.decode('latin-1') for key, value in start['headers']},
        b''.join(one.get('body', b'') for one in rest),
    )
