import json
import logging
import os
from types import SimpleNamespace

import pytest
import torch
from mmpretrain.structures import DataSample

from mmtagclip.clip import Vocabulary
from mmtagclip.engine import TagWriterHook, tag_writer
from mmtagclip.files import split_lines
from mmtagclip.records import ImageRecord
from tests.forgetful import Forgetful

CLASSES = ('cat', 'dog', 'Käfer')


def stub(work_dir, batches=99):
    return SimpleNamespace(
        work_dir=str(work_dir),
        logger=logging.getLogger('test'),
        test_loop=SimpleNamespace(dataloader=range(batches)),
    )


@pytest.fixture
def runner(tmp_path):
    return stub(tmp_path)


def sample(index, path, *tags, error=None):
    """What the tagger returns; the score of class c is 0.5 + c / 4."""
    result = DataSample(metainfo={'sample_idx': index, 'img_path': path})
    result.set_pred_score(torch.tensor([0.5, 0.75, 1.0]))
    result.set_pred_label([CLASSES.index(tag) for tag in tags])
    result.set_field(list(tags), 'tags')
    if error is not None:
        result.set_metainfo({'load_error': error})
    return result


def run(hook, runner, batches):
    metrics = {'mAP': 50.0}
    hook.before_test_epoch(runner)
    for number, batch in enumerate(batches):
        hook.after_test_iter(runner, number, outputs=batch)
    hook.after_test_epoch(runner, metrics)
    return metrics


def read(path):
    return [json.loads(line) for line in path.read_text(encoding='utf-8').splitlines()]


def test_one_line_an_image(runner, tmp_path):
    metrics = run(
        TagWriterHook(),
        runner,
        [[sample(0, 'a.jpg', 'cat', 'Käfer'), sample(1, 'b.jpg', 'dog')], [sample(2, 'c.jpg')]],
    )
    assert read(tmp_path / 'tags.jsonl') == [
        {'image': 'a.jpg', 'tags': ['cat', 'Käfer'], 'scores': [0.5, 1.0]},
        {'image': 'b.jpg', 'tags': ['dog'], 'scores': [0.75]},
        {'image': 'c.jpg', 'tags': [], 'scores': []},
    ]
    assert metrics == {'mAP': 50.0, 'unreadable_images': 0}
    assert os.listdir(tmp_path) == ['tags.jsonl']


def test_the_score_of_every_class(runner, tmp_path):
    names = {'cat': 0.5, 'dog': 0.75, 'Käfer': 1.0}
    runner.model = SimpleNamespace(vocabulary=Vocabulary.load(CLASSES))
    batch = [sample(0, 'a.jpg', 'cat'), sample(1, 'b.jpg'), sample(2, 'c.jpg', error='broken')]
    run(TagWriterHook(all_scores=True), runner, [batch])
    one, none, bad = read(tmp_path / 'tags.jsonl')
    assert one == {'image': 'a.jpg', 'tags': ['cat'], 'scores': [0.5], 'class_scores': names}
    assert none == {'image': 'b.jpg', 'tags': [], 'scores': [], 'class_scores': names}
    assert tuple(one['class_scores']) == CLASSES
    assert bad == {'image': 'c.jpg', 'error': 'broken'}


def test_lines_are_there_while_the_run_goes_on(runner, tmp_path):
    hook = TagWriterHook()
    hook.before_test_epoch(runner)
    hook.after_test_iter(runner, 0, outputs=[sample(0, 'a.jpg', 'cat')])
    (part,) = tmp_path.iterdir()
    assert 'a.jpg' in part.read_text()


def test_an_earlier_file_stays_until_the_end(runner, tmp_path):
    run(TagWriterHook(), runner, [[sample(0, 'old.jpg')]])
    hook = TagWriterHook()
    hook.before_test_epoch(runner)
    hook.after_test_iter(runner, 0, outputs=[sample(0, 'new.jpg')])
    assert read(tmp_path / 'tags.jsonl')[0]['image'] == 'old.jpg'
    hook.after_test_epoch(runner, {})
    assert read(tmp_path / 'tags.jsonl')[0]['image'] == 'new.jpg'


def test_errors_are_written_counted_and_logged(runner, tmp_path, caplog):
    bad = sample(1, 'b.jpg', error='b.jpg is an empty file')
    metrics = run(TagWriterHook(), runner, [[sample(0, 'a.jpg', 'dog'), bad]])
    assert read(tmp_path / 'tags.jsonl')[1] == {'image': 'b.jpg', 'error': 'b.jpg is an empty file'}
    assert metrics['unreadable_images'] == 1
    assert '1 images could not be read' in caplog.text


def test_images_in_any_order_come_out_in_the_data_set_s(runner, tmp_path):
    run(TagWriterHook(), runner, [[sample(i, f'{i}.jpg')] for i in (3, 0, 2, 1)])
    assert [line['image'] for line in read(tmp_path / 'tags.jsonl')] == [
        f'{i}.jpg' for i in range(4)
    ]


def test_what_a_killed_run_left_behind_is_removed(runner, tmp_path):
    (tmp_path / 'tags.jsonl.part-3-of-4').write_text('[0, {}]')
    (tmp_path / 'tags.jsonl.part-of-my-notes').write_text('mine')
    run(TagWriterHook(), runner, [[sample(0, 'a.jpg')]])
    assert sorted(os.listdir(tmp_path)) == ['tags.jsonl', 'tags.jsonl.part-of-my-notes']


def test_samples_need_their_index(runner):
    bad = sample(0, 'a.jpg')
    del bad.sample_idx
    with pytest.raises(ValueError, match="needs 'sample_idx' among"):
        run(TagWriterHook(), runner, [[bad]])


def test_a_run_without_a_readable_image_is_refused(tmp_path):
    bad = sample(0, 'a.jpg', error='gone')
    with pytest.raises(ValueError, match=r'not one image could be read; .*part-1-of-1 says why'):
        run(TagWriterHook(), stub(tmp_path, batches=1), [[bad]])
    run(TagWriterHook(), stub(tmp_path, batches=2), [[bad], [sample(1, 'b.jpg')]])


def test_count_starts_again_with_each_run(runner):
    hook = TagWriterHook()
    bad = sample(0, 'b.jpg', error='damaged')
    run(hook, runner, [[bad]])
    assert run(hook, runner, [[bad]])['unreadable_images'] == 1


def test_unicode_is_readable_in_the_file(runner, tmp_path):
    run(TagWriterHook(), runner, [[sample(0, 'fotos/žába 青蛙.jpg', 'Käfer')]])
    text = (tmp_path / 'tags.jsonl').read_text(encoding='utf-8')
    assert 'žába 青蛙.jpg' in text
    assert 'Käfer' in text


def test_file_name_that_is_not_utf8(runner, tmp_path):
    path = os.fsdecode(b'caf\xe9.jpg')
    run(TagWriterHook(), runner, [[sample(0, path)]])
    (written,) = read(tmp_path / 'tags.jsonl')
    assert os.fsencode(written['image']) == b'caf\xe9.jpg'


def test_relative_to(runner, tmp_path):
    run(
        TagWriterHook(relative_to='/data/photos'),
        runner,
        [[sample(0, '/data/photos/2024/a.jpg'), sample(1, '/data/photos2/b.jpg')]],
    )
    assert [line['image'] for line in read(tmp_path / 'tags.jsonl')] == [
        '2024/a.jpg',
        '/data/photos2/b.jpg',
    ]


def test_out_file_in_a_new_folder(runner, tmp_path):
    run(TagWriterHook(out_file='out/voc.jsonl'), runner, [[sample(0, 'a.jpg')]])
    assert read(tmp_path / 'out' / 'voc.jsonl')[0]['image'] == 'a.jpg'


def test_results_before_the_start_are_refused(runner):
    with pytest.raises(RuntimeError, match='before the test began'):
        TagWriterHook().after_test_iter(runner, 0, outputs=[sample(0, 'a.jpg')])


@pytest.mark.parametrize('images, world_size', [(5, 2), (7, 3), (2, 3), (6, 2)])
def test_several_ranks_write_what_one_writes(tmp_path, monkeypatch, images, world_size):
    def record(index):
        error = 'damaged' if index == 1 else None
        return sample(index, f'{index}.jpg', CLASSES[index % 3], error=error)

    alone = stub(tmp_path / 'alone')
    together = stub(tmp_path / 'many')
    run(TagWriterHook(), alone, [[record(index)] for index in range(images)])

    # As mmengine's sampler shares them out: padded with the first images, then every n-th.
    padded = [index % images for index in range(-(-images // world_size) * world_size)]
    hooks = [TagWriterHook() for _ in range(world_size)]
    metrics = [{} for _ in range(world_size)]

    def as_rank(rank):
        monkeypatch.setattr(tag_writer, 'get_dist_info', lambda: (rank, world_size))
        monkeypatch.setattr(tag_writer, 'is_main_process', lambda: rank == 0)

    for rank, hook in enumerate(hooks):
        as_rank(rank)
        hook.before_test_epoch(together)
        for number, index in enumerate(padded[rank::world_size]):
            hook.after_test_iter(together, number, outputs=[record(index)])
    for rank in reversed(range(world_size)):  # the main process merges after the others are done
        as_rank(rank)
        hooks[rank].after_test_epoch(together, metrics[rank])

    assert (tmp_path / 'many' / 'tags.jsonl').read_bytes() == (
        tmp_path / 'alone' / 'tags.jsonl'
    ).read_bytes()
    assert os.listdir(tmp_path / 'many') == ['tags.jsonl']
    assert metrics[0] == {'unreadable_images': 1}


@pytest.mark.parametrize('odd', ['\u2028', '\u2029', '\x85', '\x0b', '\x0c'])
def test_names_with_line_ends_that_are_none(runner, tmp_path, odd):
    run(TagWriterHook(), runner, [[sample(0, f'a{odd}b.jpg', 'cat')], [sample(1, 'c.jpg')]])
    records = [
        ImageRecord.from_json(line)
        for line in split_lines((tmp_path / 'tags.jsonl').read_text(encoding='utf-8'))
    ]
    assert [record.image for record in records] == [f'a{odd}b.jpg', 'c.jpg']


def test_part_files_go_only_when_the_whole_is_flushed(runner, tmp_path, monkeypatch):
    """A power failure at any moment after the run has ended leaves the whole file."""
    with monkeypatch.context() as patch:
        disk = Forgetful(tmp_path, patch)
        run(TagWriterHook(), runner, [[sample(0, 'a.jpg', 'cat')]])
        whole = (tmp_path / 'tags.jsonl').read_bytes()
    removed = [number for number, call in enumerate(disk.calls) if 'part-1-of-1' in str(call)]
    assert removed
    for failure in disk.failures[removed[0] - 1 :]:
        for files in failure:
            assert files['tags.jsonl'] == whole


def test_a_link_under_the_name_of_a_part_is_not_followed(runner, tmp_path):
    (tmp_path / 'target').write_text('theirs')
    (tmp_path / 'tags.jsonl.part-1-of-1').symlink_to(tmp_path / 'target')
    run(TagWriterHook(), runner, [[sample(0, 'a.jpg')]])
    assert (tmp_path / 'target').read_text() == 'theirs'


def test_scores_of_other_classes_are_refused():
    sample = DataSample().set_pred_score(torch.tensor([0.5, 0.25]))
    assert tag_writer.class_scores(['a', 'b'], sample) == {'a': 0.5, 'b': 0.25}
    with pytest.raises(ValueError, match='zip'):
        tag_writer.class_scores(['a'], sample)
