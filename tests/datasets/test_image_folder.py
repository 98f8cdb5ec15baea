"""A folder of images as OpenMMLab's tools read it."""

import logging

import pytest
from mmengine.logging import MMLogger
from PIL import Image

from mmtagclip.datasets import ImageFolder
from tests.conftest import picture
from tests.processes import fresh_instances


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'deep').mkdir()
    for name in ('b.jpg', 'deep/a.GIF', 'deep/.hidden.png'):
        Image.fromarray(picture(8, 8, 0)).save(tmp_path / name)
    return tmp_path


def test_every_image_below_a_folder(folder):
    data = ImageFolder(data_prefix=str(folder))
    names = [data.get_data_info(index)['img_path'] for index in range(len(data))]
    assert names == [str(folder / name) for name in ('b.jpg', 'deep/.hidden.png', 'deep/a.GIF')]


def test_what_is_not_read_is_counted_in_the_log(folder, tmp_path_factory):
    for name in ('c.mov', 'deep/d.MOV', 'notes.txt', '.DS_Store'):
        (folder / name).write_bytes(b'x')
    log = tmp_path_factory.mktemp('log') / 'log.txt'
    with fresh_instances():
        MMLogger.get_instance('folder', log_file=str(log), log_level=logging.WARNING)
        ImageFolder(data_prefix=str(folder))
    assert 'files were not read: 2 .mov, 1 .txt' in log.read_text()


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'there is no folder .*gone'):
        ImageFolder(data_prefix=str(tmp_path / 'gone'))
    with pytest.raises(FileNotFoundError, match=r'no image in .*\(endings: \.jpg'):
        ImageFolder(data_prefix=str(tmp_path))
    (tmp_path / 'a.mov').write_bytes(b'x')
    with pytest.raises(FileNotFoundError, match=r'no image in .*\(1 file was not read: 1 \.mov\)'):
        ImageFolder(data_prefix=str(tmp_path))
