"""What data sets and segmentors say of their labels."""

import io

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from mmtagclip.labels import (
    BLOCK,
    IGNORED,
    decode_runs,
    index_mask,
    label_counts,
    labels_metainfo,
    mask_png,
    row_blocks,
)
from mmtagclip.palette import class_colours


@pytest.mark.parametrize('with_background', [True, False])
def test_names_and_colours(with_background):
    names = [f'class {number}' for number in range(1, 256 - with_background)]
    meta = labels_metainfo(names, with_background)
    background = ('background',) if with_background else ()
    assert meta['classes'] == (*background, *names)
    colours = [tuple(colour) for colour in meta['palette']][with_background:]
    assert colours == class_colours(len(names))
    assert len({(0, 0, 0), *colours}) == len(colours) + 1
    if with_background:
        assert meta['palette'][0] == [0, 0, 0]


def test_the_background_is_named_once():
    with pytest.raises(ValueError, match="'background' is label 0 already"):
        labels_metainfo(['dog', 'background'], with_background=True)
    assert labels_metainfo(['background'], with_background=False)['classes'] == ('background',)


def test_the_value_of_no_label_is_no_label():
    assert IGNORED == 255


@pytest.mark.parametrize('size', [(0, 0), (1, 1), (5, 3 * BLOCK), (2500, 1000), (3 * BLOCK, 1)])
def test_blocks_of_rows_cover_each_row_once(size):
    blocks = [range(size[0])[rows] for rows in row_blocks(size)]
    assert [row for rows in blocks for row in rows] == list(range(size[0]))
    assert all(len(rows) == 1 or len(rows) * size[1] <= BLOCK for rows in blocks)


@pytest.mark.parametrize('dtype', [np.uint8, np.int64, np.uint64])
def test_label_counts_are_numpy_s(dtype):
    mask = np.random.RandomState(0).randint(0, 21, (2500, 1000)).astype(dtype)
    mask[2400:] = IGNORED
    labels, counts = np.unique(mask, return_counts=True)
    assert label_counts(mask) == dict(zip(labels.tolist(), counts.tolist(), strict=True))
    assert list(label_counts(mask)) == labels.tolist()
    assert label_counts(np.zeros((0, 0), dtype=dtype)) == {}


def test_a_mask_holds_255_labels():
    labels = np.array([[0, 254], [255, 3]])
    mask = index_mask(labels, ['x'] * 255)
    assert mask.dtype == np.uint8
    assert (mask == labels).all()
    assert (np.asarray(Image.open(io.BytesIO(mask_png(mask)))) == labels).all()
    with pytest.raises(ValueError, match='at most 255 labels, but there are 256 classes'):
        index_mask(labels, ['x'] * 256)


@pytest.mark.parametrize('share', [0.0, 0.003, 0.5, 1.0])
@pytest.mark.parametrize('size', [(1, 1), (3, 7), (200, 90)])
def test_run_lengths_are_those_of_pycocotools(size, share):
    mask = np.random.default_rng(0).random(size) < share
    runs = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    packed = {'size': list(size), 'counts': runs['counts'].decode()}
    np.testing.assert_array_equal(decode_runs(packed, size), mask)
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = [0] * bool(flat[0]) + np.diff([0, *edges, flat.size]).tolist()
    found = decode_runs({'size': list(size), 'counts': counts}, size)
    np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize(
    'runs',
    [
        None,
        [],
        {'counts': '02'},
        {'size': [2, 10**12], 'counts': '02'},
        {'size': [3, 2], 'counts': [6]},
        {'size': [2, 3]},
        *(
            {'size': [2, 3], 'counts': counts}
            for counts in (
                [5], [7], [5, -1, 2], [6.0], [True, 5], ['6'], [[6]], [2**70, 6], 6, None, b'6',
                '', '0', '5', '77', '6o', '\x7f6', 'ü', 'o' * 9999, 'PYYYYYYY0', '?',
            )
        ),
    ],
)  # fmt: skip
def test_damaged_run_lengths_never_reach_pycocotools(runs):
    """It reads memory that is not its own, or ends the process."""
    with pytest.raises(ValueError, match='run lengths'):
        decode_runs(runs, (2, 3))
