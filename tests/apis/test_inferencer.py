"""The inferencers on the demo's scenes."""

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.visualization import Visualizer
from PIL import Image

import mmtagclip
from mmtagclip.apis import SegInferencer, TagInferencer, list_images, load_config
from mmtagclip.apis.inputs import output_stems
from mmtagclip.clip import TextEncoder, Vocabulary
from mmtagclip.registry import MODELS
from tests.apis.conftest import ROOT, SCENES
from tests.framework_way import framework_way

CONFIG = ROOT / 'configs' / 'demo' / 'tagclip_demo.py'


@pytest.fixture
def tagger(demo_tagger):
    return demo_tagger


@pytest.fixture
def segmentor(demo_segmentor):
    return demo_segmentor


def plain(path, **changes):
    """The result of the framework's own way: the config's pipeline and model."""
    config = Config.fromfile(CONFIG)
    config.model.update(changes)
    return framework_way(config, MODELS.build(config.model), path)


def test_results_are_those_of_the_config(tagger):
    path = SCENES / '000040.jpg'
    (result,) = tagger(path, score_maps=True)
    sample = plain(path, with_score_maps=True)
    assert torch.equal(torch.from_numpy(result.scores), sample.pred_score)
    assert torch.equal(torch.from_numpy(result.score_maps), sample.score_maps)
    assert sorted(result.tags) == sorted(sample.tags)
    assert result.size == Image.open(path).size[::-1]


def test_classes_at_the_call_are_those_of_a_model_built_with_them(tagger):
    path = SCENES / '000040.jpg'
    classes, background = ['bell', 'train', 'zebra'], ['wall', 'sky']
    (result,) = tagger(path, classes=classes, background=background)
    sample = plain(path, classes=classes, background=background)
    assert torch.equal(torch.from_numpy(result.scores), sample.pred_score)
    assert result.classes == tuple(classes)
    assert len(tagger(path)[0].classes) == len(tagger.model.vocabulary)


def test_names_belong_to_one_call(tagger, photos, tmp_path):
    """Names that can be read once, and a file that is another one at the next call."""
    file = tmp_path / 'names.txt'
    for names in (['bell', 'zebra'], ['train', 'octopus']):
        results = tagger(photos, classes=(name for name in names), background=iter(['wall']))
        assert {result.classes for result in results} == {tuple(names)}
        file.write_text('\n'.join(names))
        for source in (file, str(file)):
            assert tagger(photos / 'b.jpg', classes=source)[0].classes == tuple(names)
    assert tagger(photos / 'b.jpg')[0].classes == tagger.model.vocabulary.names


def test_names_of_a_stream_are_read_when_it_is_asked_for(tagger, photos, tmp_path):
    file = tmp_path / 'names.txt'
    file.write_text('bell\nzebra\n')
    stream = tagger.stream(photos, classes=file)
    file.write_text('train\n')
    assert [result.classes for result in stream] == [('bell', 'zebra')] * 3


@pytest.mark.parametrize('inferencer', ['tagger', 'segmentor'])
def test_a_failed_call_leaves_nothing_behind(inferencer, request, photos):
    inferencer = request.getfixturevalue(inferencer)
    expected = [result.to_dict() for result in inferencer(photos)]
    before = dict(vars(inferencer))
    (photos / 'z.jpg').write_bytes(b'')
    with pytest.raises(ValueError, match=r'z\.jpg is an empty file'):
        inferencer(photos, classes=['bell', 'zebra'], threshold=0.9)
    with pytest.raises(ValueError, match='more than once'):
        inferencer(photos, classes=(name for name in ['bell', 'bell']))
    (photos / 'z.jpg').unlink()
    assert vars(inferencer) == before
    assert [result.to_dict() for result in inferencer(photos)] == expected


@pytest.mark.parametrize(
    'classes, expected',
    [
        ('bell', ['bell']),
        ('bell, "traffic light"', ['bell', 'traffic light']),
        ({'bell': ['gong'], 'train': ()}, ['bell', 'train']),
        (Vocabulary.load(['bell']), ['bell']),
    ],
)
def test_kinds_of_names(tagger, classes, expected):
    assert tagger(SCENES / '000040.jpg', classes=classes)[0].classes == tuple(expected)


def test_synonyms_of_a_dict_count(tagger, segmentor):
    path = SCENES / '000040.jpg'
    (expected,) = tagger(path, classes=[('bell', 'gong'), ('train', 'tram', 'engine')])
    classes = {'bell': 'gong', 'train': ['tram', 'engine']}
    (result,) = tagger(path, classes=classes)
    assert np.array_equal(result.scores, expected.scores)
    assert not np.array_equal(result.scores, tagger(path, classes=['bell', 'train'])[0].scores)
    names = segmentor.names_for(classes)
    assert torch.equal(names.tagger.text, tagger.names_for(classes, names.background).text)


@pytest.mark.parametrize('inferencer', ['tagger', 'segmentor'])
def test_names_of_the_constructor_are_those_of_calls_without_names(inferencer, request):
    one = request.getfixturevalue(inferencer)
    path = SCENES / '000040.jpg'
    named = type(one)(one.model, show_progress=False, classes='bell, train', background='wall, owl')
    expected = one(path, classes=['bell', 'train'], background=['wall', 'owl'])[0].to_dict()
    assert named(path)[0].to_dict() == expected
    # What is a class in a call does not compete with it.
    expected = one(path, classes=['owl'], background=['wall'])[0].to_dict()
    assert named(path, classes='owl')[0].to_dict() == expected
    with pytest.raises(TypeError, match='a set of class names has no order: give a list'):
        type(one)(one.model, classes={'bell', 'train'})
    with pytest.raises(ValueError, match='classes is empty'):
        type(one)(one.model, classes=[])


@pytest.mark.parametrize(
    'options, message',
    [
        ({'texts': ['dog']}, "a call of TagInferencer has no option 'texts': use 'classes'"),
        ({'prompts': 'dog'}, "'prompts': use 'classes'"),
        ({'thr': 0.3}, "'thr': use 'threshold'"),
        ({'batchsize': 3}, "'batchsize': use 'batch_size'"),
        ({'imgsz': 448}, r"'imgsz': use 'max_side' of TagInferencer\(\.\.\.\)"),
        (
            {'device': 'cpu'},
            r"'device' is not an option of a call .* of TagInferencer\(\.\.\.\)",
        ),
        (
            {'foo': 3},
            "no option 'foo'; its options are classes, background, .*score_maps",
        ),
    ],
)
def test_mistaken_names_of_options_are_answered(tagger, options, message):
    for call in (tagger, tagger.stream):
        with pytest.raises(TypeError, match=message):
            call(SCENES / '000040.jpg', **options)


def test_mistaken_names_of_options_of_constructors_are_answered(tagger):
    with pytest.raises(TypeError, match="TagInferencer has no option 'texts': use 'classes'"):
        TagInferencer(tagger.model, texts=['dog'])
    with pytest.raises(TypeError, match=r"'threshold' is not an option of .*, but of a call"):
        TagInferencer(tagger.model, threshold=0.3)
    with pytest.raises(TypeError, match="no option 'thresh': use 'threshold' of a call"):
        TagInferencer(tagger.model, thresh=0.3)
    with pytest.raises(TypeError, match=r'one thing without a name.* as in classes=\[\.\.\.\]'):
        tagger(SCENES / '000040.jpg', ['bell'])
    with pytest.raises(TypeError, match='one thing without a name'):
        tagger(classes=['bell'])


def test_a_class_is_encoded_once(monkeypatch):
    encoded = []
    original = TextEncoder.encode_classes
    monkeypatch.setattr(
        TextEncoder,
        'encode_classes',
        lambda self, classes: encoded.extend(one[0] for one in classes) or original(self, classes),
    )
    config = Config.fromfile(CONFIG)
    config.merge_from_dict({'model.encoder.text_cache': False})
    inferencer = TagInferencer(config, show_progress=False)
    encoder = inferencer.model.encoder
    encoded.clear()
    path = SCENES / '000040.jpg'
    inferencer(path, classes=['bell', 'unicorn'])
    inferencer(path, classes=['unicorn', 'cyclops', 'dog'])
    inferencer(path)
    assert encoded == ['unicorn', 'cyclops']
    assert inferencer.model.encoder is encoder


def test_kinds_of_input_and_batches_give_the_same(tagger, photos):
    by_folder = tagger(photos, batch_size=3)
    assert [Path(result.image).name for result in by_folder] == ['a.JPG', 'b.jpg', 'c.jpg']
    in_memory = [one.read() for one in list_images(photos)]
    mixed = tagger([in_memory[0], Image.fromarray(in_memory[1]), str(photos / 'more' / '*')])
    assert [result.image for result in mixed[:2]] == ['image-0', 'image-1']
    for one, other in zip(by_folder, mixed, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=2e-5)
        assert one.tags.keys() == other.tags.keys()


def test_threshold_at_the_call(tagger):
    path = SCENES / '000040.jpg'
    (all_tags,) = tagger(path, threshold=0.0)
    (few,) = tagger(path, threshold=0.9)
    assert len(few.tags) < len(all_tags.tags)
    assert few.labels.tolist() == all_tags.with_threshold(0.9).labels.tolist()


def test_masks(segmentor):
    path = SCENES / '000040.jpg'
    (result,) = segmentor(path)
    assert result.mask.shape == result.size == Image.open(path).size[::-1]
    assert set(result.tags) <= set(result.classes)
    assert all(score is not None for score in result.tags.values())
    (other,) = segmentor(path, classes=['bell', 'zebra'], threshold=0.9)
    assert other.classes == ('background', 'bell', 'zebra')
    assert list(other.tags) == ['bell']
    (again,) = segmentor(path)
    assert np.array_equal(again.mask, result.mask)


@pytest.mark.parametrize('inferencer', ['tagger', 'segmentor'])
def test_unreadable_images_are_named_or_skipped(inferencer, request, photos):
    inferencer = request.getfixturevalue(inferencer)
    (photos / 'b.jpg').write_bytes(b'')
    with pytest.raises(ValueError, match=r'b\.jpg is an empty file'):
        inferencer(photos)
    good, bad, last = inferencer(photos, batch_size=2, on_error='skip')
    assert good.error is None
    assert last.error is None
    assert bad.error.endswith('b.jpg is an empty file')
    assert bad.tags == {}
    assert bad.size == (0, 0)
    sample = inferencer(photos / 'b.jpg', return_datasamples=True, on_error='skip')[0]
    assert sample.load_error == bad.error


def test_on_error_of_the_config_is_the_default(photos):
    config = Config.fromfile(CONFIG)
    config.test_dataloader.dataset.pipeline[0].on_error = 'skip'
    (photos / 'b.jpg').write_bytes(b'')
    results = TagInferencer(config, show_progress=False)(photos)
    assert [result.error is None for result in results] == [True, False, True]


@pytest.mark.parametrize('before', [None, 'mmseg', 'mmpretrain', 'mmengine'])
def test_the_default_scope_stays(before, photos, monkeypatch):
    monkeypatch.setattr(DefaultScope, '_instance_dict', type(DefaultScope._instance_dict)())
    if before is not None:
        init_default_scope(before)
    tagger = TagInferencer('tagclip_demo', show_progress=False)
    segmentor = SegInferencer('cls-seg_demo', show_progress=False)
    for inferencer in (tagger, segmentor, tagger):
        assert len(inferencer(photos)) == 3
        now = DefaultScope.get_current_instance()
        assert (None if now is None else now.scope_name) == before


def test_the_current_visualizer_stays(photos):
    mine = Visualizer.get_instance('mine')
    TagInferencer('tagclip_demo', show_progress=False)(photos / 'b.jpg')
    assert Visualizer.get_current_instance() is mine


def test_out_dir(tagger, segmentor, photos, tmp_path):
    (photos / 'broken.png').write_bytes(b'no image')
    results = tagger(photos, on_error='skip', out_dir=tmp_path / 'tags')
    assert all(result.score_maps is None for result in results)
    files = {
        path.relative_to(tmp_path / 'tags').as_posix()
        for path in (tmp_path / 'tags').rglob('*')
        if path.is_file()
    }
    assert files == {
        'vis/a.png',
        'vis/b.png',
        'vis/more/c.png',
        'pred/a.json',
        'pred/b.json',
        'pred/broken.json',
        'pred/more/c.json',
    }
    assert json.loads((tmp_path / 'tags/pred/b.json').read_text()) == results[1].to_dict()
    (result,) = segmentor(photos / 'b.jpg', out_dir=tmp_path / 'masks')
    with Image.open(tmp_path / 'masks/pred/b.png') as mask:
        assert np.array_equal(np.asarray(mask), result.mask)
    assert Image.open(tmp_path / 'masks/vis/b.png').width > 900


def test_show_opens_a_window(tagger, monkeypatch):
    shown = []
    monkeypatch.setattr(
        tagger.visualizer,
        'show',
        lambda image, win_name, wait_time: shown.append((image.shape, wait_time)),
    )
    tagger(SCENES / '000040.jpg', show=True, wait_time=0.1)
    assert shown == [((1276, 1200, 3), 0.1)]


def test_a_built_model_and_a_bare_config(tagger):
    path = SCENES / '000040.jpg'
    expected = tagger(path)[0].scores
    built = TagInferencer(tagger.model, show_progress=False)
    assert built.model is tagger.model
    bare = TagInferencer({'model': Config.fromfile(CONFIG).model}, show_progress=False)
    for one in (built, bare):
        assert np.array_equal(one(path)[0].scores, expected)


@pytest.mark.parametrize('name', ['direct_demo', 'tag-guided_demo', 'cls-seg_demo'])
def test_built_segmentors(name):
    """Data samples carry what results say of tags; a DirectSegmentor may have no tagger."""
    config = load_config(name)
    init_default_scope('mmseg')
    built = SegInferencer(MODELS.build(config.model))
    path = SCENES / '000040.jpg'
    (result,) = built(path)
    (sample,) = built(path, return_datasamples=True)
    assert np.array_equal(sample.pred_sem_seg.data[0], result.mask)
    assert sample.tags == list(result.tags)
    first = 0 if result.background is None else 1
    assert [result.classes[label + first] for label in sample.tag_labels] == sample.tags
    scores = None if name == 'direct_demo' else list(result.tags.values())
    assert sample.get('tag_scores') == scores or not result.tags


def test_max_side_shrinks(photos):
    small = TagInferencer('tagclip_demo', max_side=64, show_progress=False)
    (result,) = small(photos / 'b.jpg', score_maps=True)
    assert max(result.score_maps.shape[1:]) == 4


def test_stream_reads_no_further_than_it_must(tagger, photos):
    (photos / 'more' / 'c.jpg').unlink()
    (photos / 'z.jpg').write_bytes(b'')
    stream = tagger.stream(photos)
    assert next(stream).image.endswith('a.JPG')
    next(stream)
    with pytest.raises(ValueError, match=r'z\.jpg is an empty file'):
        next(stream)


def test_bad_arguments_are_refused_at_once(tagger, segmentor, photos):
    for unknown in ({'top_k': 3}, {'nonsense': 1}):
        with pytest.raises(TypeError, match=r"no option '(top_k': use 'top'|nonsense'; its)"):
            tagger.stream(photos, **unknown)
    with pytest.raises(TypeError, match='score_maps'):
        segmentor(photos, score_maps=True)
    with pytest.raises(TypeError, match='takes one thing without a name'):
        tagger(photos, True)
    with pytest.raises(TypeError, match='a set of class names has no order'):
        tagger(photos, classes={'bell', 'train'})
    with pytest.raises(FileNotFoundError, match=r'no file of names at names\.txt'):
        tagger(photos, classes='names.txt')
    with pytest.raises(ValueError, match='batch_size must be'):
        tagger.stream(photos, batch_size=0)
    with pytest.raises(ValueError, match="'raise' or 'skip', not 'ignore'"):
        tagger.stream(photos, on_error='ignore')
    with pytest.raises(ValueError, match='classes is empty'):
        tagger.stream(photos, classes=[])
    with pytest.raises(ValueError, match='threshold must be in'):
        segmentor.stream(photos, threshold=2)
    with pytest.raises(TypeError, match='does not run a CLSSeg: for masks use SegInferencer'):
        TagInferencer('cls-seg_demo')
    with pytest.raises(FileNotFoundError, match=r'neither a config file .*tagclip_demo'):
        TagInferencer('tagclip_dem')
    with pytest.raises(TypeError, match='not int'):
        TagInferencer(3)
    with pytest.raises(ValueError, match="no key 'model'"):
        TagInferencer({})


@pytest.mark.parametrize('inferencer', [TagInferencer, SegInferencer])
def test_calls_and_streams_take_the_same_options(inferencer):
    call, stream = (inspect.signature(one) for one in (inferencer.__call__, inferencer.stream))
    assert call.parameters == stream.parameters
    assert {one.kind for one in list(call.parameters.values())[2:]} == {
        inspect.Parameter.KEYWORD_ONLY
    }
    for name, parameter in list(call.parameters.items())[1:]:
        assert parameter.annotation is not inspect.Parameter.empty
        assert f'\n    {name}: ' in inspect.getdoc(inferencer.stream)


def test_the_package_names_the_inferencers():
    assert mmtagclip.TagInferencer is TagInferencer
    assert mmtagclip.SegInferencer is SegInferencer
    assert {'TagInferencer', 'SegInferencer', '__version__'} <= set(dir(mmtagclip))
    with pytest.raises(AttributeError, match="'mmtagclip' has no attribute 'Inferencer'"):
        _ = mmtagclip.Inferencer


def test_output_names_differ():
    assert output_stems(['/x/a.jpg', '/x/b/c.png']) == ['a', 'b/c']
    assert output_stems(['/x/a.jpg', '/x/a.png', '/x/a.jpg']) == ['a.jpg', 'a.png', 'a.jpg-2']
    assert output_stems(['image-0', 'image-1']) == ['image-0', 'image-1']
    assert output_stems([]) == []


def test_a_trained_model_without_its_checkpoint_is_refused():
    with pytest.raises(ValueError, match='EncoderDecoder is a trained model: give its checkpoint'):
        SegInferencer('fcn_vit-w128_demo')
