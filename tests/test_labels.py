"""What data sets and segmentors say of their labels."""

import io

import numpy as np
import pytest
from PIL import Image

from mmtagclip.labels import (
    BLOCK,
    IGNORED,
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
