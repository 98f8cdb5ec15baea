"""``mmtagclip references``: resumed, refused, and what it says of bad files."""

import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mmtagclip import cli
from mmtagclip.apis import build_references, load_reference_encoder
from mmtagclip.apis.embedding import EmbeddingFile
from mmtagclip.clip import Vocabulary
from mmtagclip.files import write_image
from mmtagclip.images import read_image
from mmtagclip.jobs.runner import Manifest
from mmtagclip.models import ReferenceEncoder
from mmtagclip.regions import ReferenceBank
from tests.golden.weights import smooth_image
from tests.regions.conftest import SMALL, vit

WORDS = 'dog,cat,"big, red bus"'
OPTIONS = {'count': 3, 'contexts': ['sky', 'cat'], 'templates': ['a {}.'], 'side': 32}


def mmtagclip(*words):
    return cli.main([str(word) for word in words])


@pytest.fixture(scope='module')
def config(tmp_path_factory, encoder_config):
    """The config of a small ReferenceEncoder."""
    folder = tmp_path_factory.mktemp('config')
    save_file(vit(16).state_dict(), folder / 'vit.safetensors')
    model = {
        'type': 'mmtagclip.ReferenceEncoder',
        'encoder': encoder_config,
        'source': {
            'type': 'mmtagclip.TimmFeatures',
            'model': 'vit_tiny_patch16_224',
            'checkpoint': str(folder / 'vit.safetensors'),
            'kwargs': {'patch_size': 16, **SMALL},
        },
        'min_cosine': -1.0,
        **OPTIONS,
    }
    path = folder / 'small.py'
    path.write_text(f'model = {model!r}\n')
    return path


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'images'
    for number, name in enumerate('abcdü'):
        write_image(folder / f'{name}.png', smooth_image(48 + 8 * number, 72, number))
    return folder


@pytest.fixture(scope='module')
def model(config):
    return load_reference_encoder(str(config), 'cpu')


@pytest.fixture
def built_once(model, monkeypatch):
    """The command takes the model that is there."""
    monkeypatch.setattr('mmtagclip.apis.banks.load_reference_encoder', lambda *_, **__: model)


@pytest.fixture(scope='module')
def bank(images, config, tmp_path_factory):
    out = tmp_path_factory.mktemp('bank') / 'a.safetensors'
    words = ['--classes', WORDS, '--model', config, '--out', out, '--quiet']
    assert mmtagclip('references', images, *words) == 0
    return out


def test_the_references_are_those_of_the_nearest_images(bank, images, model):
    found = ReferenceBank(bank)
    assert sorted(one.name for one in bank.parent.iterdir()) == [
        'a.embeddings.safetensors',
        'a.safetensors',
    ]
    assert found.facts['words'] == ['dog', 'cat', 'big, red bus']
    assert found.facts['settings']['templates'] == ['a {}.']
    names, vectors = next(EmbeddingFile(bank.with_name('a.embeddings.safetensors')).batches())
    words = ['sky', 'cat', 'dog']
    texts = model.encoder.encode_names(Vocabulary.load(words), ['a {}.'])
    contexts = None
    for word, text in zip(words, texts, strict=True):
        order = np.argsort(-(vectors @ text.numpy()), kind='stable')[:3]
        paths = [names[row] for row in order]
        places = [model.places(read_image(path)) for path in paths]
        reference, levels = model.reference(places, text, contexts)
        if word in model.contexts:  # each with those before it
            contexts = torch.stack([*([] if contexts is None else contexts), reference])
        if word != 'sky':
            row = found.row(word)
            assert found.facts['images'][word] == paths
            torch.testing.assert_close(found.references[row], reference)
            torch.testing.assert_close(found.levels[row], levels)
    assert found.row('sky') is None
    found.check_encoder(model.encoder)
    found.check_source(model.source)


@pytest.mark.usefixtures('built_once')
def test_a_run_that_was_stopped_resumes(bank, images, config, tmp_path, monkeypatch, capsys):
    out = tmp_path / 'b.safetensors'
    embeddings = bank.with_name('a.embeddings.safetensors')
    words = ['references', images, '--classes', WORDS, '--model', config, '--out', out]
    words += ['--embeddings', embeddings]
    plain = ReferenceEncoder.reference
    with monkeypatch.context() as patch:
        patch.setattr(ReferenceEncoder, 'reference', interrupted(plain, 2))
        assert mmtagclip(*words) == 130
    with pytest.raises(FileNotFoundError, match='are not finished: run mmtagclip references'):
        ReferenceBank(out)
    begun = tmp_path / 'b.safetensors.unfinished'
    assert Manifest.load(begun).kind == 'references'
    others = [*words[:2], '--classes', 'dog,fox', *words[4:]]
    assert mmtagclip(*others) == 2  # other words
    assert 'was begun by another job' in capsys.readouterr().err
    counted = interrupted(plain, 9)
    monkeypatch.setattr(ReferenceEncoder, 'reference', counted)
    assert mmtagclip(*words) == 0
    assert counted.calls == [None] * 2  # two contexts of four words were done
    assert out.read_bytes() == bank.read_bytes()
    assert [one.name for one in tmp_path.iterdir()] == ['b.safetensors']


@pytest.mark.usefixtures('built_once')
def test_a_resumed_run_knows_what_was_unreadable_before(bank, images, tmp_path, monkeypatch):
    words = ['references', images, '--classes', WORDS, '--model', 'tagclip_demo', '--embeddings']
    words += [bank.with_name('a.embeddings.safetensors'), '--out']
    read, plain = ReferenceEncoder.places, ReferenceEncoder.reference
    unread = ReferenceBank(bank).facts['images']['dog'][0]

    def places(self, pixels):
        if np.array_equal(pixels, read_image(unread)):
            raise ValueError(f'{unread}: the disk is gone')
        return read(self, pixels)

    whole, out = tmp_path / 'a.safetensors', tmp_path / 'b.safetensors'
    with monkeypatch.context() as patch:
        patch.setattr(ReferenceEncoder, 'places', places)
        assert mmtagclip(*words, whole) == 1
        patch.setattr(ReferenceEncoder, 'reference', interrupted(plain, 3))
        assert mmtagclip(*words, out) == 130
    assert ReferenceBank(whole).facts['errors'] == {unread: f'{unread}: the disk is gone'}
    assert mmtagclip(*words, out) == 1
    assert ReferenceBank(out).facts['errors'] == ReferenceBank(whole).facts['errors']


@pytest.mark.usefixtures('built_once')
def test_a_damaged_context_is_made_again_as_it_was(bank, images, config, tmp_path, monkeypatch):
    out = tmp_path / 'b.safetensors'
    words = ['references', images, '--classes', WORDS, '--model', config, '--out', out]
    words += ['--embeddings', bank.with_name('a.embeddings.safetensors')]
    with monkeypatch.context() as patch:
        patch.setattr(ReferenceEncoder, 'reference', interrupted(ReferenceEncoder.reference, 3))
        assert mmtagclip(*words) == 130
    (records,) = (tmp_path / 'b.safetensors.unfinished').rglob('*.jsonl')
    sky, *others = records.read_bytes().splitlines(keepends=True)
    assert len(others) == 2  # the other context, which came after it, and a word
    records.write_bytes(b'?' + sky[1:] + b''.join(others))
    counted = interrupted(ReferenceEncoder.reference, 9)
    monkeypatch.setattr(ReferenceEncoder, 'reference', counted)
    assert mmtagclip(*words) == 0
    assert counted.calls == [None] * 2  # the damaged one and the last
    assert out.read_bytes() == bank.read_bytes()


def interrupted(reference, after):
    def call(self, *args):
        if len(call.calls) == after:
            raise KeyboardInterrupt
        call.calls.append(None)
        return reference(self, *args)

    call.calls = []
    return call


def test_a_word_that_finds_no_image_is_named(bank, images, model, tmp_path, monkeypatch):
    monkeypatch.setattr(model, 'min_cosine', 0.99)
    usual = {'embeddings': bank.with_name('a.embeddings.safetensors'), 'show_progress': False}
    with pytest.raises(ValueError, match=r"of 0.99 or more with 'sky' \(of model.contexts, best"):
        build_references(model, images, tmp_path / 'b.safetensors', 'dog', **usual)
    with pytest.raises(
        ValueError, match=r", 'dog' \(best cosine .*: add images that show it, leave"
    ):
        build_references(model, images, tmp_path / 'b.safetensors', 'dog', **usual)
    assert not list(tmp_path.iterdir())


def test_a_word_with_half_of_all_images_is_warned_of(bank, images, model, tmp_path, monkeypatch):
    usual = {'embeddings': bank.with_name('a.embeddings.safetensors'), 'show_progress': False}
    with pytest.warns(UserWarning, match='may have 3 of only 5 images, so words share most of th'):
        build_references(model, images, tmp_path / 'a.safetensors', 'dog', **usual)
    monkeypatch.setattr(model, 'count', 2)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        build_references(model, images, tmp_path / 'b.safetensors', 'dog', **usual)


def test_images_that_can_not_be_read(images, model, tmp_path, monkeypatch, capsys):
    folder = tmp_path / 'images'
    shutil.copytree(images, folder)
    (folder / 'a.png').write_bytes(b'broken')
    out = tmp_path / 'b.safetensors'
    monkeypatch.setattr('mmtagclip.apis.banks.load_reference_encoder', lambda *_, **__: model)
    words = ['references', folder, '--classes', 'dog', '--model', 'tagclip_demo', '--out', out]
    assert mmtagclip(*words) == 1
    assert f'could not read: {folder}/a.png' in capsys.readouterr().err
    found = ReferenceBank(out).facts
    assert len(found['images']['dog']) == 3
    assert list(found['errors']) == [f'{folder}/a.png']

    def unread(self, image):  # after they were embedded
        raise ValueError('a broken png')

    monkeypatch.setattr(ReferenceEncoder, 'places', unread)
    out = tmp_path / 'c.safetensors'
    usual = {'embeddings': tmp_path / 'b.embeddings.safetensors', 'show_progress': False}
    with pytest.raises(ValueError, match="not one image of the word 'sky' can be read: "):
        build_references(model, folder, out, 'dog', **usual)
    with pytest.raises(ValueError, match='png'):
        build_references(model, folder, out, 'dog', on_error='raise', **usual)


def test_embeddings_of_other_images_or_another_encoder(bank, images, model, tmp_path):
    usual = {'embeddings': bank.with_name('a.embeddings.safetensors'), 'show_progress': False}
    out = tmp_path / 'b.safetensors'
    with pytest.raises(ValueError, match='has embeddings of other images than those given, such'):
        build_references(model, images / 'a.png', out, 'dog', **usual)
    content = usual['embeddings'].read_bytes()
    digest = json.dumps(EmbeddingFile(usual['embeddings']).facts['encoder']['weights'])[1:-1]
    other = tmp_path / 'other.safetensors'
    other.write_bytes(content.replace(digest.encode(), b'0' * len(digest)))
    with pytest.raises(ValueError, match='whose weights are not those of this'):
        build_references(model, images, out, 'dog', embeddings=other, show_progress=False)


def test_embeddings_of_another_side_or_changed_files(images, model, tmp_path):
    folder = tmp_path / 'images'
    shutil.copytree(images, folder)
    build_references(model, folder, tmp_path / 'a.safetensors', 'dog', show_progress=False)
    out = tmp_path / 'b.safetensors'
    usual = {'embeddings': tmp_path / 'a.embeddings.safetensors', 'show_progress': False}
    build_references(model, folder, out, 'dog', **usual)
    with pytest.raises(ValueError, match=r'made with max_side=None, not 64: remove it, or name an'):
        build_references(model, folder, out, 'dog', max_side=64, replace=True, **usual)
    write_image(folder / 'a.png', smooth_image(40, 72, 9))
    with pytest.raises(ValueError, match=r'images have changed since their embeddings in .*a\.emb'):
        build_references(model, folder, out, 'dog', replace=True, **usual)


@pytest.mark.parametrize(
    'words, message',
    [
        (['--out', 'a.npz'], '--out must end in .safetensors, not a.npz'),
        (['--out', 'BANK'], 'exists already; add --overwrite to replace it'),
        (['--embeddings', 'a.npz'], '--embeddings must end in .parquet or .safetensors: a.npz'),
        (['--model', 'OTHER'], 'are made by a ReferenceEncoder, not by a SlidingWindows: name'),
        (['--classes', 'gone.txt'], 'gone.txt'),
    ],
)
def test_what_is_wrong_is_said_in_one_line(words, message, bank, images, config, tmp_path, capsys):
    usual = ['--out', tmp_path / 'n.safetensors', '--classes', 'dog', '--model', config]
    other = tmp_path / 'other.py'
    other.write_text("model = {'type': 'mmtagclip.SlidingWindows'}\n")
    known = {'BANK': bank, 'OTHER': other}
    words = [known.get(word, word) for word in words]
    assert mmtagclip('references', images, *usual, *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith('mmtagclip: error: ')
    assert error.count('\n') == 1


def test_options_of_the_function_are_checked(images, model, tmp_path):
    out = tmp_path / 'a.safetensors'
    with pytest.raises(ValueError, match="on_error must be 'raise' or 'skip'"):
        build_references(model, images, out, 'dog', on_error='stop')
    with pytest.raises(ValueError, match=r'are written to a .safetensors file, not to a.npz'):
        build_references(model, images, 'a.npz', 'dog')
    with pytest.raises(TypeError, match='image-0 is not a file'):
        build_references(model, np.zeros((4, 4, 3), np.uint8), out, 'dog')
