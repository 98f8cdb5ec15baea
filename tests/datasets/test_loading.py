import numpy as np
import pytest
from mmpretrain.datasets import PackInputs
from PIL import Image

from mmtagclip.datasets import LoadImage, ResizeToPatchGrid
from mmtagclip.images import PatchGrid, read_image
from tests.conftest import picture

EXIF_ORIENTATION = 0x0112


def save(path, values, mode=None, **options):
    Image.fromarray(values).convert(mode).save(path, **options)
    return path


def load(path, **options):
    return LoadImage(**options).transform({'img_path': str(path)})


# Bad files


def test_truncated_jpeg(tmp_path):
    path = save(tmp_path / 'half.jpg', picture(64, 64, 0))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r'half\.jpg is a damaged or truncated image'):
        read_image(path)


def test_truncated_png_header(tmp_path):
    # Pillow reports this one with a ValueError of its own, which names no file.
    path = save(tmp_path / 'header.png', picture(8, 8, 0))
    damaged = bytearray(path.read_bytes())
    damaged[11] = 5  # length of the IHDR chunk, instead of 13
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r'header\.png is a damaged or truncated image'):
        read_image(path)


@pytest.mark.filterwarnings('ignore::UserWarning')  # Pillow's, about the EXIF data
def test_every_kind_of_damage_is_a_value_error_that_names_the_file(tmp_path):
    whole = save(tmp_path / 'whole.jpg', picture(16, 16, 0), exif=orientation(6)).read_bytes()
    path = tmp_path / 'damaged.jpg'
    rng = np.random.default_rng(0)
    messages = []
    for _ in range(300):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[rng.integers(len(damaged), size=3)] = rng.integers(256, size=3)
        path.write_bytes(damaged.tobytes())
        try:
            read_image(path)
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 30
    assert all(str(path) in message for message in messages)


def test_empty_file(tmp_path):
    path = tmp_path / 'empty.jpg'
    path.touch()
    with pytest.raises(ValueError, match=r'empty\.jpg is an empty file'):
        read_image(path)


def test_not_an_image(tmp_path):
    path = tmp_path / 'notes.jpg'
    path.write_text('not a picture')
    with pytest.raises(ValueError, match=r'notes\.jpg is not an image of a supported format'):
        read_image(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no image at .*gone\.jpg'):
        read_image(tmp_path / 'gone.jpg')


def test_folder_instead_of_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='no image at'):
        read_image(tmp_path)


def test_very_wide_image(tmp_path):
    path = save(tmp_path / 'wide.png', np.full((2, 30000, 3), 7, np.uint8))
    with pytest.raises(ValueError, match=r'wide\.png is 30000x2 pixels.*max_side=16384'):
        load(path)
    assert load(path, max_side=30000)['img'].shape == (2, 30000, 3)


def test_max_pixels(tmp_path):
    path = save(tmp_path / 'large.png', picture(32, 32, 0))
    with pytest.raises(ValueError, match=r'large\.png is 32x32 pixels.*max_pixels=1023'):
        load(path, max_pixels=1023)


# Kinds of images


def test_bgr_and_shapes(tmp_path):
    values = picture(5, 7, 0)
    results = load(save(tmp_path / 'a.png', values))
    np.testing.assert_array_equal(results['img'], values[..., ::-1])
    assert results['img_shape'] == results['ori_shape'] == (5, 7)
    assert 'load_error' not in results


def test_one_pixel(tmp_path):
    path = save(tmp_path / 'dot.png', np.array([[[1, 2, 3]]], np.uint8))
    np.testing.assert_array_equal(read_image(path), [[[1, 2, 3]]])


def test_16_bit_grey_is_scaled(tmp_path):
    values = np.array([[0, 257, 385, 32896, 65535]], np.uint16)
    path = save(tmp_path / 'deep.png', values)
    with Image.open(path) as image:
        assert image.mode.startswith('I')
    np.testing.assert_array_equal(read_image(path)[..., 0], [[0, 1, 1, 128, 255]])
    assert read_image(path).shape == (1, 5, 3)


def test_greyscale(tmp_path):
    grey = picture(5, 7, 0)[..., 0]
    image = read_image(save(tmp_path / 'grey.png', grey))
    np.testing.assert_array_equal(image, np.repeat(grey[..., None], 3, axis=2))


def test_black_and_white(tmp_path):
    path = tmp_path / 'bits.png'
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert('1').save(path)
    np.testing.assert_array_equal(read_image(path)[0], [[0, 0, 0], [255, 255, 255]])


@pytest.fixture
def palette_image():
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), 'P')
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    return image


def test_palette(tmp_path, palette_image):
    palette_image.save(tmp_path / 'palette.png')
    np.testing.assert_array_equal(
        read_image(tmp_path / 'palette.png')[0], [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    )


def test_palette_with_transparency(tmp_path, palette_image):
    palette_image.save(tmp_path / 'palette.png', transparency=1)
    np.testing.assert_array_equal(
        read_image(tmp_path / 'palette.png')[0], [[255, 0, 0], [255, 255, 255], [0, 0, 255]]
    )


def test_cmyk_jpeg(tmp_path):
    red = np.broadcast_to(np.array([200, 30, 40], np.uint8), (16, 16, 3))
    path = save(tmp_path / 'print.jpg', red, mode='CMYK', quality=100)
    image = read_image(path)
    assert image.shape == (16, 16, 3)
    assert np.abs(image.astype(int) - red).max() <= 3


def test_rgba_on_white(tmp_path):
    values = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 51]]], np.uint8)
    np.testing.assert_array_equal(
        read_image(save(tmp_path / 'a.png', values))[0],
        [[10, 20, 30], [255, 255, 255], [204, 204, 204]],
    )


def test_grey_with_alpha_on_white(tmp_path):
    values = np.array([[[10, 255], [10, 0]]], np.uint8)
    path = tmp_path / 'la.png'
    Image.fromarray(values, 'LA').save(path)
    np.testing.assert_array_equal(read_image(path)[0], [[10, 10, 10], [255, 255, 255]])


def orientation(value):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = value
    return exif


@pytest.mark.parametrize('value, turns', [(1, 0), (6, -1), (3, 2), (8, 1)])
def test_exif_rotation(tmp_path, value, turns):
    values = picture(5, 7, 0)
    path = save(tmp_path / 'turned.png', values, exif=orientation(value))
    np.testing.assert_array_equal(read_image(path), np.rot90(values, turns))


# Skipping


def test_skipped_image_goes_through_the_pipeline(tmp_path):
    results = load(tmp_path / 'gone.jpg', on_error='skip')
    assert results['load_error'] == f'no image at {tmp_path / "gone.jpg"}'
    packed = PackInputs(meta_keys=('img_path', 'load_error')).transform(
        ResizeToPatchGrid().transform(results)
    )
    assert packed['data_samples'].load_error == results['load_error']
    assert packed['inputs'].shape == (3, 0, 0)


def test_skip_covers_images_that_are_too_large(tmp_path):
    path = save(tmp_path / 'a.png', picture(4, 20, 0))
    assert 'max_side=10' in load(path, max_side=10, on_error='skip')['load_error']


def test_unknown_on_error():
    with pytest.raises(ValueError, match="'raise' or 'skip', not 'ignore'"):
        LoadImage(on_error='ignore')


# ResizeToPatchGrid


def resize(height, width, **options):
    image = picture(height, width, 0)
    step = ResizeToPatchGrid(**{'patch_size': 16, **options})
    return step.transform({'img': image, 'img_path': 'a.png'})


@pytest.mark.parametrize('patch_size, expected', [(14, (56, 84)), (16, (64, 80)), (32, (64, 96))])
def test_grid_is_rounded_up(patch_size, expected):
    results = resize(50, 71, patch_size=patch_size)
    assert results['img'].shape[:2] == results['img_shape'] == expected
    assert results['scale_factor'] == (expected[1] / 71, expected[0] / 50)


def test_resize_is_pil_bicubic():
    image = Image.fromarray(picture(50, 71, 0)).resize((80, 64), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(resize(50, 71)['img'], np.asarray(image))


def test_resize_treats_the_channels_alike(tmp_path):
    path = save(tmp_path / 'a.png', picture(50, 71, 0))
    bgr = ResizeToPatchGrid(16).transform(load(path))['img']
    np.testing.assert_array_equal(bgr[..., ::-1], resize(50, 71)['img'])


def test_unchanged_where_it_fits():
    np.testing.assert_array_equal(resize(32, 48)['img'], picture(32, 48, 0))


def test_one_pixel_becomes_one_patch():
    results = resize(1, 1, patch_size=14)
    np.testing.assert_array_equal(results['img'], np.broadcast_to(picture(1, 1, 0), (14, 14, 3)))


def test_fixed_size():
    assert resize(50, 71, size=(224, 224))['img_shape'] == (224, 224)


@pytest.mark.parametrize(
    'height, width, expected',
    [
        (2000, 1000, (512, 256)),
        (100, 4000, (16, 512)),
        (1, 4000, (16, 512)),
        (512, 30, (512, 32)),
        (513, 30, (512, 32)),
        (130, 4000, (32, 512)),  # 16.64 pixels are 17
        (127, 4000, (16, 512)),  # and 16.256 are 16
        (1000, 33, (512, 32)),
    ],
)
def test_max_side_shrinks(height, width, expected):
    assert PatchGrid(max_side=512).target_size(height, width) == expected


def test_a_max_side_of_nothing_is_refused():
    with pytest.raises(ValueError, match='max_side must be at least 1, not 0'):
        ResizeToPatchGrid(max_side=0)
    assert ResizeToPatchGrid().grid == PatchGrid(16)  # the same limits
    assert PatchGrid(max_side=1).target_size(40, 20) == (16, 16)


def test_too_many_patches():
    with pytest.raises(
        ValueError,
        match=r'a\.png of 80x64 pixels makes 20 patches of 16, more '
        r'than max_patches=19; set max_side',
    ):
        resize(64, 80, max_patches=19)
    assert resize(64, 80, max_patches=20)['img_shape'] == (64, 80)
