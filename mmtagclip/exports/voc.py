"""VOC's layout of masks: what CVAT calls "Segmentation mask 1.1"."""

from pathlib import Path

from ..labels import mask_png
from ..records import encode_line
from . import Format, Options
from .folders import Folder
from .results import Results, plain


def write(results: Results, out: Path, options: Options) -> None:
    """Write ``SegmentationClass/STEM.png`` with a palette, ``labelmap.txt`` and the list of images.

    ``labelmap.txt`` has the colour of each label, ``classes.txt`` one name per line in the order of
    the labels.

    Raises:
        ValueError: ``labelmap.txt`` can't hold a class name.
    """
    for name in results.labels:
        if ':' in name or name.startswith('#'):
            raise ValueError(
                f"VOC's labelmap.txt can not hold the class name {name!r}: it has a colon, or # in "
                'front'
            )
    folder = Folder(out, options)
    stems = []
    for entry in results:
        if entry.mask is not None:
            content = mask_png(entry.mask, results.palette)
            stems.append(plain(entry.stem))
            folder.write(f'SegmentationClass/{stems[-1]}.png', content)
    folder.write('ImageSets/Segmentation/default.txt', *map(encode_line, stems))
    folder.write('classes.txt', *map(encode_line, results.labels))
    colours = [
        f'{name}:{",".join(map(str, colour))}::'
        for name, colour in zip(results.labels, results.palette, strict=True)
    ]
    folder.write('labelmap.txt', *map(encode_line, ['# label:color_rgb:parts:actions', *colours]))
    folder.close()


FORMAT = Format(
    'voc', "palette masks in VOC's layout, for CVAT and others", write, kinds=('masks',)
)
