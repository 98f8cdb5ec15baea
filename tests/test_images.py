"""Images of every kind: each is read, or named in one sentence, within what it may cost."""

import io
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from mmtagclip import images
from mmtagclip.images import (
    FORMATS,
    MAX_SCANS,
    count_scans,
    image_size,
    jxl_size,
    missing_formats,
    read_image,
    read_index_mask,
    to_rgb,
    unread_sentence,
    upright,
)
from tests.conftest import picture

ORIENTATION, X_RESOLUTION, RESOLUTION_UNIT = 0x0112, 0x011A, 0x0128
# More, on demand: MMTAGCLIP_FUZZ=40000 pytest tests/test_images.py
FUZZ = int(os.environ.get('MMTAGCLIP_FUZZ', 2000))
OPTIONAL = {'avif': {'speed': 10}, 'heic': {}, 'jxl': {'lossless': True}}
SUFFIXES = {
    'jpg': {},
    'png': {},
    'webp': {},
    'tiff': {'compression': 'tiff_adobe_deflate'},
    'tif': {},
    'bmp': {},
    'gif': {},
    'ppm': {},
    'jp2': {},
    **{
        suffix: OPTIONAL[suffix]
        for suffix in OPTIONAL
        if not any(f'.{suffix}' in images.OPTIONAL[kind] for kind in missing_formats())
    },
}


def content(suffix: str, height: int = 24, width: int = 32, mode: str = 'RGB', **options) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(picture(height, width, 3)).convert(mode)
    image.save(buffer, Image.registered_extensions()[f'.{suffix}'], **options)
    return buffer.getvalue()


def exif(*entries: tuple[int, int, int, bytes], order: str = '<') -> bytes:
    """An EXIF entry of raw fields: tag, type, count, four bytes of value."""
    body = b''.join(
        struct.pack(f'{order}HHI', tag, kind, count) + value for tag, kind, count, value in entries
    )
    head = b'II*\0' if order == '<' else b'MM\0*'
    return b'Exif\0\0' + head + struct.pack(f'{order}IH', 8, len(entries)) + body + bytes(4)


def turned(value: int) -> tuple[int, int, int, bytes]:
    return ORIENTATION, 3, 1, struct.pack('<HH', value, 0)


def refusal(read, path) -> str | None:
    """The sentence of a refusal; any other error than a ValueError ends the test."""
    try:
        read(path)
    except ValueError as error:
        return str(error)
    return None


# EXIF


@pytest.mark.parametrize(
    'odd',
    [
        (X_RESOLUTION, 2, 1, b'7\0\0\0'),  # text in the place of a fraction
        (RESOLUTION_UNIT, 1, 1, b'\2\0\0\0'),  # a byte in the place of a short
        (X_RESOLUTION, 5, 1, b'\xff\xff\xff\x7f'),  # points behind the entry
        (0x8769, 4, 1, b'\x08\0\0\0'),  # an IFD that points at itself
        (0x9286, 7, 1 << 30, b'\0\0\0\0'),  # a count of a gigabyte
    ],
)
@pytest.mark.parametrize('place', ['before', 'behind'])
@pytest.mark.filterwarnings('ignore::UserWarning')
def test_an_odd_exif_entry_costs_nothing_but_itself(odd, place):
    plain = read_image(content('jpg'))
    entries = [odd, turned(6)] if place == 'before' else [turned(6), odd]
    data = content('jpg', exif=exif(*entries))
    np.testing.assert_array_equal(read_image(data), np.rot90(plain, -1))


@pytest.mark.parametrize('value', range(10))
def test_orientations_are_those_of_pillow(value, tmp_path):
    data = content('jpg', exif=exif(turned(value)))
    with Image.open(io.BytesIO(data)) as image:
        from PIL import ImageOps

        expected = np.asarray(ImageOps.exif_transpose(image))
    pixels = read_image(data)
    np.testing.assert_array_equal(pixels, expected)
    assert pixels.flags.c_contiguous
    path = tmp_path / 'a.jpg'
    path.write_bytes(data)
    assert image_size(path) == pixels.shape[:2]


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_fuzzed_exif_entries_never_damage_an_image():
    rng = np.random.default_rng(5)
    whole = exif(
        turned(6), (X_RESOLUTION, 5, 1, b'\x32\0\0\0'), (RESOLUTION_UNIT, 3, 1, b'\2\0\0\0')
    )
    plain = read_image(content('jpg'))
    for _ in range(FUZZ // 4):
        block = np.frombuffer(whole[6:], np.uint8).copy()
        places = rng.integers(len(block), size=rng.integers(1, 4))
        block[places] = rng.integers(256, size=len(places))
        pixels = read_image(content('jpg', exif=b'Exif\0\0' + block.tobytes()))
        assert sorted(pixels.shape) == sorted(plain.shape)
        assert pixels.sum() == plain.sum()


# Damage


@pytest.mark.parametrize('suffix', SUFFIXES)
@pytest.mark.filterwarnings('ignore')
def test_fuzzed_files_are_read_or_named(suffix, tmp_path):
    whole = content(suffix, **SUFFIXES[suffix])
    rng = np.random.default_rng(len(suffix))
    path = tmp_path / f'damaged.{suffix}'
    refused = 0
    for _ in range(FUZZ // len(SUFFIXES)):
        damaged = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(len(damaged), size=rng.integers(1, 9))
        if rng.random() < 0.3:
            places = places % min(len(damaged), 64)  # headers
        damaged[places] = rng.integers(256, size=len(places))
        cut = len(damaged) if rng.random() < 0.8 else int(rng.integers(len(damaged)))
        path.write_bytes(damaged[:cut].tobytes())
        for read in (read_image, image_size):
            message = refusal(read, path)
            assert message is None or (str(path) in message and '\n' not in message)
            refused += message is not None
    assert refused


def test_what_a_decoder_raises_names_the_file(tmp_path, monkeypatch):
    path = tmp_path / 'a.png'
    path.write_bytes(content('png'))
    for error, words in [
        (RuntimeError('Failed to decode frame 0'), 'damaged or truncated image: Failed to'),
        (MemoryError(), 'more memory to be decoded than'),
        (NotImplementedError('pixel format'), 'damaged or truncated image: pixel format'),
    ]:

        def load(self, error=error):
            raise error

        monkeypatch.setattr('PIL.ImageFile.ImageFile.load', load)
        with pytest.raises(ValueError, match=rf'a\.png .*{words}'):
            read_image(path)


# Kinds


def test_no_other_formats_are_opened(tmp_path):
    path = tmp_path / 'page.jpg'
    path.write_bytes(
        b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n%%EOF\n'
    )
    with pytest.raises(
        ValueError, match=r'page\.jpg is not an image of a supported format \(JPEG, PNG'
    ):
        read_image(path)
    assert not {'EPS', 'WMF', 'PSD', 'FITS', 'ICNS'} & set(FORMATS)


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_every_kind_is_read_from_files_and_from_bytes(suffix, tmp_path):
    data = content(suffix, **SUFFIXES[suffix])
    path = tmp_path / f'a.{suffix}'
    path.write_bytes(data)
    np.testing.assert_array_equal(read_image(path), read_image(data))
    assert image_size(path) == read_image(path).shape[:2] == (24, 32)


def needs(kind):
    return pytest.mark.skipif(
        kind in missing_formats(), reason=f'{kind} needs {missing_formats().get(kind)}'
    )


@needs('HEIF')
@pytest.mark.parametrize('value', [1, 3, 6, 8])
def test_a_heic_is_turned_once(value, tmp_path):
    """Its writer says in the image data how it is rotated, and so in EXIF."""
    plain = read_image(content('heic', quality=-1))
    path = tmp_path / 'a.heic'
    path.write_bytes(content('heic', quality=-1, exif=exif(turned(value))))
    turns = {1: 0, 3: 2, 6: -1, 8: 1}[value]
    np.testing.assert_array_equal(read_image(path), np.rot90(plain, turns))
    assert image_size(path) == read_image(path).shape[:2]


@needs('JXL')
@pytest.mark.parametrize('container', [False, True])
@pytest.mark.parametrize(
    'size', [(1, 1), (8, 8), (24, 32), (37, 23), (8, 4000), (600, 800), (64, 128), (100, 120)]
)
def test_the_size_in_the_header_of_a_jpeg_xl(size, container):
    options = {'exif': exif(turned(6))} if container else {}
    data = content('jxl', *size, lossless=True, use_container=container, effort=1, **options)
    assert data.startswith(b'\0\0\0\x0cJXL') == container
    assert jxl_size(data) == size[::-1]
    # EXIF does not count in a JPEG XL.
    np.testing.assert_array_equal(read_image(data), picture(*size, 3))


@needs('JXL')
def test_a_long_box_of_a_jpeg_xl():
    """A box of length 1 has its length after its name; a box of length 0 reaches the end."""
    data = content('jxl', 24, 32, effort=1)
    padding = (1).to_bytes(4, 'big') + b'free' + (16 + 300).to_bytes(8, 'big') + bytes(300)
    code = (16 + len(data)).to_bytes(8, 'big') + data
    boxes = [
        (8 + len(data)).to_bytes(4, 'big') + b'jxlc' + data,
        (1).to_bytes(4, 'big') + b'jxlc' + code,
        (12 + len(data)).to_bytes(4, 'big') + b'jxlp' + bytes(4) + data,
        bytes(4) + b'jxlc' + data,
    ]
    for box in boxes:
        assert jxl_size(images.JXL_CONTAINER + padding + box) == (32, 24)


def test_ratios_in_the_header_of_a_jpeg_xl():
    """Small images of one of seven ratios have no width: 240 pixels are 29 + 1 times eight."""
    sizes = [
        jxl_size(images.JXL_START + (1 | 29 << 1 | ratio << 6).to_bytes(12, 'little'))
        for ratio in range(1, 8)
    ]
    assert sizes == [(w, 240) for w in (240, 288, 320, 360, 426, 300, 480)]


@needs('JXL')
def test_a_jpeg_in_a_jpeg_xl_is_turned_as_it_was(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(content('jpg', exif=exif(turned(6))))
    with Image.open(tmp_path / 'a.jpg') as image:
        image.save(tmp_path / 'a.jxl', lossless_jpeg=True)
    np.testing.assert_array_equal(read_image(tmp_path / 'a.jxl'), read_image(tmp_path / 'a.jpg'))
    assert image_size(tmp_path / 'a.jxl') == (32, 24)


@needs('JXL')
def test_a_large_jpeg_xl_is_refused_before_it_is_decoded(monkeypatch):
    data = content('jxl', 20, 30, effort=1)
    monkeypatch.setattr('pillow_jxl.JpegXLImagePlugin.Decoder', lambda **_: pytest.fail('decoded'))
    with pytest.raises(ValueError, match=r'a\.jxl is 30x20 pixels, over the limit of max_pixels'):
        read_image(data, max_pixels=599, name='a.jxl')
    with pytest.raises(ValueError, match=r'a\.jxl is 30x20 pixels, over the limit of max_side'):
        read_image(data, max_side=29, name='a.jxl')
    for damaged in (data[:2], data[:2] + data[:2], images.JXL_CONTAINER + bytes(40)):
        with pytest.raises(ValueError, match=r'b\.jxl is a damaged or truncated image'):
            read_image(damaged, name='b.jxl')


@needs('HEIF')
def test_a_heic_whose_pixels_are_not_those_of_its_header_is_refused():
    data = content('heic')
    place = data.index(b'clap') + 21  # where the image lies in that of the encoder
    with pytest.raises(ValueError, match=r'a\.heic is a damaged .*header promises \(32, 24\)'):
        read_image(data[:place] + b'\0' + data[place + 1 :], name='a.heic')


@pytest.mark.parametrize(
    'kind, suffix, head, message',
    [
        ('HEIF', 'heic', b'\0\0\0\x1cftypheic', r"pip install -e '\.\[heic\]' in your clone"),
        ('JXL', 'jxl', b'\xff\x0a', r"pip install -e '\.\[jxl\]' in your clone"),
        ('AVIF', 'avif', b'\0\0\0\x1cftypavif', 'pip install -U pillow; Pillow 11'),
        ('JPEG2000', 'jp2', None, 'this Pillow was built without JPEG2000'),
    ],
)
def test_what_an_installation_lacks_is_said(kind, suffix, head, message, monkeypatch, tmp_path):
    monkeypatch.setattr(images, 'import_module', lambda name: (_ for _ in ()).throw(ImportError))
    monkeypatch.setattr(images.features, 'check', lambda feature: False)
    missing_formats.cache_clear()
    try:
        if head is not None:
            with pytest.raises(
                ValueError, match=rf'x is a {kind} image, .*not read here: {message}'
            ):
                read_image(head + bytes(30), name='x')
        for name in (f'a.{suffix}', f'b.{suffix.upper()}', 'c.mov', 'd', '.hidden', 'e.png'):
            (tmp_path / name).write_bytes(b'x')
        found, others = images.split_files(tmp_path.iterdir())
        assert [path.name for path in found] == ['e.png']
        sentence = unread_sentence(others)
    finally:
        missing_formats.cache_clear()
    assert sentence.startswith(f'4 files were not read: 2 .{suffix} (')
    assert sentence.endswith('), 1 .mov, 1 without an ending')
    assert unread_sentence([tmp_path / 'a.mov']) == '1 file was not read: 1 .mov'


def test_bytes_are_called_by_their_name():
    with pytest.raises(ValueError, match=r'^b\.jpg is an empty file'):
        read_image(b'', name='b.jpg')
    with pytest.raises(ValueError, match=r'^the image is not an image of a supported format'):
        read_image(b'x' * 100)


@pytest.mark.parametrize('top', [1, 255, 65535])
def test_floating_point_values_are_scaled(top, tmp_path):
    values = np.array([[0, 0.25, 0.5, 1]], np.float32) * top
    Image.fromarray(values).save(tmp_path / 'a.tif')
    np.testing.assert_array_equal(read_image(tmp_path / 'a.tif')[0, :, 0], [0, 64, 128, 255])


@pytest.mark.parametrize(
    'values, message',
    [
        ([[-1.0, 2.0]], 'floating-point values from -1.0 to 2.0'),
        ([[0.0, 1e6]], r'floating-point values from 0.0 to 1000000.0'),
        ([[0.0, np.inf]], 'floating-point values from 0.0 to inf'),
        ([[0.5, np.nan]], 'not finite'),
    ],
)
def test_floating_point_values_that_no_picture_has(values, message, tmp_path):
    Image.fromarray(np.array(values, np.float32)).save(tmp_path / 'a.tif')
    with pytest.raises(ValueError, match=rf'a\.tif has .*{message}'):
        read_image(tmp_path / 'a.tif')


def test_12_bits_in_16_are_refused(tmp_path):
    Image.fromarray(np.array([[0, 4095]], np.uint16)).save(tmp_path / 'a.png')
    with pytest.raises(
        ValueError, match=r'a\.png has 16-bit values, but only up to 4095: .*12 bits'
    ):
        read_image(tmp_path / 'a.png')
    Image.fromarray(np.array([[0, 4096]], np.uint16)).save(tmp_path / 'a.png')
    np.testing.assert_array_equal(read_image(tmp_path / 'a.png')[0, :, 0], [0, 16])
    Image.fromarray(np.zeros((1, 2), np.uint16)).save(tmp_path / 'a.png')
    assert not read_image(tmp_path / 'a.png').any()


def test_32_bits_are_refused(tmp_path):
    Image.fromarray(np.array([[0, 1 << 20]], np.int32)).save(tmp_path / 'a.tif')
    with pytest.raises(ValueError, match=r'a\.tif has values from 0 to 1048576, which is neither'):
        read_image(tmp_path / 'a.tif')
    Image.fromarray(np.array([[-1, 5]], np.int32)).save(tmp_path / 'a.tif')
    with pytest.raises(ValueError, match=r'a\.tif has values from -1 to 5, which is neither'):
        read_image(tmp_path / 'a.tif')


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'P', 'CMYK', 'L', '1', 'YCbCr', 'RGB'])
def test_strips_are_the_whole_image(mode, monkeypatch):
    image = Image.fromarray(picture(37, 23, 1)).convert(mode)
    if mode == 'P':
        image.info['transparency'] = 3
    if mode in ('RGBA', 'LA'):
        image.putalpha(Image.fromarray(picture(37, 23, 2)[..., 0]))
    whole = to_rgb(image)
    monkeypatch.setattr('mmtagclip.images.STRIP_PIXELS', 60)
    np.testing.assert_array_equal(to_rgb(image), whole)
    if mode in ('CMYK', 'L', '1', 'YCbCr', 'RGB'):
        np.testing.assert_array_equal(whole, np.asarray(image.convert('RGB')))


def test_a_tiff_is_turned_once(tmp_path):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[ORIENTATION] = 6
    values = picture(5, 7, 0)
    Image.fromarray(values).save(tmp_path / 'a.tif', tiffinfo=info)
    np.testing.assert_array_equal(read_image(tmp_path / 'a.tif'), np.rot90(values, -1))
    assert image_size(tmp_path / 'a.tif') == (7, 5)


def test_an_image_in_memory_is_turned_too():
    with Image.open(io.BytesIO(content('jpg', exif=exif(turned(8))))) as image:
        assert upright(image).shape == (32, 24, 3)


# What a file may cost


def test_more_pixels_than_the_limit(tmp_path):
    path = tmp_path / 'a.png'
    path.write_bytes(content('png', 20, 30))
    assert read_image(path, max_pixels=600).shape == (20, 30, 3)
    with pytest.raises(
        ValueError, match=r'a\.png is 30x20 pixels, over the limit of max_pixels=599'
    ):
        read_image(path, max_pixels=599)


def test_the_longest_side_that_is_read():
    assert read_image(content('png', 1, 16384)).shape == (1, 16384, 3)
    with pytest.raises(ValueError, match=r'16385x1 pixels, over the limit of max_side=16384'):
        read_image(content('png', 1, 16385))


def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    data = bytearray(content('png', 4, 4))
    data[16:24] = struct.pack('>II', 16000, 16000)
    import zlib

    data[29:33] = struct.pack('>I', zlib.crc32(data[12:29]))
    monkeypatch.setattr('PIL.ImageFile.ImageFile.load', lambda self: pytest.fail('decoded'))
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ValueError, match=r'huge is (too large|16000x16000 pixels)'):
        read_image(bytes(data), name='huge')
    assert before == Image.MAX_IMAGE_PIXELS


def scans(number: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    data = content('jpg', 64, 64, progressive=True)
    start = data.rindex(b'\xff\xda')
    last = data[start:-2]
    return data[:-2] + last * (number - count_scans(data)) + data[-2:]


def test_scans_are_counted():
    data = content('jpg', 64, 64, progressive=True)
    assert count_scans(data) == data.count(b'\xff\xda') > 3
    assert count_scans(content('jpg')) == 1
    thumbnail = content('jpg', 8, 8)
    with_thumbnail = content('jpg', progressive=True, exif=exif(turned(1)) + thumbnail)
    assert count_scans(with_thumbnail) == with_thumbnail.count(b'\xff\xda') - 1


def test_a_jpeg_of_many_scans_is_refused():
    assert read_image(scans(MAX_SCANS)).shape == (64, 64, 3)
    with pytest.raises(ValueError, match=rf'a\.jpg is a JPEG of {MAX_SCANS + 1} scans, over'):
        read_image(scans(MAX_SCANS + 1), name='a.jpg')


MEMORY = """
import resource, sys
from mmtagclip.images import read_image
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
for path in sys.argv[1::2]:
    read_image(path)
before = peak()
for path in sys.argv[2::2]:
    pixels = read_image(path)
    print((peak() - before) / (pixels.size / 3))
"""


def test_at_most_12_bytes_a_pixel(tmp_path):
    rgb = Image.fromarray(np.full((1800, 1800, 3), 200, np.uint8))
    grey = Image.fromarray(np.full((1800, 1800), 9000, np.uint16))
    kinds = [
        ('a.png', rgb.convert('RGBA'), {}),
        ('b.png', grey, {}),
        ('c.jpg', rgb.convert('CMYK'), {'exif': exif(turned(6))}),
        ('d.png', rgb, {}),
        *(
            (f'e.{suffix}', rgb, {'effort': 1} if suffix == 'jxl' else SUFFIXES[suffix])
            for suffix in ('webp', 'avif', 'heic', 'jxl')
            if suffix in SUFFIXES
        ),
    ]
    paths = []
    for name, image, options in kinds:  # a small one of the kind, whose decoder is loaded by it
        for size in (8, 1800):
            paths.append(tmp_path / f'{size}-{name}')
            image.crop((0, 0, size, size)).save(paths[-1], **options)
    lines = subprocess.run(
        [sys.executable, '-c', MEMORY, *paths],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
    ).stdout.split()
    assert len(lines) == len(kinds)
    assert all(float(line) <= 12 for line in lines), lines


# Masks


def test_a_damaged_mask_is_named(tmp_path):
    path = tmp_path / 'mask.png'
    path.write_bytes(content('png', mode='L')[:60])
    with pytest.raises(ValueError, match=r'mask\.png is a damaged or truncated image'):
        read_index_mask(path)
    with pytest.raises(FileNotFoundError, match=r'no image at .*gone\.png'):
        read_index_mask(tmp_path / 'gone.png')


@pytest.mark.parametrize(
    ('names', 'different'),
    [
        ('a b a a', 'a b a-2 a-3'),
        ('a a a-2', 'a a-3 a-2'),
        ('a-2 a-2 a a', 'a-2 a-2-2 a a-3'),
        ('a a a a-2 a-4', 'a a-3 a-5 a-2 a-4'),
    ],
)
def test_names_that_occur_again_get_a_number_that_is_free(names, different):
    assert images.all_different(names.split()) == different.split()
