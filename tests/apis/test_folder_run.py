"""Whom the unfinished results of a folder run belong to."""

import inspect
import os

import pytest
from PIL import Image

from mmtagclip.apis import TagInferencer, list_images
from mmtagclip.apis.folder_run import WITHOUT_INFLUENCE, FolderRun
from mmtagclip.apis.model_zoo import load_config
from tests.conftest import picture

OPTIONS = {'classes': ['bell', 'train'], 'background': ['wall'], 'on_error': 'skip'}

# The others are no options of a run, or it has a place of its own for them.
WITH_INFLUENCE = {'threshold', 'min_score', 'top', 'all_scores', 'score_maps', 'thresholds'}
NOT_OF_A_RUN = {'self', 'inputs', 'batch_size', 'return_datasamples'}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'images').mkdir()
    for seed, name in enumerate(('a', 'b', 'c')):
        Image.fromarray(picture(32, 48, seed)).save(tmp_path / 'images' / f'{name}.png')
    return tmp_path


@pytest.fixture
def start(folder, demo_tagger):
    def start(inferencer=demo_tagger, batch_size=1, **options):
        images = list_images(folder / 'images')
        return FolderRun(inferencer, images, folder / 'out', batch_size, {**OPTIONS, **options})

    return start


def begin(start):
    """Do the first image alone, as a run that was killed then."""
    run = start()
    result = next(run.inferencer.stream([run.images[0]], **OPTIONS))
    run.job.add(0, result.record)
    run.job.commit()
    assert start().num_done == 1


@pytest.mark.parametrize(
    'changes, named',
    [
        ({'threshold': 0.5}, 'threshold'),
        ({'classes': ['train', 'bell']}, 'classes'),
        ({'background': ['wall', 'sky']}, 'background'),
        ({'background': []}, 'background'),
        ({'batch_size': 2}, 'batch_size'),
        ({'min_score': 0.5}, 'min_score'),
        ({'top': 1}, 'top'),
        ({'all_scores': True}, 'all_scores'),
        ({'a_new_option': 7}, 'a_new_option'),
    ],
)
def test_an_option_that_decides_results_is_named(start, changes, named):
    begin(start)
    with pytest.raises(ValueError, match=rf'begun by another job: .*{named}'):
        start(**changes)


def test_how_images_are_read_counts(start):
    begin(start)
    smaller = TagInferencer('tagclip_demo', max_side=40, show_progress=False)
    with pytest.raises(ValueError, match=r'begun by another job: pipeline\..*max_side'):
        start(inferencer=smaller)
    files = TagInferencer('tagclip_demo', show_progress=False)
    files.file_max_side = 99
    with pytest.raises(ValueError, match=r'begun by another job: .*file_max_side'):
        start(inferencer=files)


def test_the_model_counts(start):
    begin(start)
    other = TagInferencer(
        load_config('tagclip_demo', {'model.head.dmar.votes': 3}), show_progress=False
    )
    with pytest.raises(ValueError, match=r'begun by another job: model\.head\.dmar\.votes was'):
        start(inferencer=other)


def test_what_decides_nothing_does_not_count(start, folder):
    begin(start)
    assert start(on_error='raise', vis_dir=str(folder / 'vis')).num_done == 1
    known = inspect.signature(TagInferencer.__call__).parameters
    assert set(known) - set(WITHOUT_INFLUENCE) == WITH_INFLUENCE | NOT_OF_A_RUN
    assert set(WITHOUT_INFLUENCE) <= set(known)


def test_images_are_known_by_name_and_content(start, folder):
    begin(start)
    image = folder / 'images' / 'a.png'
    image.rename(folder / 'images' / 'd.png')
    assert start().num_done == 0
    (folder / 'images' / 'd.png').rename(image)
    assert start().num_done == 1
    os.utime(image, (1, 1))
    assert start().num_done == 0


def test_the_whole_is_that_of_one_start(start):
    begin(start)
    run = start()
    run.run()
    resumed = [(record['image'], record['tags']) for record in run.records()]
    assert [image.rsplit('/', 1)[1] for image, _ in resumed] == ['a.png', 'b.png', 'c.png']
    plain = run.inferencer(run.images, **OPTIONS)
    assert [tags for _, tags in resumed] == [list(result.tags) for result in plain]
