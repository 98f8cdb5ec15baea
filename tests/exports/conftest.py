"""Results of the demo's models, which each format is tried on."""

import shutil

import pytest

from mmtagclip.apis import list_images, zoo_root
from mmtagclip.apis.folder_run import FolderRun
from mmtagclip.exports import open_results

NAMES = ('000008', '000011', '000040')
CLASSES = ['bell', 'train', 'octopus', 'traffic light']


@pytest.fixture(scope='session')
def photos(tmp_path_factory):
    """A folder of three scenes, one in a folder of its own, and a file that is no image."""
    root = tmp_path_factory.mktemp('exported') / 'photos'
    (root / 'ü b').mkdir(parents=True)
    scenes = zoo_root() / 'demo/data/JPEGImages'
    for name in NAMES[:2]:
        shutil.copy(scenes / f'{name}.jpg', root / f'{name}.jpg')
    shutil.copy(scenes / f'{NAMES[2]}.jpg', root / 'ü b' / f'{NAMES[0]}.jpg')
    (root / 'broken.jpg').write_bytes(b'no image')
    return root


def _run(inferencer, photos, name):
    root = photos.parent / name
    images = list_images(photos)
    options = {'classes': CLASSES, 'on_error': 'skip'}
    FolderRun(inferencer, images, root, 1, options).run()
    return root


@pytest.fixture(scope='session')
def tags(photos, demo_tagger):
    """A finished folder of tags."""
    return open_results(_run(demo_tagger, photos, 'tags'))


@pytest.fixture(scope='session')
def masks(photos, demo_segmentor):
    """A finished folder of masks."""
    return open_results(_run(demo_segmentor, photos, 'masks'))


@pytest.fixture(params=['tags', 'masks'])
def results(request):
    """Either of them."""
    return request.getfixturevalue(request.param)
