"""Embedding files, read by the libraries that they are for, and search in them."""

import json
import warnings

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

from mmtagclip.apis import Embedder, EmbeddingFile, embed_images, list_images, search
from mmtagclip.apis import embedding as module
from mmtagclip.clip import Vocabulary
from mmtagclip.images import PatchGrid, read_image
from mmtagclip.models import CLIPEncoder
from tests.apis.conftest import SCENES


@pytest.fixture(scope='module')
def embedder():
    built = Embedder('tagclip_demo', 'cpu')
    built.warns = False
    return built


def embed(embedder, photos, out, **options):
    images = list_images(photos, unread=[])
    return embed_images(embedder, images, out, show_progress=False, **options)


def names(photos):
    return [str(photos / name) for name in ('a.JPG', 'b.jpg', 'more/c.jpg')]


def test_an_embedding_is_the_class_token(embedder, clip):
    pixels = [read_image(SCENES / f'{name}.jpg') for name in ('000040', '000003')]
    vectors = embedder.images(pixels)
    assert (vectors.shape, vectors.dtype) == ((2, embedder.dimension), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(embedder.images(pixels[1:]), vectors[1:], atol=1e-6)
    # CLIP's own embedding of the squeezed image.
    tiny = Embedder(CLIPEncoder(model=clip, text_cache=False))
    square = PatchGrid(16, (224, 224)).resize(pixels[0])
    mean, std = (np.array(one, np.float32) for one in (tiny.encoder.mean, tiny.encoder.std))
    plain = torch.from_numpy((square / np.float32(255) - mean) / std).permute(2, 0, 1)[None]
    plain = tiny.encoder.clip.encode_image(plain, normalize=True)
    np.testing.assert_allclose(tiny.images(pixels[:1]), plain.detach().numpy(), atol=1e-5)


def test_own_shape_and_patches(embedder):
    pixels = read_image(SCENES / '000040.jpg')
    own = Embedder(embedder.encoder, max_side=160)
    own.warns = False
    features = own.patches(pixels)
    height, width = own.grid.target_size(*pixels.shape[:2])
    assert features.shape == (height // 16, width // 16, embedder.dimension)
    assert max(height, width) == 160
    dense = own.encoder(own._input(own.grid.resize(pixels))[None])
    np.testing.assert_array_equal(features.reshape(-1, own.dimension), dense.patches[0].numpy())
    token = own.encoder.ordinary_class_token(dense).numpy()
    np.testing.assert_allclose(own.images([pixels]), token, atol=1e-5)
    assert not np.allclose(own.images([pixels]), embedder.images([pixels]), atol=1e-2)
    with pytest.raises(ValueError, match='max_side must be at least 1, not 0'):
        Embedder(embedder.encoder, max_side=0)


def test_a_device_is_refused_before_the_model_is_built():
    with pytest.raises(ValueError, match="the device 'toaster' can not be used: Expected one of"):
        Embedder('tagclip_dmo', 'toaster')


def test_nothing_is_downloaded_without_asking(embedder, monkeypatch, tmp_path):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    with pytest.raises(FileNotFoundError, match='are not on this machine, and nothing is downl'):
        Embedder('tagclip_vit-base-p16_openai_folder')
    asked = []

    def build(config):
        asked.append((config.model, config.pretrained, config.download))
        return embedder.encoder

    monkeypatch.setattr(module.MODELS, 'build', build)
    Embedder('tagclip_vit-base-p16_openai_folder', download=True)
    Embedder('tagclip_demo', encoder='ViT-B-16-SigLIP2', download=True)
    assert asked == [
        ('ViT-B-16-quickgelu', 'openai', True),
        ('ViT-B-16-SigLIP2', 'webli', True),
    ]
    with pytest.raises(ValueError, match='leave out encoder'):
        Embedder(embedder.encoder, encoder='ViT-B-16-SigLIP2')


def test_the_demo_model_warns_once_of_other_images(embedder, photos, tmp_path):
    one = Embedder(embedder.encoder)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        embed(one, SCENES / '000040.jpg', tmp_path / 'a.safetensors')
    with pytest.warns(UserWarning, match='knows only 50 pictograms, .* Embedder') as caught:
        embed_images(one, photos / 'b.jpg', tmp_path / 'b.safetensors', show_progress=False)
    assert caught[0].filename == __file__
    pixels = read_image(photos / 'b.jpg')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        one.images([pixels])
    for call in (lambda one: one.images([pixels]), lambda one: one.patches(pixels)):
        with pytest.warns(UserWarning, match='knows only 50 pictograms') as caught:
            call(Embedder(embedder.encoder))
        assert caught[0].filename == __file__


def test_a_text_stands_as_it_is(embedder):
    plain = embedder.encoder.encode_names(Vocabulary.load(['bell']), ['{}'])[0].numpy()
    np.testing.assert_array_equal(embedder.text(' bell '), plain)
    assert not np.array_equal(embedder.text('a photo of a bell.'), plain)
    with pytest.raises(ValueError, match='the text is empty'):
        embedder.text(' ')


def test_parquet_is_read_by_pyarrow(embedder, photos, tmp_path):
    pq = pytest.importorskip('pyarrow.parquet', reason='Parquet needs pyarrow')
    out = tmp_path / 'new' / 'a.parquet'
    assert embed(embedder, photos, out, patches=True) == {}
    table = pq.read_table(out)
    assert table.column_names == ['image', 'embedding', 'grid', 'patches']
    assert table.column('image').to_pylist() == names(photos)
    pixels = [read_image(path) for path in names(photos)]
    np.testing.assert_allclose(
        np.array(table.column('embedding').to_pylist()), embedder.images(pixels), atol=1e-6
    )
    for row, image in zip(table.to_pylist(), pixels, strict=True):
        features = embedder.patches(image)
        assert row['grid'] == list(features.shape[:2])
        np.testing.assert_allclose(
            np.array(row['patches']).reshape(features.shape), features, atol=1e-3
        )
    facts = json.loads(table.schema.metadata[b'mmtagclip'])
    assert facts == EmbeddingFile(out).facts
    assert facts['encoder'] == embedder.encoder.identity
    assert (facts['model'], facts['errors']) == ('tagclip_demo', {})
    assert sorted(path.name for path in out.parent.iterdir()) == ['a.parquet']


def test_parquet_is_read_by_pandas(embedder, photos, tmp_path):
    pytest.importorskip('pyarrow', reason='Parquet needs pyarrow')
    pandas = pytest.importorskip('pandas', reason='pandas is not installed')
    embed(embedder, photos, tmp_path / 'a.parquet')
    frame = pandas.read_parquet(tmp_path / 'a.parquet')
    assert list(frame.columns) == ['image', 'embedding']
    assert np.stack(frame.embedding).shape == (3, embedder.dimension)


def test_safetensors_are_read_by_safetensors(embedder, photos, tmp_path):
    out = tmp_path / 'a.safetensors'
    embed(embedder, photos, out, patches=True)
    pixels = [read_image(path) for path in names(photos)]
    features = [embedder.patches(image) for image in pixels]
    with safe_open(out, 'numpy') as file:
        assert set(file.keys()) == {'embeddings', 'grids', 'patches'}
        assert json.loads(file.metadata()['images']) == names(photos)
        np.testing.assert_allclose(
            file.get_tensor('embeddings'), embedder.images(pixels), atol=1e-6
        )
        assert file.get_tensor('grids').tolist() == [list(one.shape[:2]) for one in features]
        patches = file.get_tensor('patches')
    assert patches.dtype == np.float16
    flat = np.concatenate([one.reshape(-1, embedder.dimension) for one in features])
    np.testing.assert_allclose(patches, flat, atol=1e-3)
    embed(embedder, photos, tmp_path / 'b.safetensors')
    with safe_open(tmp_path / 'b.safetensors', 'numpy') as file:
        assert set(file.keys()) == {'embeddings'}


def test_a_run_resumes(embedder, photos, tmp_path, monkeypatch):
    out, embedded = tmp_path / 'a.safetensors', []
    original = Embedder._images

    def images(self, pixels):
        if len(embedded) == 2:
            raise KeyboardInterrupt
        embedded.append(len(pixels))
        return original(self, pixels)

    monkeypatch.setattr(Embedder, '_images', images)
    with pytest.raises(KeyboardInterrupt):
        embed(embedder, photos, out, batch_size=1)
    assert not out.exists()
    with pytest.raises(ValueError, match='begun by another job: patches was False'):
        embed(embedder, photos, out, patches=True)
    embedded[:] = [0]
    embed(embedder, photos, out, batch_size=1)
    assert embedded == [0, 1]
    monkeypatch.undo()
    embed(embedder, photos, tmp_path / 'whole.safetensors', batch_size=1)
    assert out.read_bytes() == (tmp_path / 'whole.safetensors').read_bytes()
    assert not out.with_name('a.safetensors.unfinished').exists()


def test_unreadable_images_are_left_out_and_named(embedder, photos, tmp_path):
    (photos / 'b.jpg').write_text('no image')
    errors = embed(embedder, photos, tmp_path / 'a.safetensors')
    assert list(errors) == [str(photos / 'b.jpg')]
    file = EmbeddingFile(tmp_path / 'a.safetensors')
    assert file.facts['errors'] == errors
    assert [image for batch in file.batches() for image in batch[0]] == names(photos)[::2]
    with pytest.raises(ValueError, match=r'b\.jpg is not an image'):
        embed(embedder, photos, tmp_path / 'b.safetensors', on_error='raise')
    with pytest.raises(ValueError, match=r'not one image could be read: .*b\.jpg is not'):
        embed_images(embedder, photos / 'b.jpg', tmp_path / 'c.safetensors')


def test_an_image_that_is_too_large_for_the_encoder_stops_no_run(embedder, photos, tmp_path):
    Image.new('RGB', (2080, 2080)).save(photos / 'b.jpg')  # 130 * 130 patches of 16
    large = Embedder(embedder.encoder, max_side=2080)
    large.warns = False
    errors = embed(large, photos, tmp_path / 'a.safetensors', batch_size=3)
    assert list(errors) == [str(photos / 'b.jpg')]
    assert 'b.jpg of 2080x2080 pixels makes 16900 patches' in errors[str(photos / 'b.jpg')]


@pytest.mark.parametrize('chunk', [1, 7, 100])
def test_search_is_that_of_all_products(chunk):
    rng = np.random.default_rng(0)
    vectors = rng.integers(-3, 4, (50, 4)).astype(np.float32)  # with equal products among them
    query = np.array([1, 2, 0, -1], np.float32)
    rows = [str(row) for row in range(50)]
    batches = [
        (rows[start : start + chunk], vectors[start : start + chunk])
        for start in range(0, 50, chunk)
    ]
    expected = sorted(range(50), key=lambda row: (-float(vectors[row] @ query), row))
    for top in (1, 10, 60):
        found = search(query, batches, top)
        assert found == [(rows[row], float(vectors[row] @ query)) for row in expected[:top]]
    with pytest.raises(ValueError, match='must be at least 1, not 0'):
        search(query, batches, 0)
    with pytest.raises(ValueError, match='the query has 3 numbers, a row 4'):
        search(query[:3], batches)


def test_what_is_wrong_is_refused(embedder, photos, tmp_path, clip, monkeypatch):
    out = tmp_path / 'a.safetensors'
    embed(embedder, photos, out)
    with pytest.raises(FileExistsError, match=r'a\.safetensors exists already'):
        embed(embedder, photos, out)
    embed(embedder, photos, out, replace=True)
    with pytest.raises(ValueError, match=r'embeddings of .*, whose architecture are not those of'):
        EmbeddingFile(out).check(Embedder(CLIPEncoder(model=clip, text_cache=False)))
    EmbeddingFile(out).check(embedder)
    for path in (out, tmp_path / 'a.parquet'):
        path.write_bytes(out.read_bytes()[:100])
        with pytest.raises(ValueError, match=rf'{path.name} is no file of embeddings'):
            EmbeddingFile(path)
    with pytest.raises(FileNotFoundError, match='there is no file'):
        EmbeddingFile(tmp_path / 'gone.parquet')
    with pytest.raises(ValueError, match=r'are in \.parquet or \.safetensors files'):
        EmbeddingFile(photos / 'notes.txt')
    with pytest.raises(ValueError, match=r'are written to \.parquet or \.safetensors, not'):
        embed(embedder, photos, tmp_path / 'a.npy')
    with pytest.raises(ValueError, match='batch_size must be at least 1'):
        embed(embedder, photos, tmp_path / 'b.safetensors', batch_size=0)
    with pytest.raises(ValueError, match="'raise' or 'skip'"):
        embed(embedder, photos, tmp_path / 'b.safetensors', on_error='stop')
    with pytest.raises(TypeError, match='image-0 is not a file'):
        embed_images(embedder, np.zeros((4, 4, 3), np.uint8), tmp_path / 'b.safetensors')
    monkeypatch.setattr('mmtagclip.files.LONGEST_HEADER', 100)
    with pytest.raises(ValueError, match=r'do not fit into safetensors: write \.parquet'):
        embed(embedder, photos, tmp_path / 'b.safetensors')


def test_a_path_in_a_file_is_not_followed(embedder, photos, tmp_path):
    stranger = Embedder(embedder.encoder)
    stranger.warns = False
    stranger.name = str(tmp_path / 'evil.py')
    embed(stranger, photos, tmp_path / 'a.safetensors')
    with pytest.raises(ValueError, match=r'evil\.py.*, which is not bundled: name its config with'):
        EmbeddingFile(tmp_path / 'a.safetensors').bundled_model()


FACTS = {
    'format': module.FORMAT, 'model': 'm', 'dimension': 4, 'max_side': None,
    'encoder': {'name': 'n', 'architecture': 'a', 'weights': 'w'},
}  # fmt: skip


ROWS = np.eye(4, dtype=np.float32)[:2]


def stored(path, rows=ROWS, images=('a.jpg', 'b.jpg'), **facts):
    """A file of embeddings, made by hand."""
    facts = {key: value for key, value in {**FACTS, **facts}.items() if value != 'gone'}
    facts = {'mmtagclip': json.dumps(facts)}
    if path.suffix == '.safetensors':
        save_file({'embeddings': rows}, path, {**facts, 'images': json.dumps(images)})
        return path
    rows = pyarrow.FixedSizeListArray.from_arrays(rows.ravel(), rows.shape[1])
    table = pyarrow.table({'image': list(images), 'embedding': rows[: len(images)]})
    pyarrow.parquet.write_table(table.replace_schema_metadata(facts), path)
    return path


@pytest.mark.parametrize('suffix', ['.parquet', '.safetensors'])
@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'rows': np.diag(np.float32([1, np.nan]))}, r'b\.jpg is damaged: its length'),
        ({'rows': np.diag(np.float32([1, 1e38]))}, r'b\.jpg is damaged: its length'),
        ({'rows': np.diag(np.float32([0.98, 1]))}, r'a\.jpg is damaged: its length'),
        ({'rows': np.eye(2)}, 'no float32 rows of 2 numbers'),
        ({'images': ['a.jpg', None]}, 'a path is missing or damaged'),
        ({'dimension': 7}, 'no float32 rows of 7 numbers'),
        ({'dimension': 4.0}, 'its metadata is damaged'),
        ({'model': 'gone'}, 'its metadata is damaged'),
        ({'max_side': 0}, 'its metadata is damaged'),
        ({'max_side': '1'}, 'its metadata is damaged'),
        ({'encoder': []}, 'its metadata is damaged'),
        ({'encoder': {'name': 'n', 'architecture': 'a'}}, 'its metadata is damaged'),
        ({'format': 'another'}, 'its metadata lacks "format"'),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, suffix, change, message):
    """One flipped bit may put an image before all others."""
    if 'rows' in change:
        change['dimension'] = 2
    path = stored(tmp_path / f'a{suffix}', **change)
    with pytest.raises(ValueError, match=rf'a\{suffix} is no file of embeddings: .*{message}'):
        list(EmbeddingFile(path).batches())


def test_a_file_that_is_whole_is_read(tmp_path):
    for suffix in ('.parquet', '.safetensors'):
        path = stored(tmp_path / f'a{suffix}', rows=ROWS * np.float32(1.009))
        ((images, rows),) = EmbeddingFile(path).batches()
        assert (list(images), rows.shape) == (['a.jpg', 'b.jpg'], (2, 4))


@pytest.mark.parametrize('images', [['a.jpg'], ['a.jpg', 'b.jpg', 'c.jpg'], {'a.jpg': 1}])
def test_other_numbers_of_paths_and_rows_are_refused(tmp_path, images):
    path = stored(tmp_path / 'a.safetensors', images=images)
    with pytest.raises(ValueError, match=r'a\.safetensors is no file of embeddings'):
        list(EmbeddingFile(path).batches())
