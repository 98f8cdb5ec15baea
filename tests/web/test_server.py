"""The web page's server, over real connections."""

import io
import json
import mimetypes
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from http.client import HTTPConnection
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from mmtagclip import cli
from mmtagclip.apis import SegInferencer, TagInferencer
from mmtagclip.apis.inferencer import ImageInferencer
from mmtagclip.cli.common import SEGMENTOR
from mmtagclip.clip import DenseEncoder, parse_names
from mmtagclip.models import TagCLIP
from mmtagclip.web import Limits, make_app
from mmtagclip.web.server import EXAMPLES
from mmtagclip.web.server import serve as serve_page
from tests.apis.conftest import SCENES
from tests.conftest import picture
from tests.processes import ROOT

SCENE = SCENES / '000045.jpg'
QUESTION = {
    'classes': 'mushroom, camera\nzebra',
    'background': 'wall',
    'threshold': 0.5,
    'background_level': 0.5,
}


class Client:
    """A visitor, with a visitor's cookies."""

    def __init__(self, address):
        self.address = address
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

    def request(self, path, data=None, **headers):
        request = urllib.request.Request(
            self.address + path,
            data,
            headers={key.replace('_', '-'): value for key, value in headers.items()},
        )
        try:
            with self.opener.open(request, timeout=60) as response:
                return response.status, response.read(), response.headers
        except urllib.error.HTTPError as error:
            return error.code, error.read(), error.headers

    def json(self, path, data=None, **headers):
        status, body, _ = self.request(path, data, **headers)
        return status, json.loads(body)

    def upload(self, content, name='a.jpg'):
        return self.json(f'/api/image?name={name}', content)

    def ask(self, key, **changes):
        return self.json(f'/api/{key}/ask', json.dumps({**QUESTION, **changes}).encode())


@pytest.fixture
def client(serve, model):
    return Client(serve(make_app(model, 'the demo')))


@pytest.fixture
def key(client):
    status, taken = client.upload(SCENE.read_bytes())
    assert status == 200
    assert (taken['width'], taken['height']) == Image.open(SCENE).size
    return taken['key']


def test_the_page_and_what_it_needs(client):
    for path, kind in {
        '/': 'text/html',
        '/page.css': 'text/css',
        '/page.js': 'text/javascript',
    }.items():
        status, body, headers = client.request(path)
        assert status == 200
        assert headers['content-type'].startswith(kind)
        assert body
        assert "default-src 'none'" in headers['content-security-policy']
    about = client.json('/api/model')[1]
    assert about['title'] == 'the demo'
    assert about['segments']
    right = json.loads((ROOT / 'tools/dev/demo_scenes.json').read_text())['right']
    assert set(EXAMPLES) <= set(right)
    for number in range(about['examples']):
        status, body, headers = client.request(f'/api/example/{number}.jpg')
        assert (status, headers['content-type']) == (200, 'image/jpeg')
        assert Image.open(io.BytesIO(body)).format == 'JPEG'
    assert client.json('/api/example/0', b'')[0] == 200
    assert client.json('/api/example/99', b'')[0] == 404


def test_answers_are_the_inferencers(client, key):
    status, answer = client.ask(key)
    assert status == 200
    options = {'classes': ['mushroom', 'camera', 'zebra'], 'background': ['wall']}
    (expected,) = TagInferencer('tagclip_demo', show_progress=False)(SCENE, **options)
    final = answer['stages'][-1]
    assert [stage['step'] for stage in answer['stages']] == ['coarse', 'DMAR', 'CWR']
    assert {one['name']: one['score'] for one in final['classes']} == pytest.approx(
        dict(zip(expected.classes, expected.scores.tolist(), strict=True)), abs=1e-5
    )
    assert {one['name'] for one in final['classes'] if one['tag']} == set(expected.tags)
    (masks,) = SegInferencer('cls-seg_demo', show_progress=False)(SCENE, **options)
    shares = {name: share for name, share in masks.shares.items() if name != 'background'}
    assert {one['name']: one['share'] for one in answer['masks']} == pytest.approx(shares)
    mask = client.request(f'/api/{key}/download/mask.png')[1]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(mask))), masks.mask)


def test_the_answer_names_the_classes_that_were_used(client, key):
    answer = client.ask(key)[1]
    assert answer['classes'] == ['mushroom', 'camera', 'zebra']
    assert not answer['own_classes']
    for text in ('', None):
        answer = client.ask(key, classes=text)[1]
        assert answer['own_classes']
        assert len(answer['classes']) == 50


def test_thresholds_change_without_the_encoder(client, key, monkeypatch):
    runs = []
    monkeypatch.setattr(DenseEncoder, 'forward', lambda *args, **kwargs: runs.append(1))
    few = client.ask(key, threshold=0.99)[1]
    many = client.ask(key, threshold=0.0)[1]
    assert not runs

    def count(answer):
        return sum(one['tag'] for one in answer['stages'][-1]['classes'])

    assert count(few) < count(many)
    covered = [
        sum(one['share'] for one in client.ask(key, background_level=level)[1]['masks'])
        for level in (0.05, 0.95)
    ]
    assert covered[0] > covered[1]


def tags_of(answer):
    return [one['name'] for one in answer['stages'][-1]['classes'] if one['tag']]


def test_lowest_score_and_number_of_tags(client, key):
    found = tags_of(client.ask(key, threshold=0.0)[1])
    assert len(found) > 1
    assert tags_of(client.ask(key, threshold=0.0, top=1)[1]) == found[:1]
    status, none = client.ask(key, min_score=1)
    assert (status, tags_of(none), none['masks']) == (200, [], [])
    assert client.json(f'/api/{key}/download/tags.json')[1]['tags'] == []
    black = io.BytesIO()
    Image.new('RGB', (96, 96)).save(black, 'PNG')
    black_key = client.upload(black.getvalue())[1]['key']
    own = {'classes': '', 'background': None}
    assert tags_of(client.ask(black_key, **own)[1]) == []
    assert tags_of(client.ask(black_key, **own, min_score=0)[1]) != []


def test_uploads_to_the_demo_s_model_get_a_notice(client):
    notice = client.upload(SCENE.read_bytes())[1]['notice']
    assert notice.startswith('This small model knows only 50 pictograms')
    assert notice.endswith(f'mmtagclip web --model {SEGMENTOR} --download')
    assert client.json('/api/example/0', b'')[1]['notice'] is None


def test_other_models_give_none(model, serve, monkeypatch):
    monkeypatch.setattr(ImageInferencer, 'is_demo_model', False)
    other = Client(serve(make_app(model, 'another')))
    assert other.upload(SCENE.read_bytes())[1]['notice'] is None


def test_pictures_and_downloads(client, key):
    assert client.request(f'/api/{key}/masks.jpg')[0] == 404  # nothing was asked yet
    client.ask(key)
    for path in (
        'image.jpg',
        'heat.jpg?step=coarse&name=mushroom',
        'heat.jpg?step=DMAR&name=zebra',
        'masks.jpg',
    ):
        status, body, headers = client.request(f'/api/{key}/{path}')
        assert (status, headers['content-type']) == (200, 'image/jpeg')
        assert Image.open(io.BytesIO(body)).format == 'JPEG'
    for path in ('heat.jpg?step=coarse&name=dog', 'heat.jpg?step=no&name=mushroom', 'heat.jpg'):
        assert client.request(f'/api/{key}/{path}')[0] == 404
    for kind in ('tags.json', 'tags.csv', 'tags.png', 'masks.json', 'masks.png', 'mask.png'):
        status, body, headers = client.request(f'/api/{key}/download/{kind}')
        assert status == 200
        assert headers['content-disposition'] == f'attachment; filename="a_{kind}"'
        assert headers['content-type'].partition(';')[0] == mimetypes.guess_type(kind)[0]
        if kind.endswith('json'):
            assert json.loads(body)['image'] == 'a.jpg'
        elif kind.endswith('png'):
            assert Image.open(io.BytesIO(body)).format == 'PNG'
    assert client.request(f'/api/{key}/download/passwords')[0] == 404


@pytest.mark.parametrize(
    'content, status, message',
    [
        (b'', 400, 'This file is not an image, or it is damaged'),
        (b'<svg/>', 400, 'not an image'),
        (SCENE.read_bytes()[:3000], 400, 'damaged'),
        (b'x' * 60_000, 413, 'The file is larger than 50 kB'),
    ],
)
def test_what_is_no_image_is_refused(serve, model, content, status, message):
    client = Client(serve(make_app(model, limits=Limits(upload_bytes=50_000, upload_side=900))))
    got, answer = client.upload(content)
    assert got == status
    assert message in answer['error']


def test_bounds_on_size(serve, model):
    client = Client(
        serve(make_app(model, limits=Limits(upload_side=900, kept_side=100, encoder_side=64)))
    )
    buffer = io.BytesIO()
    Image.new('RGB', (901, 10)).save(buffer, format='PNG')
    status, answer = client.upload(buffer.getvalue())
    assert status == 413
    assert answer['error'] == 'This file is 901x10 pixels, over the limit of max_side=900'
    buffer = io.BytesIO()
    Image.fromarray(picture(400, 200, 1)).save(buffer, format='PNG')
    taken = client.upload(buffer.getvalue())[1]
    assert (taken['width'], taken['height']) == (50, 100)
    assert client.ask(taken['key'])[0] == 200


def test_a_body_without_a_length_is_bounded_too(serve, model):
    address = urlsplit(serve(make_app(model, limits=Limits(upload_bytes=50_000))))
    connection = HTTPConnection(address.netloc, timeout=60)
    connection.putrequest('POST', '/api/image')
    connection.putheader('Transfer-Encoding', 'chunked')
    connection.endheaders()
    for _ in range(6):
        connection.send(b'%x\r\n%s\r\n' % (10_000, b'x' * 10_000))
    # The answer comes while the body has no end yet.
    assert connection.getresponse().status == 413
    connection.close()


def test_the_image_that_was_used_longest_ago_goes_first(serve, model):
    app = make_app(model, limits=Limits(images=3))
    client = Client(serve(app))

    def upload():
        return client.upload(SCENE.read_bytes())[1]['key']

    def held():
        return list(app.state.server.sessions)

    first, second, third = upload(), upload(), upload()
    client.request(f'/api/{first}/image.jpg')  # to look at it is to use it
    fourth = upload()
    assert held() == [third, first, fourth]
    assert client.ask(second)[0] == 404
    assert client.ask(third)[0] == 200
    fifth = upload()
    assert held() == [fourth, third, fifth]
    assert client.ask(first)[0] == 404


@pytest.mark.parametrize(
    'changes, message',
    [
        (
            {'classes': 'dog, ' * 3 + ','.join(map(str, range(300)))},
            'Too many names: 301',
        ),
        ({'classes': 'x' * 200}, 'too long: 200 characters (at most 100)'),
        ({'classes': f'a = {"x" * 200}, b'}, f'The name {"x" * 30}… is too long: 200 characters'),
        (
            {'classes': ','.join(f'{number:0100}' for number in range(200))},
            'Too many names: their prompts have ',
        ),
        ({'classes': 'dog', 'background': 'dog'}, "more than once: ['dog']"),
        ({'threshold': 7}, 'Threshold must be a number in [0, 1], not 7'),
        ({'threshold': []}, 'Threshold must be a number in [0, 1], not list'),
        ({'classes': 'names.txt'}, 'No file of names at names.txt, as files are not read here'),
        ({'classes': str(SCENES / '000001.jpg')}, 'as files are not read here'),
        ({'background_level': 0}, 'The background level must be in'),
        ({'threshold': 'x'}, 'Threshold must be a number in [0, 1], not x'),
        ({'min_score': 2}, 'Min_score must be a number in [0, 1], not 2'),
        ({'top': 0}, 'Top must be at least 1, not 0'),
        ({'top': 'many'}, "Top must be a whole number, not 'many'"),
    ],
)
def test_bad_questions_are_refused(client, key, changes, message):
    status, answer = client.ask(key, **changes)
    assert status == 400
    assert message in answer['error']


def test_only_new_names_make_prompts(model):
    server = make_app(model, limits=Limits(prompts_length=4000)).state.server
    own = server.names.vocabulary
    server._check_prompts(own + parse_names('a lamp'), server.names.background)
    with pytest.raises(ValueError, match=r'too many names.*together \(at most 4000\)'):
        server._check_prompts(own + parse_names('a lamp'), parse_names('a street'))


def test_a_question_that_is_no_json_or_too_long(client, key):
    assert client.json(f'/api/{key}/ask', b'nonsense')[0] == 400
    assert client.json(f'/api/{key}/ask', b'[]')[0] == 400
    assert client.json(f'/api/{key}/ask', b' ' * 200_000)[0] == 413


def test_no_names_means_the_models(client, key, model):
    answer = client.ask(key, classes=' , ', background=None)[1]
    assert {one['name'] for one in answer['stages'][0]['classes']} <= set(
        model.tagger.vocabulary.names
    )


def test_other_pages_and_other_names_of_the_host_are_refused(client):
    assert client.request('/', Origin='https://example.org')[0] == 403
    assert client.request('/', Origin=client.address)[0] == 200
    assert client.request('/', Host='example.org')[0] == 400


def test_nothing_is_written(client, key, tmp_path, monkeypatch):
    for name in ('TMPDIR', 'HOME', 'XDG_CACHE_HOME'):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    client.upload(SCENE.read_bytes())
    client.ask(key, classes='unicorn, cyclops')
    client.request(f'/api/{key}/download/tags.png')
    assert not any(tmp_path.iterdir())


@pytest.fixture
def ask_everywhere(client, key, monkeypatch, capsys):
    """Ask with typed names on the page, on the command line and in Python.

    Gives the names that the models were asked for, and three errors, or None for each.
    """
    asked = []
    names_for = ImageInferencer.names_for

    def spy(self, classes=None, background=None):
        names = names_for(self, classes, background)
        asked.append(names.vocabulary)
        return names

    def ask(text):
        monkeypatch.setattr(ImageInferencer, 'names_for', spy)
        error = client.ask(key, classes=text, background='')[1].get('error')
        errors = [None if error is None else error[0].lower() + error[1:]]
        code = cli.main(['segment', str(SCENE), '--model', 'cls-seg_demo', '--classes', text])
        said = capsys.readouterr().err.strip()
        errors.append(said.removeprefix('mmtagclip: error: ') if code else None)
        try:
            SegInferencer('cls-seg_demo', show_progress=False)(SCENE, classes=text)
            errors.append(None)
        except (ValueError, OSError) as error:
            errors.append(str(error))
        return asked, errors

    return ask


@pytest.mark.parametrize(
    'text',
    [
        'mushroom',
        'mushroom, camera',
        ' mushroom ,traffic  light, "a big, red bus" , mushroom,',
        'mushroom, camera\nzebra',
        'voc',
    ],
)
def test_typed_names_mean_the_same_everywhere(text, ask_everywhere):
    asked, errors = ask_everywhere(text)
    assert errors == [None] * 3
    assert asked == [parse_names(text)] * 3


@pytest.mark.parametrize(
    'text, message',
    [
        ('names.txt', 'no file of names at names.txt'),
        ('my/names', 'no file of names at my/names'),
        ('mushroom, "camera', "a quote is not closed in the names 'mushroom, \"camera'"),
    ],
)
def test_typed_names_are_refused_the_same_everywhere(text, message, ask_everywhere):
    asked, errors = ask_everywhere(text)
    assert asked == []
    assert [error.removesuffix(', as files are not read here') for error in errors] == [message] * 3


def test_the_command_serves_until_it_is_interrupted(tmp_path):
    process = subprocess.Popen(
        [sys.executable, '-m', 'mmtagclip', 'web', '--port', '0', '--model', 'tagclip_demo'],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    assert line.startswith('tagclip_demo at http://127.0.0.1:')
    client = Client(line.split()[2])
    key = client.upload(SCENE.read_bytes())[1]['key']
    answer = client.ask(key)[1]
    assert 'masks' not in answer
    assert client.request(f'/api/{key}/download/mask.png')[0] == 404
    process.send_signal(signal.SIGINT)
    assert 'Traceback' not in process.communicate(timeout=30)[1]


@pytest.mark.parametrize('config', ['direct_demo', 'tag-guided_demo'])
def test_segmentors_of_the_other_kind(config, serve):
    """Masks always; tags and their steps where there is a tagger."""
    inferencer = SegInferencer(config, show_progress=False)
    tagger = inferencer.model.tagger
    client = Client(serve(make_app(inferencer)))
    about = client.json('/api/model')[1]
    assert about['has_background']
    assert about['threshold'] == (None if tagger is None else tagger.head.threshold)
    key = client.upload(SCENE.read_bytes())[1]['key']
    (expected,) = inferencer(SCENE)
    own = {key: ', '.join(about[key]) for key in ('classes', 'background')}
    answer = client.ask(key, **own, threshold=about['threshold'], background_level=None)[1]
    steps = [] if tagger is None else ['coarse', 'DMAR', 'CWR']
    assert [stage['step'] for stage in answer['stages']] == steps
    for kind in ('masks.json', 'masks.png'):
        assert client.request(f'/api/{key}/download/{kind}')[0] == 200
    assert client.request(f'/api/{key}/download/tags.json')[0] == (200 if steps else 404)
    mask = client.request(f'/api/{key}/download/mask.png')[1]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(mask))), expected.mask)
    (other,) = inferencer(SCENE, classes='mushroom, camera, zebra', background='wall')
    answer = client.ask(key, threshold=about['threshold'], background_level=None)[1]
    shares = {name: share for name, share in other.shares.items() if name != 'background'}
    assert {one['name']: one['share'] for one in answer['masks']} == pytest.approx(shares)
    covered = [
        sum(
            one['share']
            for one in client.ask(key, threshold=None, background_level=level)[1]['masks']
        )
        for level in (0.05, 0.95)
    ]
    assert covered[0] > covered[1]
    if tagger is None:
        status, answer = client.ask(key, threshold=0.5)
        assert status == 400
        assert 'has no tagger, so it takes no threshold' in answer['error']


def test_the_models_own_names_keep_their_synonyms(serve):
    """The page sends the names that it shows; a class is more than its name."""
    classes = {'mushroom': ['fungus, of the wood', 'toadstool'], 'a big, red bus': ()}
    tagger = TagInferencer('tagclip_demo', show_progress=False).model
    names = tagger.names_for(classes)
    other = TagCLIP(tagger.encoder, tagger.head, classes, tagger.background)
    client = Client(serve(make_app(other)))
    key = client.upload(SCENE.read_bytes())[1]['key']
    answer = client.ask(key, classes='mushroom, "a big, red bus"', background=None)[1]
    (expected,) = TagInferencer(tagger, show_progress=False)(SCENE, classes=classes)
    assert {one['name']: one['score'] for one in answer['stages'][-1]['classes']} == pytest.approx(
        dict(zip(names.vocabulary.names, expected.scores.tolist(), strict=True)), abs=1e-5
    )


def test_an_address_that_is_taken_is_said_before_the_model_is_built():
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f'can not listen on 127.0.0.1:{port}: Address already'):
            serve_page('nothing', '127.0.0.1', port, None, config=None)


def test_what_listens_and_for_whom(monkeypatch):
    """A port is free again at once; a page for others than this machine takes any host."""
    from mmtagclip.web import server as module

    seen = {}

    class Server:
        def run(self, sockets):
            (socket_,) = sockets
            seen['reuse'] = socket_.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
            seen['port'] = socket_.getsockname()[1]
            socket_.close()

    def make_app(model, title, limits, hosts):
        seen.update(model=model, title=title, side=limits.encoder_side, hosts=hosts)

    def build(config, weights, device, **options):
        return config, weights, device, options

    monkeypatch.setattr(module, 'make_server', lambda app, limits: Server())
    monkeypatch.setattr(module, 'make_app', make_app)
    monkeypatch.setattr(module, 'inferencer_class', lambda config: build)
    monkeypatch.setattr(module.gc, 'freeze', lambda: None)
    interval = sys.getswitchinterval()
    addresses = []
    try:
        for host in ('127.0.0.1', '0.0.0.0'):
            serve_page('a', host, 0, 'cpu', 'config', 300, addresses.append, weights='w')
            assert seen['reuse']
            assert addresses[-1] == f'http://{host}:{seen["port"]}'
            assert seen['side'] == 300
            options = {'max_side': 300, 'show_progress': False}
            assert seen['model'] == ('config', 'w', 'cpu', options)
            local = ('localhost', '127.0.0.1', '[::1]', host)
            assert seen['hosts'] == (local if host == '127.0.0.1' else ('*',))
        assert sys.getswitchinterval() < interval
    finally:
        sys.setswitchinterval(interval)
