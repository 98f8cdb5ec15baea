"""Entries found by the path or the name of their image."""

import pytest

from mmtagclip.datasets.image_index import ImageIndex


def index(*images):
    return ImageIndex('tags.txt', ((image, image) for image in images))


@pytest.mark.parametrize(
    'images, path, found',
    [
        (['2007.000032'], 'JPEGImages/2007.000032.jpg', '2007.000032'),
        (
            ['img_jpg.rf.0a1b2c', 'img_jpg.rf.0a1b2d'],
            'x/img_jpg.rf.0a1b2c.jpg',
            'img_jpg.rf.0a1b2c',
        ),
        (['a.b', 'a.c'], 'a.c.png', 'a.c'),
        (['old/a.jpg'], '/new/a.jpg', 'old/a.jpg'),
        (['train/a.jpg', 'val/a.jpg'], '/data/val/a.jpg', 'val/a.jpg'),
        (['train/a.jpg', 'val/a.jpg'], 'train/a.jpg', 'train/a.jpg'),
        (['a.jpg', 'a.png'], 'x/a.png', 'a.png'),
        (['x/a.jpg', 'y/a.png'], 'z/a.png', 'y/a.png'),
        (['a.JPG', 'b'], 'a.jpg', 'a.JPG'),
        (['a.jpg', 'x/a.jpg', 'y/x/a.jpg'], '/z/x/a.jpg', 'x/a.jpg'),
        (['a', 'x/a'], '/z/x/a.jpg', 'x/a'),
        (['x/a', 'y/a'], '/z/y/a.jpg', 'y/a'),
    ],
)
def test_an_image_is_found(images, path, found):
    assert index(*images).find(path) == found


@pytest.mark.parametrize(
    'images, path, number',
    [
        (['2007'], '2007.000032.jpg', 'no image'),
        (['train/a.jpg', 'val/a.jpg'], 'test/a.jpg', '2 images'),
        (['x/a.jpg', 'y/a.png'], 'z/a.gif', '2 images'),
        ([], 'a.jpg', 'no image'),
    ],
)
def test_an_image_that_is_not_one_alone(images, path, number):
    with pytest.raises(ValueError, match=rf'tags\.txt has {number} with the name of {path}'):
        index(*images).find(path)
