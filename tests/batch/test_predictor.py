"""A table of encoded images becomes a table of results, as the command line has them."""

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pyarrow as pa
import pytest
import torch

from mmtagclip.batch import BatchPredictor
from mmtagclip.exports.jsonl import mask_entries
from mmtagclip.models.taggers.open_names import OpenNames


def table_of(contents, **more):
    names = list(contents)
    columns = {'id': range(len(names)), 'image': names, 'bytes': list(contents.values()), **more}
    return pa.table({key: list(value) for key, value in columns.items()})


def test_tags_are_those_of_the_inferencer_to_the_bit(tagger, demo_tagger, scenes):
    results = demo_tagger([*scenes.values()])
    rows = tagger(table_of(scenes, extra=range(6))).to_pylist()
    assert [row['image'] for row in rows] == list(scenes)
    for number, (row, result) in enumerate(zip(rows, results, strict=True)):
        assert row == {
            'id': number,
            'image': row['image'],
            'height': result.size[0],
            'width': result.size[1],
            'tags': list(result.tags),
            'scores': list(result.tags.values()),
            'error': None,
        }
        assert result.tags


def test_masks_are_those_of_the_inferencer(demo_segmentor, scenes):
    predictor = BatchPredictor('cls-seg_demo', threads=1, key='image', all_scores=True)
    some = dict(list(scenes.items())[:2])
    found = predictor(table_of(some))
    for row, result in zip(
        found.to_pylist(), demo_segmentor([*some.values()], all_scores=True), strict=True
    ):
        with_background = result.background is not None
        assert row['masks'] == mask_entries(result.mask, result.classes, with_background)
        assert row['class_scores'] == list(result.class_scores.values())
        assert row['tags'] == list(result.tags)
        assert row['masks']
    assert json.loads(found.schema.metadata[b'classes']) == list(predictor.classes)
    assert found.schema.names[0] == 'image'


def test_images_that_are_not_there_or_damaged_are_rows(tagger, scenes):
    (content,) = list(scenes.values())[:1]
    contents = {'a': None, 'b': b'', 'c': b'no image', 'd': content[:2000], 'e': content}
    rows = tagger(table_of(contents)).to_pylist()
    errors = [row['error'] for row in rows]
    assert errors[0] == 'no image at a'
    assert errors[1] == 'b is an empty file'
    assert errors[2].startswith('c is not an image of a supported format')
    assert errors[3].startswith('d is a damaged or truncated image')
    assert errors[4] is None
    assert rows[0]['height'] is None
    assert rows[0]['tags'] == []
    assert rows[4]['tags']


def test_batches_of_one_grid_keep_the_order(tagger, scenes):
    batched = BatchPredictor(
        'tagclip_demo', threads=1, batch_size=4, decoders=3, names=tagger.packed_names()
    )
    contents = {**scenes, 'bad': None}
    one, four = tagger(table_of(contents)), batched(table_of(contents))
    assert one.column('image') == four.column('image')
    assert one.column('tags') == four.column('tags')
    for a, b in zip(
        one.column('scores').to_pylist(), four.column('scores').to_pylist(), strict=True
    ):
        assert a == pytest.approx(b, abs=2e-6)


def test_more_threads_move_scores_by_less_than_2e_6(tagger, scenes):
    # In a process of its own: one that has threads can't be forked, as other tests do.
    with ProcessPoolExecutor(1, get_context('fork')) as pool:
        two = pool.submit(with_two_threads, table_of(scenes)).result(timeout=120)
    one = tagger(table_of(scenes))
    assert one.column('tags') == two.column('tags')
    for a, b in zip(
        one.column('scores').to_pylist(), two.column('scores').to_pylist(), strict=True
    ):
        assert a == pytest.approx(b, abs=2e-6)


def with_two_threads(table):
    predictor = BatchPredictor('tagclip_demo', threads=2)
    assert torch.get_num_threads() == 2
    return predictor(table)


def test_options_make_the_names_and_the_rule(scenes, tagger):
    predictor = BatchPredictor('tagclip_demo', ['bell', 'train'], top=1, key=('image',))
    found = predictor(table_of(scenes))
    assert {tag for tags in found.column('tags').to_pylist() for tag in tags} <= {'bell', 'train'}
    assert max(map(len, found.column('tags').to_pylist())) == 1
    assert predictor.manifest.job['options.top'] == 1
    assert predictor.manifest.classes == ('bell', 'train')
    assert predictor.manifest.key != tagger.manifest.key


def test_an_empty_table_has_the_columns(tagger):
    found = tagger(table_of({}).cast(pa.schema(
        [('id', pa.int64()), ('image', pa.string()), ('bytes', pa.binary())]
    )))  # fmt: skip
    assert found.num_rows == 0
    assert found.schema.names == [
        'id', 'image', 'height', 'width', 'tags', 'scores', 'error',
    ]  # fmt: skip


@pytest.mark.parametrize(
    'options, error, match',
    [
        ({'treshold': 0.5}, TypeError, "use 'threshold'"),
        ({'score_maps': True}, TypeError, 'score_maps'),
        ({'threads': 0}, ValueError, 'threads must be at least 1, not 0'),
        ({'decoders': 0}, ValueError, 'decoders must be at least 1, not 0'),
        ({'batch_size': 0}, ValueError, 'batch_size must be at least 1, not 0'),
    ],
)
def test_bad_options(options, error, match, monkeypatch):
    with pytest.raises(error, match=match):
        BatchPredictor('tagclip_demo', **options)


def test_a_column_that_is_not_there(tagger):
    with pytest.raises(ValueError, match="the table has no column 'bytes': it has id, image"):
        tagger(pa.table({'id': [1], 'image': ['a']}))


def test_names_that_are_chosen_for_each_image_are_not_packed(tagger, monkeypatch):
    monkeypatch.setattr(tagger, 'names', object.__new__(OpenNames))  # which hold the encoder
    assert tagger.packed_names() == b''
