"""Generating pseudo labels: tags, masks, and a process that is killed."""

import json
import multiprocessing
import os
import random
import shutil
import signal
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.structures import SegDataSample
from PIL import Image
from safetensors.torch import save_file

from mmtagclip.frameworks import pretrain  # noqa: F401
from mmtagclip.jobs.pseudo_labels import read_pseudo_labels
from mmtagclip.records import ImageRecord
from mmtagclip.registry import MODELS
from mmtagclip.version import __version__
from tests.conftest import picture
from tests.processes import ROOT, run_ranks

TEST_PY = ROOT / 'tools' / 'test.py'
COUNT = 21
NAMES = ['dog', 'cat', 'bus', 'tree']


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('photos')
    for i in range(COUNT):
        Image.fromarray(picture(48 + 16 * (i % 3), 64, i)).save(folder / f'{i:03d}.png')
    (folder / '005.png').write_bytes(b'damaged')
    return folder


def tagger(encoder_config):
    return {
        'type': 'mmtagclip.TagCLIP',
        'encoder': encoder_config,
        'classes': NAMES,
        'background': ['sky'],
        'templates': ['{}'],
        'head': {
            'type': 'mmtagclip.TagCLIPHead',
            'threshold': 0.3,
            'dmar': {'type': 'mmtagclip.DMAR', 'layers': [8, 9, 10]},
        },
    }


@pytest.fixture(scope='module')
def tag_config(encoder_config, photos):
    meta = ['sample_idx', 'img_path', 'load_error']
    return {
        'default_scope': 'mmpretrain',
        'model': tagger(deepcopy(encoder_config)),
        'test_dataloader': {
            'batch_size': 2,
            'num_workers': 0,
            'collate_fn': {'type': 'pseudo_collate'},
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
            'dataset': {
                'type': 'mmpretrain.CustomDataset',
                'data_prefix': str(photos),
                'with_label': False,
                'test_mode': True,
                'pipeline': [
                    {'type': 'mmtagclip.LoadImage', 'on_error': 'skip'},
                    {'type': 'mmtagclip.ResizeToPatchGrid', 'patch_size': 16},
                    {'type': 'mmpretrain.PackInputs', 'meta_keys': meta},
                ],
            },
        },
        'test_evaluator': [],
        'test_cfg': {'type': 'mmtagclip.GenerateLoop', 'commit_seconds': 0.02},
        'log_level': 'ERROR',
    }


def generate(config, work_dir):
    config = Config({**deepcopy(config), 'work_dir': str(work_dir)})
    return Runner.from_cfg(config).test()


def content(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }


@pytest.fixture(scope='module')
def undisturbed(tag_config, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('whole')
    assert generate(tag_config, work_dir) == {'images': COUNT}
    return content(work_dir / 'pseudo_labels')


def test_tags(undisturbed):
    lines = [json.loads(line) for line in undisturbed['labels.jsonl'].decode().splitlines()]
    assert [Path(line['image']).name for line in lines] == [f'{i:03d}.png' for i in range(COUNT)]
    assert '005.png is not an image' in lines[5]['error']
    assert set(lines[0]['tags']) <= set(NAMES)
    assert len(lines[0]['tags']) == len(lines[0]['scores']) > 0
    manifest = json.loads(undisturbed['manifest.json'])
    assert manifest['kind'] == 'tags'
    assert manifest['classes'] == NAMES
    assert manifest['job']['model.encoder.name'].startswith('CLIP (')
    assert manifest['version'] == __version__


def test_killed_at_random_moments_the_result_is_the_same(tag_config, tmp_path, undisturbed):
    context = multiprocessing.get_context('fork')
    chance = random.Random(0)
    for _ in range(20):
        worker = context.Process(target=generate, args=(tag_config, tmp_path))
        worker.start()
        worker.join(chance.uniform(0.1, 2.0))
        if worker.is_alive():
            os.kill(worker.pid, signal.SIGKILL)
            worker.join()
    generate(tag_config, tmp_path)
    assert content(tmp_path / 'pseudo_labels') == undisturbed


def test_two_processes_give_the_same(tag_config, tmp_path, undisturbed):
    path = tmp_path / 'config.py'
    Config(tag_config).dump(str(path))
    process = run_ranks(TEST_PY, path, '--work-dir', tmp_path / 'run')
    assert process.returncode == 0, process.stderr
    assert content(tmp_path / 'run' / 'pseudo_labels') == undisturbed


@pytest.fixture(scope='module')
def grouped_config(tag_config):
    """The same photographs, four of one patch grid at a time."""
    config = deepcopy(tag_config)
    config['test_dataloader'].update(
        batch_size=4, batch_sampler={'type': 'mmtagclip.SameGridBatchSampler'}
    )
    return config


@pytest.fixture(scope='module')
def grouped(grouped_config, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('grouped')
    generate(grouped_config, work_dir)
    return content(work_dir / 'pseudo_labels')


def test_batches_of_one_grid_give_the_same_tags(grouped, undisturbed):
    for one, other in zip(
        grouped['labels.jsonl'].splitlines(), undisturbed['labels.jsonl'].splitlines(), strict=True
    ):
        one, other = ImageRecord.from_json(one), ImageRecord.from_json(other)
        np.testing.assert_allclose(one.scores or (), other.scores or (), atol=2e-6)
        assert (one.image, one.tags, one.error) == (other.image, other.tags, other.error)


@pytest.mark.parametrize('processes', [2, 4])
def test_processes_split_the_batches(grouped_config, tmp_path, grouped, processes):
    path = tmp_path / 'config.py'
    Config({**grouped_config, 'log_level': 'INFO'}).dump(str(path))
    process = run_ranks(TEST_PY, path, '--work-dir', tmp_path / 'run', processes=processes)
    assert process.returncode == 0, process.stderr
    assert content(tmp_path / 'run' / 'pseudo_labels') == grouped


def test_shares_of_the_work_differ_by_one_batch_at_most(grouped_config, tmp_path, monkeypatch):
    config = Config({**deepcopy(grouped_config), 'work_dir': str(tmp_path)})
    loop = Runner.from_cfg(config).test_loop
    shares = []
    for rank in range(4):
        monkeypatch.setattr('mmtagclip.engine.generate_loop.get_dist_info', lambda r=rank: (r, 4))
        shares.append(loop.batches())
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert sorted(i for share in shares for batch in share for i in batch) == list(range(COUNT))


def test_shards_that_know_nothing_of_each_other(grouped_config, tmp_path, grouped):
    for index in (2, 0, 0, 1):  # one of them twice
        assert not (tmp_path / 'pseudo_labels' / 'labels.jsonl').exists()
        config = deepcopy(grouped_config)
        config['test_cfg']['shard'] = [index, 3]
        generate(config, tmp_path)
    assert content(tmp_path / 'pseudo_labels') == grouped


@pytest.fixture(scope='module')
def mask_config(tag_config, encoder_config, photos):
    config = deepcopy(tag_config)
    config['default_scope'] = 'mmseg'
    config['model'] = {
        'type': 'mmtagclip.CLSSeg',
        'tagger': tagger(deepcopy(encoder_config)),
        'with_probabilities': True,
        'background_prompts': ['sky'],
        'affinity': {
            'type': 'mmtagclip.AffinityRefinement',
            'layers': [4, 5, 6],
            'box_threshold': 0.4,
        },
    }
    dataset = config['test_dataloader']['dataset']
    dataset['pipeline'] = [
        {'type': 'mmtagclip.LoadImage', 'on_error': 'skip'},
        {'type': 'mmtagclip.ResizeToPatchGrid', 'patch_size': 16},
        {
            'type': 'mmseg.PackSegInputs',
            'meta_keys': ['sample_idx', 'img_path', 'ori_shape', 'load_error'],
        },
    ]
    dataset['indices'] = [0, 1, 4, 5]
    return config


def test_masks_and_probabilities(mask_config, tmp_path):
    config = deepcopy(mask_config)
    config['test_cfg'].update(confidence=0.6, save_probabilities=True)
    generate(config, tmp_path)
    root = tmp_path / 'pseudo_labels'
    manifest, records = read_pseudo_labels(root)
    assert manifest.classes == ('background', *NAMES)
    assert '005.png is not an image' in records.pop().error
    for record in records:
        with Image.open(record.image) as image, Image.open(root / record.more['masks']) as mask:
            assert mask.size == image.size
            labels = np.asarray(mask)
        stored = np.load(root / record.more['probabilities'], allow_pickle=False)
        planes = stored['probabilities'] / 255
        expected = stored['labels'][planes.argmax(0)]
        sure = planes.max(0)
        assert (labels[sure < 0.59] == 255).all()
        clear = (sure > 0.61) & (np.sort(planes, axis=0)[-2] < sure - 0.01)
        assert (labels[clear] == expected[clear]).all()
        tags = [1 + NAMES.index(tag) for tag in list(record.tags)]
        assert stored['labels'].tolist() == [0, *tags]


@pytest.fixture(scope='module')
def direct_config(mask_config, encoder_config):
    """Direct masks of five pictures, one of which is damaged."""
    config = deepcopy(mask_config)
    config['model'] = {
        'type': 'mmtagclip.DirectSegmentor',
        'encoder': deepcopy(encoder_config),
        'head': {
            'type': 'mmtagclip.SegTextHead',
            'classes': NAMES,
            'background': ['sky'],
            'templates': ['a {}.'],
            'area_threshold': 0.1,
        },
    }
    dataset = config['test_dataloader']['dataset']
    dataset['pipeline'].insert(1, {'type': 'mmtagclip.KeepImage'})
    dataset['pipeline'][-1]['meta_keys'] = [
        'sample_idx',
        'img_path',
        'ori_shape',
        'load_error',
        'original',
    ]
    dataset['indices'] = [0, 1, 2, 4, 5]
    config['test_cfg'] = {'type': 'mmtagclip.GenerateLoop'}
    return config


@pytest.fixture(scope='module')
def guided_config(direct_config, encoder_config):
    """The same, of the tags of a tagger with an encoder of its own."""
    config = deepcopy(direct_config)
    own = {**deepcopy(encoder_config), 'positions': 'bicubic'}
    config['model'].update(tags='own', tagger=tagger(own))
    return config


@pytest.mark.parametrize('kind', ['direct', 'guided'])
def test_a_direct_segmentor_s_masks_and_tags(kind, request, tmp_path):
    config = request.getfixturevalue(f'{kind}_config')
    generate(config, tmp_path / 'one')
    generate(config, tmp_path / 'two')
    root = tmp_path / 'one/pseudo_labels'
    assert content(root) == content(tmp_path / 'two/pseudo_labels')
    assert not list(root.glob('probabilities'))
    manifest, records = read_pseudo_labels(root)
    assert (manifest.kind, manifest.classes) == ('masks', ('background', *NAMES))
    assert '005.png is not an image' in records.pop().error
    model = MODELS.build(deepcopy(config['model']))
    for record in records:
        with Image.open(record.image) as image, Image.open(root / record.more['masks']) as mask:
            pixels, labels = np.asarray(image.convert('RGB'))[..., ::-1].copy(), np.asarray(mask)
        (sample,) = model.test_step(
            {
                'inputs': [torch.from_numpy(pixels).permute(2, 0, 1)],
                'data_samples': [
                    SegDataSample(metainfo={'ori_shape': labels.shape, 'original': pixels})
                ],
            }
        )
        assert np.array_equal(labels, sample.pred_sem_seg.data[0])
        found = [NAMES[label - 1] for label in np.unique(labels) if label]
        assert list(record.tags) == (found if kind == 'direct' else sample.tags)
        assert set(found) <= set(record.tags)
    assert any(list(record.tags) for record in records)


@pytest.mark.parametrize('kind', ['direct', 'guided'])
def test_a_direct_segmentor_s_probabilities(kind, request, tmp_path):
    config = deepcopy(request.getfixturevalue(f'{kind}_config'))
    with pytest.raises(ValueError, match='need a segmentor with with_probabilities=True'):
        generate({**config, 'test_cfg': {**config['test_cfg'], 'confidence': 0.5}}, tmp_path)
    config['model']['with_probabilities'] = True
    config['test_cfg'].update(confidence=0.5, save_probabilities=True)
    generate(config, tmp_path)
    root = tmp_path / 'pseudo_labels'
    unsure = 0
    for record in read_pseudo_labels(root)[1][:-1]:
        with Image.open(root / record.more['masks']) as mask:
            labels = np.asarray(mask)
        stored = np.load(root / record.more['probabilities'], allow_pickle=False)
        planes, names = stored['probabilities'] / 255, ['background', *NAMES]
        top = np.sort(planes, axis=0)
        assert (labels[top[-1] < 0.495] == 255).all()
        clear = (top[-1] > 0.505) & (top[-2] < top[-1] - 0.01)
        assert (labels[clear] == stored['labels'][planes.argmax(0)][clear]).all()
        unsure += (labels == 255).sum()
        looked_for = [names[label] for label in stored['labels']]
        if kind == 'guided':
            assert looked_for == ['background', *list(record.tags)]
        else:
            assert looked_for == names
            # What is left of the mask, not what was unsure.
            assert list(record.tags) == [names[c] for c in np.unique(labels) if c not in (0, 255)]
    assert unsure


@pytest.mark.parametrize(('confidence', 'label'), [(0.125, 0), (0.126, 255)])
def test_a_pixel_at_the_confidence_keeps_its_label(direct_config, tmp_path, confidence, label):
    """Eight words that are all as likely: each pixel's best probability is 1/8."""
    config = deepcopy(direct_config)
    behind = ['sky', 'grass', 'wall', 'road']
    config['model'].update(with_probabilities=True)
    config['model']['head'].update(background=behind, logit_scale=0.0, area_threshold=0.0)
    config['test_cfg'].update(confidence=confidence)
    config['test_dataloader']['dataset']['indices'] = [0]
    generate(config, tmp_path)
    (record,) = read_pseudo_labels(tmp_path / 'pseudo_labels')[1]
    with Image.open(tmp_path / 'pseudo_labels' / record.more['masks']) as mask:
        assert np.unique(np.asarray(mask)).tolist() == [label]
    assert list(record.tags) == []


def test_other_weights_of_the_tagger_alone_are_another_job(guided_config, state_dict, tmp_path):
    config, path = deepcopy(guided_config), tmp_path / 'tagger.safetensors'
    config['model']['tagger']['encoder']['checkpoint'] = str(path)
    save_file(state_dict, path)
    generate(config, tmp_path)
    save_file({**state_dict, 'visual.proj': state_dict['visual.proj'] + 0.01}, path)
    with pytest.raises(ValueError, match=r'begun by another job: model\.tagger\.encoder\.clip was'):
        generate(config, tmp_path)


def test_other_tags_in_the_same_tag_file_are_another_job(direct_config, photos, tmp_path):
    config, tags = deepcopy(direct_config), tmp_path / 'tags.txt'
    tags.write_text(''.join(f'{i:03d} 0 1\n' for i in range(COUNT)))
    config['model']['tags'] = 'given'
    pipeline = config['test_dataloader']['dataset']['pipeline']
    pipeline.insert(2, {'type': 'mmtagclip.LoadTags', 'tag_file': str(tags), 'classes': NAMES})
    pipeline[-1]['meta_keys'] = [*pipeline[-1]['meta_keys'], 'tag_labels']
    generate(config, tmp_path)
    records = read_pseudo_labels(tmp_path / 'pseudo_labels')[1]
    assert all(list(record.tags) == NAMES[:2] for record in records[:-1])
    generate(config, tmp_path)
    tags.write_text(''.join(f'{i:03d} 2\n' for i in range(COUNT)))
    with pytest.raises(
        ValueError, match=r'begun by another job: data\.pipeline\.transforms\.2\.records'
    ):
        generate(config, tmp_path)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'confidence': 2}, r'confidence must be in \[0, 1\]'),
        (
            {'shard': [3, 3]},
            r'shard must be \(index, count\) with 0 <= index < count, not \(3, 3\)',
        ),
        ({'save_probabilities': True}, 'need a segmentor with with_probabilities=True'),
    ],
)
def test_bad_options(tag_config, tmp_path, change, message):
    config = deepcopy(tag_config)
    config['test_cfg'].update(change)
    with pytest.raises(ValueError, match=message):
        generate(config, tmp_path)


def test_a_model_of_another_kind_is_refused(tag_config, tmp_path):
    config = deepcopy(tag_config)
    config['model'] = {
        'type': 'mmpretrain.ImageClassifier',
        'backbone': {'type': 'mmpretrain.LeNet5'},
    }
    with pytest.raises(TypeError, match='a training-free segmentor, not of a ImageClassifier'):
        generate(config, tmp_path)


def test_samples_need_their_index(tag_config, tmp_path):
    config = deepcopy(tag_config)
    config['test_dataloader']['dataset']['pipeline'][-1]['meta_keys'] = ['img_path', 'load_error']
    with pytest.raises(ValueError, match="needs 'sample_idx' among the meta_keys"):
        generate(config, tmp_path)


def jobs_of(config, work_dir, change=lambda config: None):
    """The job of a config after a change, which nothing was computed for."""
    config = Config({**deepcopy(config), 'work_dir': str(work_dir)})
    change(config)
    return Runner.from_cfg(config).test_loop._job()


def set_option(path, value):
    """Set an entry of a config, whose path has dots."""

    def change(config):
        *parents, last = path.split('.')
        for key in parents:
            config = config[int(key)] if key.isdigit() else config[key]
        config[last] = value

    return change


PIPELINE = 'test_dataloader.dataset.pipeline.'


@pytest.mark.parametrize(
    ('path', 'value', 'named'),
    [
        ('test_cfg.confidence', 0.4, 'options.confidence was 0.0, now it is 0.4'),
        ('test_cfg.save_probabilities', True, 'options.save_probabilities was False'),
        ('test_dataloader.batch_size', 3, 'batches was 2, now it is 3'),
        ('model.tagger.head.threshold', 0.31, 'model.tagger.head.threshold was 0.3, now it is'),
        ('model.background_prompts', ['sea'], 'model.background_prompts.phrases was'),
        (PIPELINE + '1.max_side', 64, 'data.pipeline.transforms.1.max_side was None'),
        (PIPELINE + '0.max_side', 640, 'data.pipeline.transforms.0.max_side was 16384'),
        ('test_dataloader.dataset.metainfo', {'classes': ['a']}, 'data.metainfo'),
    ],
)
def test_an_option_of_another_job_is_named(mask_config, tmp_path, path, value, named):
    jobs_of(mask_config, tmp_path)
    with pytest.raises(ValueError, match=f'begun by another job: .*{named}'):
        jobs_of(mask_config, tmp_path, set_option(path, value))


def test_other_batches_of_one_grid_are_another_job(grouped_config, tmp_path):
    jobs_of(grouped_config, tmp_path)
    with pytest.raises(ValueError, match=r'begun by another job: batches was .*4.*, now .*2'):
        jobs_of(grouped_config, tmp_path, set_option('test_dataloader.batch_size', 2))


def test_any_new_option_of_the_loop_belongs_to_the_job(mask_config, tmp_path):
    loop = Runner.from_cfg(Config({**deepcopy(mask_config), 'work_dir': str(tmp_path)})).test_loop
    assert loop._options() == {'all_scores', 'confidence', 'save_probabilities'}


@pytest.mark.parametrize(
    ('key', 'before', 'after'),
    [
        ('background_prompts', ['sky', 'sea'], ['sky', 'grass']),
        ('label_map', ['0', '0', '1', '1'], ['0', '1', '1', '1']),
        ('groups', ['animal', 'thing'], ['beast', 'thing']),
    ],
)
def test_other_content_of_the_same_file_is_another_job(mask_config, tmp_path, key, before, after):
    files = {'label_map': ['0', '0', '1', '1'], 'groups': ['animal', 'thing'], key: before}
    if key == 'background_prompts':
        files = {key: before}

    def change(config):
        for name, lines in files.items():
            (tmp_path / f'{name}.txt').write_text('\n'.join(lines))
            config.model[name] = str(tmp_path / f'{name}.txt')
        config.model.with_background = 'label_map' not in files

    jobs_of(mask_config, tmp_path, change)
    jobs_of(mask_config, tmp_path, change)
    files[key] = after
    with pytest.raises(ValueError, match='begun by another job: '):
        jobs_of(mask_config, tmp_path, change)


def copied(photos, folder):
    folder.mkdir()
    for path in sorted(photos.iterdir())[:6]:
        shutil.copy2(path, folder)
    return folder


def on(config, folder):
    config = deepcopy(config)
    config['test_dataloader']['dataset']['data_prefix'] = str(folder)
    return config


def test_a_renamed_and_a_changed_image_are_done_again(tag_config, photos, tmp_path):
    """Names and contents belong to a job: none twice, none missing, no old tags."""
    folder = copied(photos, tmp_path / 'images')
    config = on(tag_config, folder)
    generate(config, tmp_path / 'out')
    (folder / '000.png').rename(folder / '0000.png')
    shutil.copy(folder / '003.png', folder / '002.png')
    generate(config, tmp_path / 'out')
    again = generate(config, tmp_path / 'whole')
    assert again == {'images': 6}
    root = tmp_path / 'out/pseudo_labels'
    assert content(root) == content(tmp_path / 'whole/pseudo_labels')
    assert [Path(one.image).name for one in read_pseudo_labels(root)[1]] == sorted(
        path.name for path in folder.iterdir()
    )


def test_shards_over_other_images_are_refused(tag_config, photos, tmp_path):
    folder = copied(photos, tmp_path / 'images')
    config = on(tag_config, folder)
    config['test_cfg']['shard'] = [0, 2]
    generate(config, tmp_path / 'out')
    (folder / '000.png').rename(folder / '9.png')
    config['test_cfg']['shard'] = [1, 2]
    with pytest.raises(ValueError, match='was begun with other images: 6 there, 6 here'):
        generate(config, tmp_path / 'out')


def test_tags_of_masks_have_scores_where_the_model_has(mask_config, tmp_path):
    generate(mask_config, tmp_path)
    for record in read_pseudo_labels(tmp_path / 'pseudo_labels')[1][:-1]:
        assert record.tags
        assert len(record.scores) == len(record.tags)
        assert all(0 < score < 1 for score in record.scores)


@pytest.mark.parametrize('kind', ['tags', 'masks'])
def test_a_floor_leaves_images_without_tags_and_all_scores_say_why(kind, request, tmp_path):
    config = deepcopy(request.getfixturevalue('tag_config' if kind == 'tags' else 'mask_config'))
    model = config['model'] if kind == 'tags' else config['model']['tagger']
    model['head'] |= {'min_score': 0.9, 'top': 1}
    config['test_cfg']['all_scores'] = True
    generate(config, tmp_path)
    records = read_pseudo_labels(tmp_path / 'pseudo_labels')[1]
    for record in records:
        if record.error is not None:
            assert record.class_scores is None
            continue
        assert (record.tags, record.scores) == ((), ())
        assert list(record.class_scores) == list(NAMES)
        assert all(0 < score < 0.9 for score in record.class_scores.values())


def test_all_scores_need_a_tagger(direct_config, tmp_path):
    config = deepcopy(direct_config)
    config['test_cfg']['all_scores'] = True
    with pytest.raises(ValueError, match='all_scores needs a tagger'):
        generate(config, tmp_path)


def test_a_folder_of_another_vocabulary_is_refused(tag_config, tmp_path):
    generate(tag_config, tmp_path)
    config = deepcopy(tag_config)
    config['model']['classes'] = ['dog', 'cat']
    with pytest.raises(ValueError, match='begun by another job: classes was'):
        generate(config, tmp_path)


def test_other_descriptions_in_the_same_file_are_another_job(direct_config, tmp_path):
    config, path = deepcopy(direct_config), tmp_path / 'descriptions.txt'
    config['model']['head']['descriptions'] = str(path)
    texts = [f'It is number {number}.' for number in range(len(NAMES))]
    path.write_text('\n'.join(texts))
    generate(config, tmp_path)
    generate(config, tmp_path)
    path.write_text('\n'.join(reversed(texts)))
    with pytest.raises(
        ValueError, match=r'begun by another job: .*model\.head\.descriptions\.phrases was'
    ):
        generate(config, tmp_path)


def test_other_words_in_the_same_file_are_another_job(tag_config, tmp_path):
    config = deepcopy(tag_config)
    config['model']['background'] = str(tmp_path / 'background.txt')
    (tmp_path / 'background.txt').write_text('sky\n')
    generate(config, tmp_path)
    generate(config, tmp_path)
    (tmp_path / 'background.txt').write_text('sky\ngrass\n')
    with pytest.raises(ValueError, match=r'begun by another job: .*model\.background\.phrases was'):
        generate(config, tmp_path)


def test_labels_are_made_without_dropout(tag_config, tmp_path):
    runner = Runner.from_cfg(Config({**deepcopy(tag_config), 'work_dir': str(tmp_path)}))
    runner.model.train()
    runner.test()
    assert not runner.model.training
