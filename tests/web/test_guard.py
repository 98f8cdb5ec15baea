"""Malformed requests: never a status of 500 and up, always the safety headers."""

import asyncio
import json
import random

import pytest

from mmtagclip.web import Limits, make_app
from mmtagclip.web.guard import HEADERS, RETRY
from tests.apis.conftest import SCENES
from tests.web.asgi import call

SCENE = (SCENES / '000045.jpg').read_bytes()
QUESTION = {'classes': 'mushroom', 'background': 'wall', 'threshold': 0.5, 'background_level': 0.5}
# Each takes the place of a value, of a key or of the whole question.
ODD_JSON = [
    'NaN', 'Infinity', '-Infinity', '1e999', '-1e999', '-1', '1.0000001', '1' * 400, '9' * 5000,
    'true', 'null', '[]', '{}', '""', '"0.5"', '[[0.5]]', '{"a": 1}', '"\\u0000"', '"\\ud800"',
    '"\\udfff\\ud800"', '"mushroom, \\ud83d"', '"\\u202e"', '"a\\"b"', '"\\u2028,\\u2029"',
    '"' + 'x' * 101 + '"', '"' + 'a,' * 40_000 + '"', '"' + '\\"' * 99 + '"', '"names.txt"',
    '"/etc/passwd"', '"~"', '"~nobody/x"', '"../../voc"', '"voc"', '"&lt;b&gt;"', '"<|endoftext|>"',
    '[' * 5000, '[' * 5000 + ']' * 5000, '{"a":' * 5000, '"\\x"', '"', '0x10', '--1', '.5', '1_0',
    '"mushroom\\n\\n,,,\\t zebra"', '"\\ufeffmushroom"', '"\\u0301"', '"\U0001f980, \u0130"',
]  # fmt: skip
ODD_BYTES = [
    b'', b'\xff', b'\x00' * 9, b'\xef\xbb\xbf{}', b'\xfe\xff\x00{', '{}'.encode('utf-16'),
    b'{"classes": "\xff\xfe"}', b'[' * 99_000, b'{"a":' * 19_000, b' ' * 200_000, b'\x1f\x8b\x08',
]  # fmt: skip
ODD_HEADERS = [
    (b'origin', b'http://['), (b'origin', b'null'), (b'origin', b''), (b'origin', b'\xff\xfe'),
    (b'origin', b'http://127.0.0.1@example.org'), (b'origin', b'http://[::1'), (b'origin', b'//'),
    (b'origin', b'http://127.0.0.1:99999999999'), (b'origin', b'http://127.0.0.1/../x'),
    (b'host', b''), (b'host', b'['), (b'host', b'[::1'), (b'host', b'127.0.0.1:x'),
    (b'host', b'\xff'), (b'host', b'example.org'), (b'host', b'a@127.0.0.1'), (b'host', b':' * 99),
    (b'host', b'127.0.0.1:' + b'9' * 5000),
    (b'content-length', b'-1'), (b'content-length', b'x'), (b'content-length', b'1e3'),
    (b'content-length', b'9' * 5000), (b'content-length', b'\xb2'), (b'content-length', b''),
    (b'content-length', b'1, 1'), (b'cookie', b'mmtagclip_visitor'), (b'cookie', b'=;=;;\xff'),
    (b'cookie', b'mmtagclip_visitor="' + b'\\' * 99), (b'content-type', b'\xff/\x00'),
    (b'content-type', b'multipart/form-data; boundary='), (b'range', b'bytes=9-1,x'),
    (b'range', b'bytes=-'), (b'if-none-match', b'\xff'), (b'if-modified-since', b'yesterday'),
]  # fmt: skip
ODD_PATHS = [
    '/', '//', '/api', '/api/', '/api//ask', '/api/KEY', '/api/KEY/', '/api/KEY/ask/', '/%00',
    '/api/KEY/\x00', '/api/\ufffd/ask', '/api/../ask', '/api/example/' + '9' * 5000,
    '/api/example/-1', '/api/example/0.jpg', '/api/example/\u0663', '/api/example/\u00b2.jpg',
    '/api/example/0x0.jpg', '/api/example/.jpg', '/api/KEY/heat.jpg', '/api/KEY/masks.jpg',
    '/api/KEY/image.jpg', '/api/KEY/download/', '/api/KEY/download/tags', '/api/model',
    '/api/KEY/download/tags.', '/api/KEY/download/.png', '/api/KEY/download/tags.png.exe',
    '/api/KEY/download/\x00', '/page.js', '/page.css/..', '/api/image/x', '/' + 'a' * 60_000,
    '/../server.py', '/static/index.html', 'api', '', '/api/KEY/ask', '/api/image',
]  # fmt: skip
ODD_QUERIES = [
    b'', b'step=coarse', b'step=coarse&name=mushroom', b'step=nothing&name=mushroom', b'step=%00',
    b'name=%ff%fe&step=%ed%a0%80', b'step=coarse&name=%F0%9F', b'&&==', b'\xff=\xff', b'name=' * 9,
    b'step=__class__&name=0', b'n=' + b'9' * 5000, b'name=' + b'a' * 9000, b'name=..%2f..%2f',
]  # fmt: skip
METHODS = ['GET', 'POST', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'TRACE', 'PATCH', 'get', 'A' * 99]


def malformed(draw, key):
    """A request that is wrong in one to three places."""
    question = {name: json.dumps(value) for name, value in QUESTION.items()}
    request = {'path': f'/api/{key}/ask', 'method': 'POST', 'headers': [], 'query': b''}
    body = None
    for kind in draw.choices(
        ('value', 'key', 'whole', 'bytes', 'cut', 'header', 'path', 'method'),
        (12, 3, 3, 3, 2, 4, 4, 1),
        k=draw.randint(1, 3),
    ):
        if kind == 'value':
            question[draw.choice(list(QUESTION))] = draw.choice(ODD_JSON)
        elif kind == 'key':
            question.pop(draw.choice(list(QUESTION)), None)
        elif kind == 'whole':
            body = draw.choice(ODD_JSON).encode('utf-8')
        elif kind == 'bytes':
            body = draw.choice(ODD_BYTES)
        elif kind == 'cut':
            body = json.dumps(QUESTION).encode()[: draw.randint(0, 60)]
        elif kind == 'header':
            request['headers'].append(draw.choice(ODD_HEADERS))
        elif kind == 'method':
            request['method'] = draw.choice(METHODS)
        else:
            request['path'] = draw.choice(ODD_PATHS).replace('KEY', key)
            request['query'] = draw.choice(ODD_QUERIES)
            request['method'] = draw.choice(('GET', 'POST'))
    if body is None:
        pairs = ', '.join(f'"{name}": {value}' for name, value in question.items())
        body = f'{{{pairs}}}'.encode()
    return {**request, 'body': body, 'chunk': draw.choice((None, 1000))}


def test_500_malformed_requests(model):
    app = make_app(model, limits=Limits(waiting=4))

    async def run():
        key = (await call(app, '/api/image', SCENE)).json()['key']
        draw = random.Random(0)
        statuses = set()
        for _ in range(500):
            request = malformed(draw, key)
            reply = await call(app, **request)
            assert reply.status < 500, request
            assert reply.is_safe(), request
            statuses.add(reply.status)
        return statuses

    assert {200, 400, 403, 404, 405, 413} <= asyncio.run(run())


def test_an_error_inside_is_json_with_the_safety_headers_too(model, monkeypatch):
    app = make_app(model)
    monkeypatch.setattr(app.state.server.inferencer, 'load', lambda image: 1 / 0)
    reply = asyncio.run(call(app, '/api/image', SCENE))
    assert reply.status == 500
    assert reply.is_safe()
    assert 'division' not in reply.json()['error']


@pytest.mark.parametrize(
    'hosts, headers, status',
    [
        (('localhost', '[::1]'), [(b'host', b'LOCALHOST:80')], 200),
        (('localhost', '[::1]'), [(b'host', b'[::1]:80')], 200),
        (('localhost', '[::1]'), [(b'host', b'localhost.example.org')], 400),
        (('localhost',), [(b'host', b'localhost'), (b'origin', b'http://localhost')], 200),
        (('*',), [(b'host', b'example.org')], 200),
        (('*',), [(b'host', b'example.org'), (b'origin', b'https://example.org')], 200),
        (
            ('*',),
            [(b'host', b'a.org'), (b'origin', b'http://a.org'), (b'origin', b'http://b')],
            403,
        ),
    ],
)
def test_hosts_and_origins(model, hosts, headers, status):
    reply = asyncio.run(call(make_app(model, hosts=hosts), '/api/model', headers=headers))
    assert reply.status == status
    assert reply.is_safe()


def test_headers_have_the_names_that_browsers_know():
    others = {key: value for key, value in HEADERS.items() if key != 'Content-Security-Policy'}
    assert others == {
        'Cache-Control': 'no-store',
        'X-Content-Type-Options': 'nosniff',
        'Referrer-Policy': 'no-referrer',
        'X-Frame-Options': 'DENY',
    }
    policy = dict(rule.split(' ', 1) for rule in HEADERS['Content-Security-Policy'].split('; '))
    assert policy == {
        'default-src': "'none'", 'script-src': "'self'", 'style-src': "'self'",
        'img-src': "'self' data:", 'connect-src': "'self'", 'base-uri': "'none'",
        'form-action': "'none'",
    }  # fmt: skip
    assert RETRY == {'Retry-After': '5'}  # seconds
