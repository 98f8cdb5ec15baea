"""Everything that users hand over becomes a list of images."""

import io
import os
import threading
from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mmtagclip.apis import list_images
from mmtagclip.apis.inputs import read_ahead
from mmtagclip.cli.common import images_beside
from mmtagclip.images import ImageTooLarge, images_below, unread_sentence
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
    list_images([f'{photos}/*', photos / 'more'], unread=unread)
    assert [path.name for path in unread] == [
        'IMG_1.AAE', 'IMG_1.MOV', 'notes.txt', 'IMG_2.mov', 'Makefile'
    ]  # fmt: skip
    for image in ('a.JPG', 'b.jpg', 'more/c.jpg'):
        (photos / image).unlink()
    with pytest.raises(FileNotFoundError, match=r'no image in .*5 files were not read: 2 \.mov'):
        list_images(photos)


def test_links_and_closed_folders_are_not_left_out_silently(photos, monkeypatch):
    (photos / 'linked').symlink_to(photos / 'more')
    (photos / 'dead.jpg').symlink_to(photos / 'gone.jpg')
    (photos / 'circle.jpg').symlink_to(photos / 'circle.jpg')
    (photos / 'closed').mkdir()
    scan = os.scandir

    def closed(folder):
        if Path(folder).name == 'closed':
            raise PermissionError(13, 'Permission denied', folder)
        return scan(folder)

    monkeypatch.setattr(os, 'scandir', closed)
    unread = []
    assert len(list_images(photos, unread=unread)) == 3
    assert unread_sentence(unread) == (
        '5 files were not read: 2 dead links, 1 .txt, 1 closed folder (there is no permission), '
        '1 linked folder (links are not followed: give the folder itself, too)'
    )
    assert images_below(photos)[1] == unread
    args = Namespace(images=[str(photos)])
    assert images_beside(args, photos / 'notes.txt')[1] == [
        path for path in unread if path.name != 'notes.txt'
    ]
    with pytest.warns(UserWarning, match=r'2 dead links, 1 \.txt$'):  # patterns do follow links
        assert len(list_images(f'{photos}/**')) == 4


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


def test_bytes_files_and_tensors_are_images(tmp_path):
    pixels = picture(20, 30, 1)
    path = tmp_path / 'a.png'
    Image.fromarray(pixels).save(path)
    content = path.read_bytes()
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    with path.open('rb') as file:
        file.read(5)  # the whole file counts, wherever it was read to
        images = list_images(
            [file, content, bytearray(content), io.BytesIO(content), tensor, tensor / 255,
             (tensor / 255).half(), torch.stack([tensor, tensor])]
        )  # fmt: skip
    assert [image.name for image in images] == [str(path), *(f'image-{n}' for n in range(1, 9))]
    for image in images:
        assert np.array_equal(image.read(), pixels)
    with os.scandir(tmp_path) as entries:
        assert [image.name for image in list_images(entries)] == [str(path)]


def test_opencv_s_order_of_channels(tmp_path):
    pixels = picture(20, 30, 1)
    path = tmp_path / 'a.png'
    Image.fromarray(pixels).save(path)
    bgr = cv2.imread(str(path))
    bgra = np.dstack([bgr, np.full((20, 30), 255, np.uint8)])
    tensor = torch.from_numpy(bgr).permute(2, 0, 1)
    inputs = [bgr, bgra, tensor, path, Image.fromarray(pixels), path.read_bytes()]
    for image in list_images(inputs, 'bgr'):
        assert np.array_equal(image.read(), pixels)
    assert not np.array_equal(list_images(bgr)[0].read(), pixels)
    assert list_images(bgr[..., 0], 'bgr')[0].read().shape == (20, 30, 3)
    with pytest.raises(ValueError, match="channel_order must be 'rgb' or 'bgr', not 'BGR'"):
        list_images(bgr, 'BGR')


def test_images_in_memory_have_the_limits_and_messages_of_files(tmp_path):
    pixels = picture(20, 30, 1)
    path = tmp_path / 'a.png'
    Image.fromarray(pixels).save(path)
    content = path.read_bytes()
    cut = Image.open(io.BytesIO(content[:-200]))
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for inputs in (path, content, pixels, Image.open(path), tensor):
        (image,) = list_images(inputs)
        with pytest.raises(ImageTooLarge, match=r'30x20 pixels, over the limit of max_side=29'):
            image.read(29)
        assert image.read(30).shape == (20, 30, 3)
    for inputs in (content[:-200], cut):
        (image,) = list_images(inputs)
        with pytest.raises(ValueError, match='image-0 is a damaged or truncated image'):
            image.read()
    with pytest.raises(ValueError, match='image-0 is an empty file'):
        list_images(b'')[0].read()
    with pytest.raises(ValueError, match='image-0 is not an image of a supported format'):
        list_images(io.BytesIO(b'no image'))[0].read()


@pytest.mark.parametrize(
    'tensor, error, message',
    [
        (torch.zeros(20, 30, 3), ValueError, r'a tensor \(3, H, W\) or .*, not \(20, 30, 3\)'),
        (torch.zeros(3, 0, 4), ValueError, r'not \(3, 0, 4\)'),
        (torch.zeros(3), ValueError, r'not \(3,\)'),
        (torch.full((3, 4, 4), 1.5), ValueError, r'in \[0, 1\].*values are from 1\.5 to 1\.5'),
        (torch.full((3, 4, 4), -0.1), ValueError, r'in \[0, 1\]'),
        (torch.full((3, 4, 4), torch.nan), ValueError, r'in \[0, 1\]'),
        (torch.zeros(3, 4, 4, dtype=torch.int64), TypeError, r'not torch\.int64'),
    ],
)
def test_other_tensors_are_refused(tensor, error, message):
    with pytest.raises(error, match=message):
        list_images([tensor])


def test_a_file_that_is_open_as_text_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"binary mode: open\(path, 'rb'\)"):
        list_images(io.StringIO('text'))


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


def test_one_batch_of_files_is_read_while_the_caller_works(tmp_path):
    for index in range(7):
        Image.fromarray(picture(4, 4 + index, index)).save(tmp_path / f'{index}.png')
    images = list_images(tmp_path)
    loaded, ahead = [], threading.Semaphore(0)

    def load(image):
        loaded.append(image)
        ahead.release()
        return image.read().shape[1]

    batches = read_ahead(images, 2, load)
    assert not loaded
    assert next(batches) == [4, 5]
    for _ in range(4):
        assert ahead.acquire(timeout=60)
    assert loaded == images[:4]
    assert next(batches) == [6, 7]
    batches.close()
    count = len(loaded)
    assert count <= 6
    assert list(read_ahead(images, 3, load)) == [[4, 5, 6], [7, 8, 9], [10]]
    assert loaded[count:] == images
    assert list(read_ahead([], 2, load)) == []


def test_images_in_memory_are_read_when_they_are_asked_for(photos):
    pixels = picture(4, 5, 0)
    batches = read_ahead(list_images([photos / 'b.jpg', pixels]), 1, lambda image: image.read())
    next(batches)
    pixels[:] = 7
    assert (next(batches)[0] == 7).all()
