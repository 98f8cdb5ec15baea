"""Weights are fetched only where that is allowed; a refusal or a failure is one sentence."""

import re

import huggingface_hub
import pytest
from huggingface_hub.utils import EntryNotFoundError, HfHubHTTPError

from mmtagclip.apis import TagInferencer, list_models
from mmtagclip.clip import downloads, load_clip
from mmtagclip.models import TimmFeatures

OPENAI = {'model': 'ViT-B-16-quickgelu', 'pretrained': 'openai'}
REFUSED = (
    'the weights of {} are not on this machine, and nothing is downloaded without asking: allow '
    'it with --download (in Python and in configs download=True), or {}'
)


class NoFile(HfHubHTTPError):
    """An answer of the hub."""

    def __init__(self):
        Exception.__init__(self, '404')


class NoEntry(EntryNotFoundError):
    """The hub has the repository, but not the file."""

    def __init__(self):
        Exception.__init__(self, '404')


def missing(model):
    """The first weights that building a model would download."""
    needed = downloads.needed_weights(model)
    return next((name for name in needed if not downloads.on_this_machine(name)), None)


@pytest.fixture
def nothing_here(monkeypatch, tmp_path):
    """A machine without weights, and without a connection; the addresses that were asked for."""
    asked = []

    def no_connection(*args, **kwargs):
        asked.append(args)
        raise ConnectionError('[Errno -2] Name or service not known')

    monkeypatch.setattr('huggingface_hub.try_to_load_from_cache', lambda *of: None)
    monkeypatch.setenv('HOME', str(tmp_path))
    for place in ('huggingface_hub.hf_hub_download', 'open_clip.pretrained.hf_hub_download',
                  'huggingface_hub.get_hf_file_metadata', 'urllib.request.urlopen'):  # fmt: skip
        monkeypatch.setattr(place, no_connection)
    return asked


@pytest.mark.parametrize(
    'encoder, expected',
    [
        ({'model': 'local-dir:x'}, None),
        ({'model': {'embed_dim': 4}, 'checkpoint': 'a.pt'}, None),
        ({'model': 'ViT-B-16-quickgelu', 'checkpoint': 'a.pt'}, None),
        ({'model': 'ViT-B-16-quickgelu', 'pretrained': 'openai'}, 'ViT-B-16-quickgelu (openai)'),
        ({'model': 'hf-hub:org/repo'}, 'hf-hub:org/repo'),
        ({'model': 'ViT-B-16', 'pretrained': 'no such tag'}, None),
    ],
)
def test_what_would_be_downloaded(encoder, expected, monkeypatch):
    monkeypatch.setattr('huggingface_hub.try_to_load_from_cache', lambda *of: None)
    monkeypatch.setenv('HOME', '/nowhere')
    for model in ({'encoder': encoder}, {'tagger': {'encoder': encoder}}):
        assert missing(model) == expected


def test_recorded_repositories_are_those_of_the_catalogues(monkeypatch, tmp_path):
    recorded = dict(downloads.REPOSITORIES)
    needed = {name for entry in list_models() for name in entry.weights}
    # A repository that a config names, and files with an address of their own.
    others = {name for name in needed if name.startswith('hf-hub:') or name in downloads.FILES}
    assert needed - others == set(recorded)
    asked = []
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    monkeypatch.setattr(
        'huggingface_hub.try_to_load_from_cache', lambda *of: asked.append(of) or None
    )
    for name, repository in recorded.items():
        cached_repository(tmp_path, repository)
        for known in (recorded, {}):
            monkeypatch.setattr(downloads, 'REPOSITORIES', known)
            assert not downloads.on_this_machine(name)
        half = len(asked) // 2
        assert asked[:half] == asked[half:], name
        assert {one for one, _ in asked} == {repository}
        asked.clear()


def test_every_part_that_would_be_downloaded_counts(monkeypatch):
    monkeypatch.setattr('huggingface_hub.try_to_load_from_cache', lambda *of: None)
    local = {'model': 'ViT-B-16-quickgelu', 'checkpoint': 'a.pt'}
    remote = {'model': 'ViT-B-16-quickgelu', 'pretrained': 'openai'}
    source = {'type': 'mmtagclip.TimmFeatures', 'model': 'vit_base_patch8_224.dino'}
    for model, expected in [
        ({'encoder': remote, 'tagger': {'encoder': local}}, 'ViT-B-16-quickgelu (openai)'),
        ({'encoder': local, 'tagger': {'encoder': remote}}, 'ViT-B-16-quickgelu (openai)'),
        ({'encoder': local, 'tagger': {'head': {}}}, None),
        (
            {'encoder': {**local, 'last_block': {'source': {**source, 'pretrained': True}}}},
            'vit_base_patch8_224.dino (timm)',
        ),
        ({'encoder': {**local, 'last_block': {'source': {**source, 'checkpoint': 'b.pt'}}}}, None),
    ]:
        assert missing(model) == expected


def cached_repository(cache, repository, *names):
    """Put a repository with empty files into a cache, as huggingface_hub does."""
    folder = cache / f'models--{repository.replace("/", "--")}'
    for path in ('refs/main', *(f'snapshots/abc/{name}' for name in names)):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text('abc')


@pytest.mark.parametrize(
    ('encoder', 'repository', 'name'),
    [
        (OPENAI, 'timm/vit_base_patch16_clip_224.openai', 'open_clip_model.safetensors'),
        ({'model': 'hf-hub:org/repo'}, 'org/repo', 'open_clip_pytorch_model.bin'),
        (
            {
                'model': 'local-dir:x',
                'last_block': {'source': {'model': 'vit_base_patch8_224.dino', 'pretrained': True}},
            },
            'timm/vit_base_patch8_224.dino',
            'pytorch_model.bin',
        ),
    ],
)
def test_cached_weights_are_not_missing(encoder, repository, name, monkeypatch, tmp_path):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    assert missing({'encoder': encoder}) is not None
    cached_repository(tmp_path, repository, 'config.json')
    assert missing({'encoder': encoder}) is not None
    cached_repository(tmp_path, repository, name)
    assert missing({'encoder': encoder}) is None


def loaders():
    """Every way to weights from elsewhere, with their name."""
    config = {
        'type': 'mmtagclip.TagCLIP',
        'encoder': {'type': 'mmtagclip.CLIPEncoder', **OPENAI},
        'head': {'type': 'mmtagclip.TagCLIPHead'},
        'classes': ['dog'],
    }
    dino = 'vit_base_patch8_224.dino'
    return {
        'tag': (lambda **more: load_clip(**OPENAI, **more), 'ViT-B-16-quickgelu (openai)'),
        'hub': (lambda **more: load_clip('hf-hub:someone/model', **more), 'hf-hub:someone/model'),
        'timm': (lambda **more: TimmFeatures(dino, pretrained=True, **more), f'{dino} (timm)'),
        'inferencer': (
            lambda **more: TagInferencer({'model': config}, **more),
            'ViT-B-16-quickgelu (openai)',
        ),
    }


@pytest.mark.parametrize('entrance', ['tag', 'hub', 'timm', 'inferencer'])
def test_what_is_not_here_is_refused_or_fails_in_one_sentence(nothing_here, entrance, caplog):
    load, name = loaders()[entrance]
    instead = 'give the file with --checkpoint (checkpoint=)'
    if entrance == 'hub':
        instead = 'name the folder of its files as local-dir:PATH'
    with pytest.raises(FileNotFoundError, match=f'^{re.escape(REFUSED.format(name, instead))}$'):
        load()
    assert nothing_here == []
    with pytest.raises(
        FileNotFoundError,
        match=rf'^Failed to download {re.escape(name)} \(\[Errno -2\] Name or service not known\): '
        rf'try again with a connection, or {re.escape(instead)}$',
    ):
        load(download=True)
    assert len(nothing_here) == 1  # one try
    assert caplog.text == ''


def test_parts_may_be_allowed_one_by_one(nothing_here):
    model = {'encoder': dict(OPENAI), 'tagger': {'encoder': {**OPENAI, 'download': True}}}
    with pytest.raises(FileNotFoundError, match='nothing is downloaded without asking'):
        downloads.settle_downloads(model, False)
    model['encoder']['download'] = True
    downloads.settle_downloads(model, False)
    model = {'encoder': dict(OPENAI), 'tagger': {'encoder': {'model': 'local-dir:x'}}}
    downloads.settle_downloads(model, True)
    assert model['encoder']['download'] is True
    assert 'download' not in model['tagger']['encoder']


def test_an_answer_of_the_hub_is_a_connection(monkeypatch):
    def gone(url):
        raise NoFile

    monkeypatch.setattr(huggingface_hub, 'get_hf_file_metadata', gone)
    with downloads.downloading('x', 'someone/model'):
        pass


def test_timm_s_weights_may_be_of_two_formats(nothing_here, monkeypatch):
    asked = []

    def only_bin(repository, name):
        asked.append((repository, name))
        if name.endswith('.safetensors'):
            raise NoEntry

    monkeypatch.setattr(huggingface_hub, 'get_hf_file_metadata', lambda url: None)
    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', only_bin)
    downloads.fetch_features('vit_base_patch8_224.dino', True)
    repository = 'timm/vit_base_patch8_224.dino'
    assert asked == [(repository, 'model.safetensors'), (repository, 'pytorch_model.bin')]


@pytest.mark.parametrize('download', [True, False])
def test_libraries_are_offline_unless_downloads_are_allowed(download):
    before = huggingface_hub.constants.HF_HUB_OFFLINE
    with downloads.offline('x', download):
        assert huggingface_hub.constants.HF_HUB_OFFLINE is (before or not download)
    with (
        pytest.raises(OSError, match='^not here$' if download else '^x are not on this machine'),
        downloads.offline('x', download),
    ):
        raise OSError('not here')
    assert huggingface_hub.constants.HF_HUB_OFFLINE is before
