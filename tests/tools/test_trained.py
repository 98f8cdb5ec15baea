"""What was trained here, or by the frameworks, runs in the inferencers and on the command line."""

import json
import pickle

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from PIL import Image

from mmtagclip import cli
from mmtagclip.apis import SegInferencer, TagInferencer, inferencer_class
from mmtagclip.registry import MODELS
from tests.conftest import picture

NAMES = ('dog', 'cat')
SIZES = ((64, 64), (50, 90), (64, 64))


def build(path):
    config = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        torch.manual_seed(0)
        return config, MODELS.build(config.model).eval()


@pytest.fixture(scope='module')
def images():
    return [picture(*size, seed) for seed, size in enumerate(SIZES)]


@pytest.fixture(scope='module')
def masks_model(segmentor, tmp_path_factory):
    """A segmentor's config with a pipeline, and its checkpoint as MMEngine writes it."""
    config, model = build(segmentor)
    config.test_dataloader.dataset = {
        'pipeline': [
            {'type': 'LoadImageFromFile'},
            {'type': 'Resize', 'scale': (128, 64), 'keep_ratio': True},
            {'type': 'LoadAnnotations'},
            {'type': 'PackSegInputs'},
        ]
    }
    return save(config, model, ('background', *NAMES), tmp_path_factory.mktemp('masks'))


@pytest.fixture(scope='module')
def tags_model(classifier, tmp_path_factory):
    """The same of a classifier."""
    config, model = build(classifier)
    steps = [{'type': 'LoadImageFromFile'}, {'type': 'Resize', 'scale': (64, 64)}]
    config.test_dataloader = {'dataset': {'pipeline': [*steps, {'type': 'PackInputs'}]}}
    return save(config, model, NAMES, tmp_path_factory.mktemp('tags'))


def save(config, model, classes, folder):
    config.dump(str(folder / 'model.py'))
    meta = {'dataset_meta': {'classes': classes, 'palette': None}, 'iter': 2}
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, folder / 'iter_2.pth')
    return folder / 'model.py', folder / 'iter_2.pth', model


def plain(config, model, image):
    """The framework's own way."""
    config = Config.fromfile(config)
    steps = config.test_dataloader.dataset.pipeline[1:]
    with DefaultScope.overwrite_default_scope(config.default_scope):
        data = Compose([step for step in steps if step.type != 'LoadAnnotations'])(
            {
                'img': np.ascontiguousarray(image[..., ::-1]),
                'img_path': '',
                'img_shape': image.shape[:2],
                'ori_shape': image.shape[:2],
                'seg_fields': [],
            }
        )
        with torch.no_grad():
            return model.test_step({key: [value] for key, value in data.items()})[0]


@pytest.mark.parametrize('way', ['config', 'built'])
def test_masks_are_those_of_the_framework(masks_model, images, way):
    config, checkpoint, model = masks_model
    if way == 'built':
        model.cfg = Config.fromfile(config)
        palette = [[0] * 3, [9] * 3, [8] * 3]
        model.dataset_meta = {'classes': ('background', *NAMES), 'palette': palette}
        inferencer = SegInferencer(model, show_progress=False)
    else:
        inferencer = SegInferencer(config, checkpoint, 'cpu', show_progress=False)
    results = inferencer(images, batch_size=3)  # of different sizes
    for image, result in zip(images, results, strict=True):
        expected = plain(config, model, image).pred_sem_seg.data[0].numpy()
        assert np.array_equal(result.mask, expected)
        assert result.classes == ('background', *NAMES)
        assert result.background == 0
        assert result.palette[1] == ((9, 9, 9) if way == 'built' else result.palette[1])
    assert len({result.mask.tobytes() for result in results}) > 1


def test_a_segmentor_without_a_config_sees_images_as_they_are(masks_model, images):
    config, _, model = masks_model
    model.cfg = None
    model.dataset_meta = {'classes': ('background', *NAMES)}
    (result,) = SegInferencer(model, show_progress=False)(images[0])
    expected = plain(config, model, images[0]).pred_sem_seg.data[0].numpy()  # of the same size
    assert np.array_equal(result.mask, expected)
    model.dataset_meta = None
    with pytest.raises(ValueError, match=r'EncoderDecoder names its classes: set .* dataset_meta'):
        SegInferencer(model)


def test_tags_are_those_of_the_framework(tags_model, images):
    config, checkpoint, model = tags_model
    inferencer = TagInferencer(config, checkpoint, 'cpu', show_progress=False)
    results = inferencer(images, batch_size=3)
    for image, result in zip(images, results, strict=True):
        sample = plain(config, model, image)
        np.testing.assert_allclose(result.scores, sample.pred_score.numpy(), atol=1e-6)
        assert result.labels.tolist() == sample.pred_label.tolist()
        assert result.classes == NAMES
    score = float(results[0].scores.max())
    assert len(inferencer(images[0], min_score=min(1.0, score + 1e-3))[0].tags) == 0
    assert len(inferencer(images[0], min_score=0.0)[0].tags) == 2
    (one,) = inferencer(images[0], min_score=0.0, top=1)
    assert one.labels.tolist() == [int(results[0].scores.argmax())]


def test_the_command_line_runs_both(masks_model, tags_model, images, tmp_path, capsys):
    (tmp_path / 'images').mkdir()
    for number, image in enumerate(images[:2]):
        Image.fromarray(image).save(tmp_path / 'images' / f'{number}.png')
    for command, (config, checkpoint, _), more in (
        ('segment', masks_model, []),
        ('tag', tags_model, ['--min-score', '0']),
    ):
        out, vis = tmp_path / f'{command}.jsonl', tmp_path / command
        arguments = [command, tmp_path / 'images', '--model', config, '--checkpoint', checkpoint]
        arguments += ['--device', 'cpu', '--out', out, '--vis', vis, *more]
        assert cli.main([str(one) for one in arguments]) == 0, capsys.readouterr().err
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        assert len(lines) == 2
        assert len(list(vis.rglob('*.png'))) == 2
        assert set(lines[0]['tags']) <= set(NAMES)
    arguments[0] = 'segment'
    arguments.remove('--out')
    arguments.remove(out)
    assert cli.main([str(one) for one in arguments]) == 2
    assert 'makes tags, not masks' in capsys.readouterr().err


@pytest.mark.parametrize('kind', ['masks', 'tags'])
def test_what_a_trained_model_does_not_take_is_refused(kind, request, images, tmp_path):
    config, checkpoint, _ = request.getfixturevalue(f'{kind}_model')
    inferencer_of = {'masks': SegInferencer, 'tags': TagInferencer}[kind]
    assert inferencer_class(Config.fromfile(config)) is inferencer_of
    inferencer = inferencer_of(config, checkpoint, 'cpu', show_progress=False)
    with pytest.raises(ValueError, match='takes no classes: it is a trained model with fixed cla'):
        inferencer(images[0], classes='dog')
    with pytest.raises(ValueError, match='takes no background: it is a trained model'):
        inferencer_of(config, checkpoint, background='sky')
    with pytest.raises(ValueError, match='takes no threshold: it is a trained model'):
        inferencer(images[0], threshold=0.3)
    with pytest.raises(
        ValueError, match=r"trained model: give its checkpoint, weights='iter_20000"
    ):
        inferencer_of(config)
    with pytest.raises(ValueError, match='max_side has no effect on this'):
        inferencer_of(config, checkpoint, max_side=32)
    with pytest.raises(ValueError, match='is a web address: download the checkpoint'):
        inferencer_of(config, 'https://example.org/iter_2.pth')
    with pytest.raises(FileNotFoundError, match=r'no checkpoint at .*none\.pth'):
        inferencer_of(config, tmp_path / 'none.pth')
    content = torch.load(checkpoint)
    bad = tmp_path / 'bad.pth'
    torch.save({**content, 'state_dict': dict(list(content['state_dict'].items())[1:])}, bad)
    with pytest.raises(ValueError, match=r'bad\.pth contains weights of another architecture than'):
        inferencer_of(config, bad)
    torch.save({**content, 'meta': {'CLASSES': ('dog', 'cat', 'owl', 'bus')}}, bad)
    with pytest.raises(ValueError, match='outputs, but its 4 classes are dog, cat, owl, bus'):
        inferencer_of(config, bad)
    torch.save({'state_dict': content['state_dict']}, bad)
    if kind == 'masks':
        with pytest.raises(ValueError, match='neither the checkpoint nor the config of this Enc'):
            inferencer_of(config, bad)
    else:  # the training's data set names them
        assert inferencer_of(config, bad)(images[0])[0].classes == NAMES


class Counter:
    """Counts what is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), 'w'))


def test_a_checkpoint_s_code_runs_only_if_it_is_trusted(tags_model, images, tmp_path):
    config, checkpoint, _ = tags_model
    content = torch.load(checkpoint)
    path = tmp_path / 'code.pth'
    with path.open('wb') as file:  # as PyTorch wrote before 1.6: no zip file
        torch.save(
            {**content, 'hook': Counter(tmp_path / 'ran')},
            file,
            pickle_module=pickle,
            _use_new_zipfile_serialization=False,
        )
    with pytest.raises(
        ValueError, match=r'code\.pth .* alone: Weights only load failed; if .* --trust'
    ):
        TagInferencer(config, path)
    assert not (tmp_path / 'ran').exists()
    inferencer = TagInferencer(config, path, 'cpu', trust_checkpoint=True)
    assert (tmp_path / 'ran').exists()
    assert inferencer(images[0])[0].classes == NAMES


def test_a_head_of_one_class_makes_no_tags(tags_model):
    config = Config.fromfile(tags_model[0])
    config.model.head.type = 'LinearClsHead'
    config.model.data_preprocessor = {'num_classes': 2}
    with pytest.raises(TypeError, match='has a LinearClsHead, which gives an image one class'):
        TagInferencer(config, tags_model[1])
