"""Pseudo labels beside the real ones, on the demo's scenes."""

import io

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmtagclip.jobs.description import Source
from mmtagclip.jobs.runner import Job, Manifest
from mmtagclip.records import ImageRecord
from tests.processes import ROOT, run_fresh, run_script

DEMO = ROOT / 'demo/data'
NAMES = (DEMO / 'classes.txt').read_text().split()
COUNT = 6


def quality(tmp_path, kind, records, dataset, start=run_script):
    """Write labels of the first scenes and compare them."""
    classes = ('background', *NAMES) if kind == 'masks' else tuple(NAMES)
    images = [Source(record['image']) for record, _ in records]
    job = Job(tmp_path / kind, Manifest(kind, classes), images)
    for index, (record, files) in enumerate(records):
        job.add(index, ImageRecord.from_dict(record), files)
    assert job.finish()
    scope = 'mmseg' if kind == 'masks' else 'mmpretrain'
    Config(
        {
            'default_scope': scope,
            'train_dataloader': {
                'dataset': {'classes': str(DEMO / 'classes.txt'), 'data_root': str(DEMO), **dataset}
            },
        }
    ).dump(str(tmp_path / 'real.py'))
    process = start(
        ROOT / 'tools/analysis_tools/label_quality.py',
        tmp_path / kind,
        tmp_path / 'real.py',
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        (lambda mask: mask, (100.0, 0.0)),
        (
            lambda mask: np.where(mask == mask.max(where=mask < 255, initial=0), 255, mask),
            (100.0, None),
        ),
        (lambda mask: mask * 0, (None, 0.0)),
    ],
    ids=['the same', 'left out', 'all background'],
)
def test_masks(tmp_path, change, expected):
    records, background = [], []
    for index in range(COUNT):
        real = np.asarray(Image.open(DEMO / f'SegmentationClass/{index:06d}.png'))
        background.append(real[real != 255] == 0)
        buffer = io.BytesIO()
        Image.fromarray(change(real).astype(np.uint8)).save(buffer, format='PNG')
        records.append(
            ({'image': f'{index:06d}.jpg', 'tags': []}, {'masks.png': buffer.getvalue()})
        )
    (tmp_path / 'list.txt').write_text(''.join(f'{index:06d}\n' for index in range(COUNT)))
    out = quality(
        tmp_path,
        'masks',
        records,
        {
            'type': 'mmtagclip.VocabularySegDataset',
            'ann_file': str(tmp_path / 'list.txt'),
            'data_prefix': {'img_path': 'JPEGImages', 'seg_map_path': 'SegmentationClass'},
        },
    )
    miou, left_out = (float(part.split()[0]) for part in out.split(': ')[1:])
    if expected[0] is None:  # one class is found, the others of the scenes are not
        seen = {
            name
            for index in range(COUNT)
            for name in np.unique(
                np.asarray(Image.open(DEMO / f'SegmentationClass/{index:06d}.png'))
            )
            if name != 255
        }
        assert miou == pytest.approx(100 * np.concatenate(background).mean() / len(seen), abs=0.01)
    else:
        assert miou == expected[0]
    assert left_out > 0 if expected[1] is None else left_out == expected[1]


def test_tags(tmp_path):
    real = {}
    records = []
    for index in range(COUNT):
        text = (DEMO / f'Annotations/{index:06d}.xml').read_text()
        real[index] = sorted(name for name in NAMES if f'<name>{name}</name>' in text)
        tags = real[index][:1]  # one right tag an image
        records.append(
            ({'image': f'{index:06d}.jpg', 'tags': tags, 'scores': [0.9] * len(tags)}, None)
        )
    (tmp_path / 'list.txt').write_text(''.join(f'{index:06d}\n' for index in range(COUNT)))
    out = quality(
        tmp_path,
        'tags',
        records,
        {
            'type': 'mmtagclip.VOCMultiLabel',
            'split': '',
            'image_set_path': str(tmp_path / 'list.txt'),
        },
        run_fresh,
    )
    assert 'precision: 100.00' in out
    assert f'recall: {100 * COUNT / sum(map(len, real.values())):.2f}' in out
