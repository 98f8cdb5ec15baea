"""Many visitors, long questions and large bodies; requests without sockets."""

import asyncio
import json
import threading
import time

import numpy as np
import pytest

from mmtagclip.apis.analysis import Analysis
from mmtagclip.web import Limits, make_app
from mmtagclip.web.server import COOKIE, held_bytes
from tests.apis.conftest import SCENES
from tests.web.asgi import call

SCENE = (SCENES / '000045.jpg').read_bytes()
QUESTION = json.dumps(
    {'classes': 'mushroom', 'background': 'wall', 'threshold': 0.5, 'background_level': 0.5}
).encode()


class Visitor:
    """A client that keeps its cookie."""

    def __init__(self, app, address='127.0.0.1'):
        self.app = app
        self.address = address
        self.headers = []
        self.longest = 0.0

    async def call(self, *args, **kwargs):
        begun = time.monotonic()
        reply = await call(self.app, *args, headers=self.headers, client=self.address, **kwargs)
        self.took = time.monotonic() - begun
        assert reply.is_safe()
        if 'set-cookie' in reply.headers:
            self.headers = [(b'cookie', reply.headers['set-cookie'].split(';')[0].encode())]
        return reply

    async def upload(self):
        return (await self.call('/api/image', SCENE)).json()['key']

    async def quickly(self, path, body=None):
        reply = await self.call(path, body)
        self.longest = max(self.longest, self.took)
        return reply.status


@pytest.fixture
def quick_images(monkeypatch):
    """Replace the encoder by a short sleep."""

    def replace(app, seconds=0.0):
        server = app.state.server
        encode, made = server._analysis, []

        def analysis(pixels, name):
            time.sleep(seconds)
            made.append(1)
            if len(made) == 1:
                replace.analysis = encode(pixels, name)
            return replace.analysis

        monkeypatch.setattr(server, '_analysis', analysis)

    return replace


@pytest.fixture
def blocked(monkeypatch):
    """A model whose head waits; gives what starts and ends it."""
    begun, go_on = threading.Event(), threading.Event()
    stages = Analysis.stages

    def slow(*args, **rule):
        begun.set()
        assert go_on.wait(20)
        return stages(*args, **rule)

    monkeypatch.setattr(Analysis, 'stages', slow)
    yield begun, go_on
    go_on.set()


def test_a_long_question_stops_nobody(model, blocked):
    begun, go_on = blocked
    app = make_app(model)

    async def run():
        one, other = Visitor(app), Visitor(app)
        key = await one.upload()
        question = asyncio.create_task(one.call(f'/api/{key}/ask', QUESTION))
        await asyncio.to_thread(begun.wait, 10)
        for visitor in (one, other):
            for path in ('/', '/page.js', '/api/model', f'/api/{key}/image.jpg'):
                assert await visitor.quickly(path) == 200
            assert await visitor.quickly(f'/api/{key}/masks.jpg') == 404
            assert await visitor.quickly('/api/image', b'<svg/>') == 400
            assert await visitor.quickly(f'/api/{key}/ask', b'[]') == 400
            assert visitor.longest < 1
        assert not question.done()
        go_on.set()
        assert (await question).status == 200

    asyncio.run(run())


def test_too_many_questions_are_refused(model, blocked):
    """One address takes half of the places at most, and another a quarter of the others."""
    _, go_on = blocked
    app = make_app(model, limits=Limits(waiting=8))

    async def run():
        visitors = [Visitor(app, f'10.0.0.{number}') for number in range(4)]
        keys = [await visitor.upload() for visitor in visitors]
        questions = []
        for visitor, key, places in zip(visitors, keys, (4, 2, 2, 0), strict=True):
            questions += [
                asyncio.create_task(visitor.call(f'/api/{key}/ask', QUESTION))
                for _ in range(places)
            ]
            while app.state.server.line._places[visitor.address] < places:
                await asyncio.sleep(0.01)
            for path, body in ((f'/api/{key}/ask', QUESTION), ('/api/image', SCENE)):
                reply = await visitor.call(path, body)
                assert reply.status == 429
                assert int(reply.headers['retry-after']) > 0
        go_on.set()
        assert [(await question).status for question in questions] == [200] * 8
        assert not app.state.server.line._places
        assert (await visitors[0].call(f'/api/{keys[0]}/ask', QUESTION)).status == 200

    asyncio.run(run())


def test_questions_are_read_in_turn_and_with_a_place(model, monkeypatch):
    app = make_app(model, limits=Limits(waiting=8))
    server = app.state.server
    read, go_on = server._question, threading.Event()
    reading = []

    def slow(body):
        reading.append(1)
        assert go_on.wait(20)
        return read(body)

    monkeypatch.setattr(server, '_question', slow)

    async def run():
        visitor = Visitor(app)
        key = await visitor.upload()
        path = f'/api/{key}/ask'
        questions = [asyncio.create_task(visitor.call(path, QUESTION)) for _ in range(4)]
        while not reading:
            await asyncio.sleep(0.01)
        refused = asyncio.create_task(visitor.call(path, QUESTION))
        await asyncio.wait([refused], timeout=5)
        begun = len(reading)
        go_on.set()
        assert (await refused).status == 429
        assert begun == 1
        assert [(await question).status for question in questions] == [200] * 4

    asyncio.run(run())


def test_a_question_whose_visitor_left_is_not_answered(model, blocked, monkeypatch):
    begun, go_on = blocked
    app = make_app(model)
    server = app.state.server
    answered = []
    answer = server._answer
    monkeypatch.setattr(server, '_answer', lambda *args: answered.append(1) or answer(*args))

    async def run():
        visitor = Visitor(app)
        key = await visitor.upload()
        first = asyncio.create_task(visitor.call(f'/api/{key}/ask', QUESTION))
        await asyncio.to_thread(begun.wait, 10)
        messages = [
            {'type': 'http.request', 'body': QUESTION, 'more_body': False},
            {'type': 'http.disconnect'},
        ]

        async def receive():
            return messages.pop(0)

        async def send(message):
            raise AssertionError('nobody listens')

        scope = {
            'type': 'http', 'method': 'POST', 'path': f'/api/{key}/ask', 'query_string': b'',
            'headers': [(b'host', b'localhost')],
        }  # fmt: skip
        second = asyncio.create_task(app(scope, receive, send))
        await asyncio.sleep(0)
        go_on.set()
        assert (await first).status == 200
        await second
        assert answered == [1]

    asyncio.run(run())


@pytest.mark.parametrize('path, limit', [('/api/image', 50_000), ('/api/{key}/ask', 20_000)])
def test_bodies_are_refused_at_their_limit(model, quick_images, path, limit):
    """As soon as the limit is passed, with or without a length."""
    app = make_app(model, limits=Limits(upload_bytes=50_000, question_bytes=20_000))
    quick_images(app)
    read = []

    def pieces():
        for _ in range(1000):
            read.append(1)
            yield b' ' * 10_000

    async def run():
        visitor = Visitor(app)
        key = await visitor.upload()
        reply = await visitor.call(path.format(key=key), pieces())
        assert reply.status == 413
        assert reply.json()['error'].endswith(f'is larger than {limit // 1000} kB')
        assert len(read) <= limit // 10_000 + 3
        read.clear()
        visitor.headers.append((b'content-length', b'300000000'))
        assert (await visitor.call(path.format(key=key), pieces())).status == 413
        assert len(read) <= 2
        assert app.state.server.buffered == 0

    asyncio.run(run())


def test_uploads_have_a_memory_together(model, quick_images):
    app = make_app(model, limits=Limits(buffered_bytes=2 * len(SCENE)))
    quick_images(app)
    hold = asyncio.Event

    async def run():
        wait = hold()

        async def slow(scope, receive, send):
            async def late():
                message = await receive()
                if not message.get('more_body', False):
                    await wait.wait()
                return message

            await app(scope, late, send)

        first = [
            asyncio.create_task(call(slow, '/api/image', SCENE, chunk=len(SCENE) - 1))
            for _ in range(2)
        ]
        await asyncio.sleep(0.05)
        visitor = Visitor(app)
        reply = await visitor.call('/api/image', SCENE)
        assert reply.status == 429
        assert 'retry-after' in reply.headers
        assert await visitor.quickly('/') == 200
        wait.set()
        assert [(await one).status for one in first] == [200, 200]
        assert await visitor.upload()
        assert app.state.server.buffered == 0

    asyncio.run(run())


def test_images_of_a_visitor_make_room_for_his_own(model, quick_images):
    app = make_app(model, limits=Limits(images=3))
    quick_images(app)

    async def run():
        one, other = Visitor(app), Visitor(app)
        theirs = await other.upload()
        mine = [await one.upload() for _ in range(5)]
        assert list(app.state.server.sessions) == [theirs, *mine[2:]]
        cookie = (await call(app, '/api/image', SCENE)).headers['set-cookie']
        assert cookie.startswith(f'{COOKIE}=')
        assert 'HttpOnly' in cookie
        assert 'SameSite=strict' in cookie

    asyncio.run(run())


def test_all_images_have_a_memory_together(model, quick_images):
    """The visitor who has the most gives one up."""
    app = make_app(model)
    quick_images(app)

    async def run():
        few, many = Visitor(app), Visitor(app)
        first = await few.upload()
        server = app.state.server
        session = server.sessions[first]
        size = session.size
        parts = [session.analysis, session.answer, session.shown]
        assert size == held_bytes(parts) + len(session.preview) > 100_000
        server.limits = Limits(memory_bytes=int(4.5 * size))
        theirs = [await many.upload() for _ in range(5)]
        assert list(server.sessions) == [first, *theirs[2:]]
        second = await few.upload()
        assert list(server.sessions) == [first, *theirs[3:], second]
        server.limits = Limits(memory_bytes=1)
        (last,) = [await Visitor(app).upload()]
        assert list(server.sessions) == [last]

    asyncio.run(run())


def test_memory_counts_arrays_once():
    array = np.zeros(10, np.uint8)
    assert held_bytes([array, {'a': (array, np.zeros(3, np.uint8))}, 'text', None]) == 13


def test_50_visitors(model, quick_images, monkeypatch):
    """Requests that need no model never wait for one; refusals say when to come again."""
    app = make_app(model, limits=Limits(waiting=20))
    quick_images(app, 0.02)
    stages = Analysis.stages
    known = []

    def slow(*args, **rule):
        time.sleep(0.03)
        if not known:
            known.append(stages(*args))
        return known[0]

    monkeypatch.setattr(Analysis, 'stages', slow)
    statuses = []

    async def visit(visitor):
        for _ in range(10):
            reply = await visitor.call('/api/image', SCENE)
            statuses.append(reply.status)
            if reply.status == 200:
                break
            await visitor.quickly('/')
            await asyncio.sleep(0.1)
        else:
            return
        key = reply.json()['key']
        for _ in range(2):
            asking = Visitor(app, visitor.address)
            question = asyncio.create_task(asking.call(f'/api/{key}/ask', QUESTION))
            while not question.done():
                for path in ('/', '/api/model', f'/api/{key}/image.jpg'):
                    assert await visitor.quickly(path) == 200
                await asyncio.sleep(0.1)
            statuses.append((await question).status)

    async def run():
        visitors = [Visitor(app, f'10.0.0.{number}') for number in range(50)]
        await asyncio.gather(*(visit(visitor) for visitor in visitors))
        return max(visitor.longest for visitor in visitors)

    assert asyncio.run(run()) < 1
    assert set(statuses) == {200, 429}
    assert statuses.count(200) > 50
