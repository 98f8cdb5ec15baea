"""What each format writes: it is compared with what was last looked at.

After an intended change: run ``python -m tests.exports.test_written``, look at what it changes in
``written.json``, and commit that.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import pandas
import pytest
from PIL import Image

from mmtagclip.exports import Format, Options, Results, formats, open_results
from mmtagclip.exports.regions import class_regions, run_lengths
from mmtagclip.version import __version__

FILE = Path(__file__).parent / 'written.json'
PHOTOS = {'a b.png': (12, 9), 'c.png': (5, 4)}
NAMES = ['dog', 'traffic light', 'a & "b"']
CASES = [
    (name, kind, shapes)
    for name, form in formats().items()
    for kind in form.kinds
    for shapes in (form.shapes if kind == 'masks' and form.shapes else (None,))
]


def lines(kind):
    """Three images: two classes in one, one of them in two parts; none; and an unreadable one."""
    mask = np.zeros((9, 12), np.uint8)
    mask[1:4, 2:7], mask[5:9, 1:3], mask[6, 8:11] = 1, 1, 3
    first = {
        'image': 'a b.png',
        'size': [9, 12],
        'tags': ['dog', NAMES[2]],
        'scores': [0.75, 0.5],
        'class_scores': dict(zip(NAMES, [0.75, 0.25, 0.5], strict=True)),
    }
    empty = {'image': 'c.png', 'size': [4, 5], 'tags': [], 'scores': []}
    empty['class_scores'] = dict.fromkeys(NAMES, 0.125)
    if kind == 'masks':
        first['masks'] = [
            {'tag': NAMES[region.label - 1], 'segmentation': run_lengths(region, mask.shape)}
            for region in class_regions(mask, 0)
        ]
        empty['masks'] = []
    return [first, empty, {'image': 'd.png', 'error': 'd.png is damaged'}]


def content(path, folder):
    """A file as JSON holds it, without the names that differ each time."""
    if path.suffix == '.png':
        image = Image.open(path)
        rows = [' '.join(map(str, row)) for row in np.asarray(image).tolist()]
        return [image.mode, str((image.getpalette() or [])[:15]), *rows]
    if path.suffix == '.parquet':
        return json.loads(pandas.read_parquet(path).to_json(orient='records'))
    text = path.read_text(encoding='utf-8').replace(__version__, 'VERSION')
    return text.replace(str(folder), 'FOLDER').splitlines()


def written(name, kind, shapes, folder):
    """All files that a format makes of results beside their images, by path."""
    photos, out = folder / 'photos', folder / 'out'
    for path in (photos, out):
        path.mkdir(parents=True)
    for image, size in PHOTOS.items():
        Image.new('RGB', size).save(photos / image)
    results = folder / 'results.jsonl'
    results.write_text(''.join(json.dumps(line) + '\n' for line in lines(kind)))
    form: Format = formats()[name]
    options = Options(shapes=shapes, copy=True)
    opened: Results = open_results(results, root=photos)
    target = out / f'a{form.suffix}' if form.suffix else out / 'folder'
    form.check(kind, target, options)
    form.write(opened, target, options)
    files = sorted(file for place in (out, photos) for file in place.rglob('*') if file.is_file())
    return {
        str(file.relative_to(folder)): content(file, folder)
        for file in files
        if file.suffix == '.xmp' or (file.parent != photos and file.name not in PHOTOS)
    }


@pytest.mark.parametrize(('name', 'kind', 'shapes'), CASES)
def test_files_hold_what_they_held(name, kind, shapes, tmp_path):
    known = json.loads(FILE.read_text(encoding='utf-8'))
    assert (
        json.loads(json.dumps(written(name, kind, shapes, tmp_path)))
        == known[f'{name} of {kind} as {shapes}']
    )


if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as folder:
        found = {
            f'{name} of {kind} as {shapes}': written(name, kind, shapes, Path(folder) / str(number))
            for number, (name, kind, shapes) in enumerate(CASES)
        }
    text = json.dumps(found, indent=1, ensure_ascii=False)
    FILE.write_text(text + '\n', encoding='utf-8')
