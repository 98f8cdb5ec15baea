"""Everything that users hand over becomes a list of images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmtagclip.apis import list_images
from tests.conftest import picture


def names(inputs):
    return [Path(image.name).name for image in list_images(inputs, unread=[])]


def test_paths_folders_and_patterns(photos):
    assert names(photos / 'b.jpg') == ['b.jpg']
    assert names(str(photos)) == ['a.JPG', 'b.jpg', 'c.jpg']
    assert names(f'{photos}/*') == ['a.JPG', 'b.jpg']
    assert names(f'{photos}/**/*.jpg') == ['b.jpg', 'c.jpg']
    assert names([photos / 'b.jpg', str(photos)]) == ['b.jpg', 'a.JPG', 'b.jpg', 'c.jpg']
    assert names(path for path in [photos / 'more']) == ['c.jpg']


def test_files_that_are_not_read_are_counted(photos):
    with pytest.warns(UserWarning, match=r'^1 file was not read: 1 \.txt$'):
        list_images(photos)
    for name in ('IMG_1.MOV', 'more/IMG_2.mov', 'IMG_1.AAE', '.DS_Store', 'more/Makefile'):
        (photos / name).write_bytes(b'x')
    with pytest.warns(
        UserWarning, match=r'^5 files .*: 2 \.mov, 1 \.aae, 1 \.txt, 1 without an ending$'
    ):
        list_images([photos / 'b.jpg', photos])
    unread = []
    list_images([f'{photos}/*', photos / 'more'], unread)
    assert [path.name for path in unread] == [
        'IMG_1.AAE', 'IMG_1.MOV', 'notes.txt', 'IMG_2.mov', 'Makefile'
    ]  # fmt: skip
    for image in ('a.JPG', 'b.jpg', 'more/c.jpg'):
        (photos / image).unlink()
    with pytest.raises(FileNotFoundError, match=r'no image in .*5 files were not read: 2 \.mov'):
        list_images(photos)


def test_a_file_whose_name_looks_like_a_pattern(tmp_path):
    path = tmp_path / 'a[1].png'
    Image.fromarray(picture(8, 8, 0)).save(path)
    assert [image.name for image in list_images(path)] == [str(path)]


def test_images_in_memory_are_read_as_files_are(tmp_path):
    pixels = picture(20, 30, 1)
    path = tmp_path / 'a.png'
    Image.fromarray(pixels).save(path)
    images = list_images(
        [
            pixels,
            Image.fromarray(pixels),
            path,
            pixels[..., 0],
            np.dstack([pixels, np.full((20, 30), 255, np.uint8)]),
        ]
    )
    assert [image.name for image in images[:2]] == ['image-0', 'image-1']
    for image in (*images[:3], images[4]):
        assert np.array_equal(image.read(), pixels)
    assert np.array_equal(images[3].read(), np.dstack([pixels[..., 0]] * 3))


def test_pil_images_are_turned_upright():
    image = Image.fromarray(picture(20, 30, 1))
    image.getexif()[0x0112] = 6
    assert list_images(image)[0].read().shape == (30, 20, 3)


def test_what_is_no_image_is_refused(tmp_path, photos):
    (tmp_path / 'nothing').mkdir()
    with pytest.raises(FileNotFoundError, match=r'no image in .*nothing.*endings: \.jpg'):
        list_images(tmp_path / 'nothing')
    with pytest.raises(FileNotFoundError, match='no image in'):
        list_images(f'{photos}/*.gif')
    with pytest.raises(TypeError, match='must be uint8 in'):
        list_images(np.zeros((4, 4, 3)))
    with pytest.raises(TypeError, match='not int'):
        list_images([3])
    with pytest.raises(ValueError, match='nothing is downloaded'):
        list_images('https://example.org/a.jpg')
    (image,) = list_images(tmp_path / 'gone.jpg')
    with pytest.raises(FileNotFoundError, match=r'gone\.jpg'):
        image.read()
    for shape in ((4, 4, 2), (4,), (0, 4, 3)):
        (image,) = list_images(np.zeros(shape, np.uint8))
        with pytest.raises(ValueError, match=r'image-0: an image is an array'):
            image.read()
