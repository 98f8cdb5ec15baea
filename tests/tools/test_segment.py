"""tools/test.py on segmentors."""

import json

import numpy as np
import pytest
from PIL import Image

from mmtagclip.clip import Vocabulary
from tests.conftest import picture
from tests.processes import ROOT, run_ranks, run_script
from tests.tools.test_test import TEST_PY

CONFIG = """\
_base_ = '{configs}/cls_seg/cls-seg_vit-base-p16_openai_voc12.py'
model = dict(
    tagger=dict(encoder=dict(_delete_=True, **{encoder}), templates='templates_photo'),
    templates='templates_photo', **{model})
test_dataloader = dict(num_workers=0, dataset=dict(data_root='{root}'))
test_evaluator = dict(output_dir='{masks}')
"""
TAG_FILE = """\
test_pipeline = _base_.test_pipeline
test_pipeline.insert(1, dict(type='mmtagclip.LoadTags', tag_file='{tags}', classes='voc'))
test_pipeline[-1].meta_keys += ('tag_labels',)
test_dataloader['dataset']['pipeline'] = test_pipeline
"""
# Sizes of the pictures, an odd number of them.
SIZES = {'000001': (64, 80), '000002': (50, 71), '000003': (33, 100)}
DOG, SOFA = 1 + Vocabulary.load('voc').names.index('dog'), 18


@pytest.fixture(scope='module')
def voc(tmp_path_factory):
    """Pictures and palette masks in VOC's layout: background, a dog, an ignored border."""
    root = tmp_path_factory.mktemp('voc')
    for name in ('JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation'):
        (root / name).mkdir(parents=True)
    (root / 'ImageSets' / 'Segmentation' / 'val.txt').write_text('\n'.join(SIZES) + '\n')
    for seed, (name, size) in enumerate(SIZES.items()):
        Image.fromarray(picture(*size, seed)).save(root / 'JPEGImages' / f'{name}.jpg')
        mask = np.zeros(size, np.uint8)
        mask[5:-5, 10:40], mask[5:-5, 40:42] = DOG, 255
        image = Image.fromarray(mask, 'P')
        image.putpalette(list(range(256)) * 3)
        image.save(root / 'SegmentationClass' / f'{name}.png')
    return root


@pytest.fixture(scope='module')
def write_config(voc, encoder_config):
    def write_config(folder, more='', **model):
        path = folder / 'config.py'
        (folder / 'masks').mkdir()  # else one process might write before another makes it
        path.write_text(
            CONFIG.format(
                configs=ROOT / 'configs',
                encoder=encoder_config,
                model=model,
                root=voc,
                masks=folder / 'masks',
            )
            + more
        )
        return path

    return write_config


@pytest.fixture(scope='module')
def one_process(write_config, tmp_path_factory):
    """A finished run: the process, and the folder that it wrote to."""
    out = tmp_path_factory.mktemp('one')
    return run_test(
        write_config(out),
        '--work-dir',
        out,
        '--out',
        out / 'metrics.json',
        '--show-dir',
        out / 'show',
    ), out


def run_test(*arguments):
    return run_script(TEST_PY, *arguments)


def read(folder):
    return {path.stem: np.array(Image.open(path)) for path in sorted(folder.glob('*.png'))}


def metrics(folder):
    return json.loads((folder / 'metrics.json').read_text())


def mean_iou(predicted, truth, labels):
    """By the plain formula, in per cent, over the pixels that have one of the labels."""
    intersection, union = np.zeros(len(labels)), np.zeros(len(labels))
    for name, mask in predicted.items():
        counts = np.isin(truth[name], labels)
        for place, label in enumerate(labels):
            one, other = mask[counts] == label, truth[name][counts] == label
            intersection[place] += (one & other).sum()
            union[place] += (one | other).sum()
    iou = intersection[union > 0] / union[union > 0]
    assert 0 < iou.mean() < 1
    return 100 * iou.mean()


def test_metric_is_that_of_the_written_masks(voc, one_process):
    process, out = one_process
    assert process.returncode == 0, process.stderr
    predicted, truth = read(out / 'masks'), read(voc / 'SegmentationClass')
    assert {name: mask.shape for name, mask in predicted.items()} == SIZES
    assert metrics(out)['mIoU'] == pytest.approx(mean_iou(predicted, truth, range(21)), abs=0.01)


def test_show_dir_has_a_picture_for_each_image(one_process):
    """The ground truth and the prediction, each enlarged to 900 pixels, and the legends."""
    drawn = {
        path.name.split('_')[1]: Image.open(path).size
        for path in (one_process[1] / 'show').rglob('*.png')
    }
    assert drawn.keys() == {f'{name}.jpg' for name in SIZES}
    for name, (height, width) in SIZES.items():
        scale = 900 / max(height, width)
        assert drawn[f'{name}.jpg'][0] > round(width * scale)
        assert drawn[f'{name}.jpg'][1] > 2 * round(height * scale)


def test_two_processes_give_the_same(write_config, one_process, tmp_path):
    process = run_ranks(
        TEST_PY, write_config(tmp_path), '--work-dir', tmp_path, '--out', tmp_path / 'metrics.json'
    )
    assert process.returncode == 0, process.stderr
    alone = metrics(one_process[1])
    for key in ('aAcc', 'mIoU', 'mAcc'):
        assert metrics(tmp_path)[key] == alone[key]


def test_tta_averages_over_flips_and_scales(write_config, one_process, tmp_path):
    process = run_test(
        write_config(tmp_path), '--work-dir', tmp_path, '--tta', '--out', tmp_path / 'metrics.json'
    )
    assert process.returncode == 0, process.stderr
    assert metrics(tmp_path)['mIoU'] > 0
    masks, plain = read(tmp_path / 'masks'), read(one_process[1] / 'masks')
    assert {name: mask.shape for name, mask in masks.items()} == SIZES
    assert any((masks[name] != plain[name]).any() for name in SIZES)


def test_tags_from_a_file(write_config, tmp_path):
    tags = tmp_path / 'tags.txt'
    tags.write_text(f'000001 {DOG - 1} {SOFA - 1}\n000002 {SOFA - 1}\n000003\n')
    config = write_config(tmp_path, TAG_FILE.format(tags=tags), tags='given')
    process = run_test(config, '--work-dir', tmp_path)
    assert process.returncode == 0, process.stderr
    labels = [set(np.unique(mask)) for mask in read(tmp_path / 'masks').values()]
    assert labels[0] == {0, DOG, SOFA}
    assert labels[1] == {0, SOFA}
    assert labels[2] == {0}


@pytest.mark.parametrize('name', ['tag-guided-naclip', 'itaclip'])
def test_direct_segmentation(voc, encoder_config, tmp_path, name):
    path = tmp_path / 'config.py'
    own = "_delete_=True, last_block=_base_.model.encoder.last_block, positions='bicubic_scale'"
    words = tmp_path / 'descriptions.txt'
    words.write_text('\n'.join(f'It is number {number}.' for number in range(20)))
    more = {
        'itaclip': f"windows=dict(stride=112), head=dict(descriptions='{words}')",
        'tag-guided-naclip': f'tagger=dict(encoder=dict(_delete_=True, **{encoder_config}))',
    }
    path.write_text(f"""\
_base_ = '{ROOT}/configs/{name.rpartition('-')[2]}/{name}_vit-base-p16_openai_voc21.py'
model = dict(encoder=dict({own}, **{encoder_config}), {more[name]})
test_dataloader = dict(num_workers=0, dataset=dict(data_root='{voc}'))
test_evaluator = dict(output_dir='{tmp_path / 'masks'}')
""")
    process = run_test(path, '--work-dir', tmp_path, '--out', tmp_path / 'metrics.json')
    assert process.returncode == 0, process.stderr
    assert {name: mask.shape for name, mask in read(tmp_path / 'masks').items()} == SIZES
    assert 0 <= metrics(tmp_path)['mIoU'] <= 100


def test_whole_images_without_a_background(voc, encoder_config, tmp_path):
    """Label 0 of the masks counts for nothing; the first class is 1 in masks, given and written."""
    root = tmp_path / 'voc'
    (root / 'SegmentationClass').mkdir(parents=True)
    for name in ('JPEGImages', 'ImageSets'):
        (root / name).symlink_to(voc / name)
    rng = np.random.default_rng(0)
    for name, size in SIZES.items():
        mask = rng.choice(22, size, p=np.arange(1, 23) / 253).astype(np.uint8)  # none as often
        mask[mask == 21] = 255
        Image.fromarray(mask).save(root / 'SegmentationClass' / f'{name}.png')
    path = tmp_path / 'config.py'
    path.write_text(f"""\
_base_ = '{ROOT}/configs/maskclip/maskclip_vit-base-p16_openai_voc20.py'
model = dict(
    encoder=dict(_delete_=True, last_block=_base_.model.encoder.last_block, positions='bicubic',
                 **{encoder_config}),
    head=dict(templates='templates_photo'))
test_pipeline = _base_.test_pipeline
test_pipeline[2].scale = (2048, 64)
test_dataloader = dict(num_workers=0, dataset=dict(data_root='{root}', pipeline=test_pipeline))
test_evaluator = dict(output_dir='{tmp_path / 'masks'}')
""")
    process = run_test(path, '--work-dir', tmp_path, '--out', tmp_path / 'metrics.json')
    assert process.returncode == 0, process.stderr
    predicted, truth = read(tmp_path / 'masks'), read(root / 'SegmentationClass')
    assert {name: mask.shape for name, mask in predicted.items()} == SIZES
    assert all(mask.min() >= 1 and mask.max() <= 20 for mask in predicted.values())
    assert metrics(tmp_path)['mIoU'] == pytest.approx(
        mean_iou(predicted, truth, range(1, 21)), abs=0.01
    )
    right = np.concatenate(
        [
            (mask == truth[name])[np.isin(truth[name], range(1, 21))]
            for name, mask in predicted.items()
        ]
    )
    assert metrics(tmp_path)['aAcc'] == pytest.approx(100 * right.mean(), abs=0.01)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--tta'], '--tta needs tta_model and tta_pipeline in the config'),
        (['--show-dir', 'drawn'], '--show-dir needs default_hooks.visualization'),
    ],
)
def test_what_a_config_does_not_offer(tmp_path, arguments, message):
    config = tmp_path / 'config.py'
    config.write_text('model = dict()\ntest_dataloader = dict()\n')
    process = run_test(config, *arguments)
    assert process.returncode == 1
    assert message in process.stderr
