"""What data sets and segmentors say of their labels."""

import pytest

from mmtagclip.labels import IGNORED, labels_metainfo


@pytest.mark.parametrize('with_background', [True, False])
def test_names_and_colours_are_voc_s(with_background):
    names = [f'class {number}' for number in range(1, 256 - with_background)]
    meta = labels_metainfo(names, with_background)
    background = ('background',) if with_background else ()
    assert meta['classes'] == (*background, *names)
    colours = [tuple(colour) for colour in meta['palette']][with_background:]
    # The bits of a label, three by three, from the highest bit of red, green and blue down.
    for label, colour in enumerate(colours, 1):
        bits = [label >> shift & 1 for shift in range(9)]
        assert colour == tuple(
            128 * bits[channel] + 64 * bits[channel + 3] + 32 * bits[channel + 6]
            for channel in range(3)
        )
    assert colours[:3] == [(128, 0, 0), (0, 128, 0), (128, 128, 0)]
    assert len({(0, 0, 0), *colours}) == len(colours) + 1
    if with_background:
        assert meta['palette'][0] == [0, 0, 0]


def test_the_background_is_named_once():
    with pytest.raises(ValueError, match="'background' is label 0 already"):
        labels_metainfo(['dog', 'background'], with_background=True)
    assert labels_metainfo(['background'], with_background=False)['classes'] == ('background',)


def test_the_value_of_no_label_is_no_label():
    assert IGNORED == 255
