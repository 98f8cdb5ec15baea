"""Each format, read by the tool that it is for, or by another reader of it."""

import csv
import json
import os
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas
import pyarrow.parquet
import pyexiv2
import pytest
import supervision
import yaml
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mmtagclip.datasets.own_labels import read_tags
from mmtagclip.exports import Options, formats, formats_of_runs, open_results
from mmtagclip.exports.label_studio import encode_brush
from mmtagclip.exports.regions import class_regions, connected_regions
from mmtagclip.exports.xmp import with_keywords
from mmtagclip.label_config import LabelConfig, read_label_config

FORMATS = formats()


def export(name, results, out, **options):
    form, options = FORMATS[name], Options(**options)
    form.check(results.kind, out, options)
    form.write(results, out, options)
    return out


def readable(results):
    return [entry for entry in results if entry.size is not None]


def test_every_module_with_a_format_is_found():
    assert set(FORMATS) == {
        *('coco', 'csv', 'cvat', 'jsonl', 'label-studio', 'parquet', 'voc', 'xmp', 'yolo')
    }
    assert set(formats_of_runs()) == {'.json', '.jsonl', '.csv', '.parquet'}


@pytest.mark.parametrize('shapes', ['masks', 'polygons', 'boxes'])
def test_coco_is_read_by_pycocotools_and_supervision(masks, tmp_path, shapes):
    out = export('coco', masks, tmp_path / 'a.json', shapes=shapes, tolerance=0)
    coco = COCO(str(out))
    with_masks = shapes != 'boxes'
    data = supervision.DetectionDataset.from_coco(
        str(masks.folder), str(out), force_masks=with_masks
    )
    assert data.classes == list(masks.classes)
    assert len(data) == len(coco.imgs) == 3
    for number, entry in enumerate(readable(masks), start=1):
        image = coco.imgs[number]
        assert (image['height'], image['width']) == entry.size
        find = class_regions if shapes == 'masks' else connected_regions
        regions = list(find(entry.mask, 0))
        found = coco.loadAnns(coco.getAnnIds(imgIds=[number]))
        assert [one['bbox'] for one in found] == [list(region.box) for region in regions]
        assert [one['area'] for one in found] == [region.area for region in regions]
        _, pixels, theirs = next(one for one in data if one[0] == str(entry.path))
        assert pixels.shape[:2] == entry.size
        assert theirs.class_id.tolist() == [region.label - 1 for region in regions]
        assert theirs.box_area.tolist() == [region.box[2] * region.box[3] for region in regions]
        if shapes == 'masks':
            for region, one, mask in zip(regions, found, theirs.mask, strict=True):
                assert (coco.annToMask(one) == region.full(entry.size)).all()
                assert (mask == region.full(entry.size)).all()
        elif shapes == 'polygons':
            for region, mask in zip(regions, theirs.mask, strict=True):
                assert mask[region.full(entry.size)].all()


def test_coco_of_tags_is_read_by_supervision(tags, tmp_path):
    out = export('coco', tags, tmp_path / 'a.json')
    data = supervision.DetectionDataset.from_coco(str(tags.folder), str(out))
    assert len(data) == 3
    theirs = {path: detections for path, _, detections in data}
    for entry in readable(tags):
        found = theirs[str(entry.path)]
        assert [tags.classes[label] for label in found.class_id] == list(entry.record.tags)
        height, width = entry.size
        assert found.xyxy.tolist() == [[0, 0, width, height]] * len(entry.record.tags)


def test_coco_lists_errors_apart(results, tmp_path):
    content = json.loads(export('coco', results, tmp_path / 'a.json').read_text())
    names = [one['file_name'] for one in content['images']]
    assert names == ['000008.jpg', '000011.jpg', 'ü b/000008.jpg']
    ((name, error),) = [(one['file_name'], one['error']) for one in content['errors']]
    assert name == 'broken.jpg'
    assert 'is not an image of a supported format' in error


def test_a_table_has_a_row_for_every_image(results, tmp_path):
    with export('csv', results, tmp_path / 'a.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *('image', 'tag', 'score'), *(['share'] if results.kind == 'masks' else []), 'error'
    ]  # fmt: skip
    assert {row['image'] for row in rows} == {str(entry.path) for entry in results}
    (bad,) = [row for row in rows if row['error']]
    assert bad['image'].endswith('broken.jpg')
    assert bad['tag'] == ''
    table = pandas.read_csv(tmp_path / 'a.csv')
    best = table.groupby('image').score.max()
    for entry in readable(results):
        scores = [score for score in entry.scores.values() if score is not None]
        if scores:
            assert best[str(entry.path)] == pytest.approx(max(scores))


def test_an_image_without_tags_has_a_row(tmp_path):
    lines = tmp_path / 'a.jsonl'
    lines.write_text('{"image": "a.jpg", "tags": [], "scores": [], "size": [4, 5]}\n')
    out = export('csv', open_results(lines), tmp_path / 'a.csv')
    assert out.read_text() == 'image,tag,score,error\na.jpg,,,\n'


@pytest.mark.parametrize('kind', ['tags', 'masks'])
def test_scores_of_all_classes(tmp_path, kind):
    lines = tmp_path / 'a.jsonl'
    more = ', "masks": []' if kind == 'masks' else ''
    lines.write_text(
        '{"image": "a.jpg", "tags": ["z"], "scores": [0.5], "size": [4, 5], '
        f'"class_scores": {{"z": 0.5, "b": 0.25}}{more}}}\n'
        '{"image": "b.jpg", "error": "no"}\n'
    )
    results = open_results(lines)
    assert results.classes == ('z', 'b')
    table = export('csv', results, tmp_path / 'a.csv').read_text()
    if kind == 'tags':
        assert table == (
            'image,class,score,is_tag,error\na.jpg,z,0.5,True,\na.jpg,b,0.25,False,\nb.jpg,,,,no\n'
        )
    else:
        assert 'a.jpg,background,,False,1.0,\na.jpg,z,0.5,True,0.0,\n' in table
    table = pandas.read_parquet(export('parquet', results, tmp_path / 'a.parquet'))
    assert table.class_scores[0].tolist() == [0.5, 0.25]
    assert table.class_scores[1] is None


def test_parquet_is_read_by_pandas(results, tmp_path):
    out = export('parquet', results, tmp_path / 'a.parquet')
    table = pandas.read_parquet(out)
    assert json.loads(pyarrow.parquet.read_schema(out).metadata[b'classes']) == [*results.classes]
    for row, entry in zip(table.to_dict('records'), results, strict=True):
        assert row['image'] == entry.record.image
        if entry.size is None:
            assert row['error'] == entry.record.error
            continue
        assert (row['height'], row['width']) == entry.size
        assert dict(zip(row['tags'], row['scores'], strict=True)) == entry.scores
        if results.kind == 'masks':
            regions = list(class_regions(entry.mask, 0))
            for one, region in zip(row['masks'], regions, strict=True):
                runs = {**one['segmentation'], 'size': list(one['segmentation']['size'])}
                assert (coco_mask.decode(runs) == region.full(entry.size)).all()


def test_lines_of_masks_are_read_back(masks, tmp_path):
    lines = open_results(export('jsonl', masks, tmp_path / 'a.jsonl'), masks.classes)
    assert (lines.kind, lines.labels, len(lines)) == ('masks', masks.labels, len(masks))
    for one, other in zip(masks, lines, strict=True):
        assert one.record.tags == other.record.tags
        assert (one.size, one.stem, one.path) == (other.size, other.stem, other.path)
        assert np.array_equal(one.mask, other.mask)


def test_lines_of_tags_know_the_tags_that_occur(tags, tmp_path):
    path = export('jsonl', tags, tmp_path / 'a.jsonl')
    found = {tag for entry in tags for tag in entry.record.tags}
    assert open_results(path).classes == tuple(sorted(found))
    assert open_results(path, CLASSES := ['zebra', *tags.classes]).classes == tuple(CLASSES)
    with pytest.raises(ValueError, match='which is not among the classes'):
        open_results(path, ['zebra'])


@pytest.mark.parametrize('shapes', ['polygons', 'boxes'])
def test_yolo_is_read_by_supervision(masks, tmp_path, shapes):
    out = export('yolo', masks, tmp_path / 'yolo', shapes=shapes, tolerance=0)
    description = yaml.safe_load((out / 'data.yaml').read_text())
    assert description['names'] == dict(enumerate(masks.classes))
    assert Path(description['path']) == out
    for entry in readable(masks):  # it reads one folder at a time
        folder = (out / 'images' / entry.stem).parent
        data = supervision.DetectionDataset.from_yolo(
            str(folder),
            str(out / 'labels' / folder.relative_to(out / 'images')),
            str(out / 'data.yaml'),
            force_masks=shapes == 'polygons',
        )
        assert data.classes == list(masks.classes)
        found = next(one for path, _, one in data if Path(path).stem == Path(entry.stem).name)
        regions = list(connected_regions(entry.mask, 0))
        assert found.class_id.tolist() == [region.label - 1 for region in regions]
        boxes = [(x, y, x + w, y + h) for x, y, w, h in (region.box for region in regions)]
        assert np.abs(found.xyxy - np.array(boxes)).max() <= 1
    assert len(list(out.rglob('*.txt'))) == 3
    assert all(path.is_symlink() for path in (out / 'images').rglob('*.jpg'))


def test_yolo_of_tags_has_a_folder_per_class(tags, tmp_path):
    out = export('yolo', tags, tmp_path / 'yolo', copy=True)
    data = supervision.ClassificationDataset.from_folder_structure(str(out / 'train'))
    assert data.classes == sorted(tags.classes)
    best = {
        entry.stem.replace('/', '_'): max(entry.scores, key=entry.scores.get)
        for entry in readable(tags)
        if entry.scores
    }
    assert best
    assert {
        Path(path).stem: data.classes[found.class_id[0]] for path, _, found in data
    } == best  # fmt: skip
    assert not any(path.is_symlink() for path in out.rglob('*'))


def test_a_class_that_can_be_no_folder_is_refused(tmp_path):
    lines = tmp_path / 'a.jsonl'
    lines.write_text('{"image": "a.jpg", "tags": ["a/b"], "size": [4, 5]}\n')
    with pytest.raises(ValueError, match="'a/b' can not be the name of a folder"):
        export('yolo', open_results(lines), tmp_path / 'yolo')


def test_palette_masks(masks, tmp_path):
    out = export('voc', masks, tmp_path / 'voc')
    assert (out / 'classes.txt').read_text().splitlines() == list(masks.labels)
    colours = {}
    for line in (out / 'labelmap.txt').read_text().splitlines()[1:]:
        name, colour, _, _ = line.split(':')
        colours[tuple(map(int, colour.split(',')))] = name
    stems = (out / 'ImageSets/Segmentation/default.txt').read_text().splitlines()
    assert stems == ['000008', '000011', 'ü b/000008']
    for stem, entry in zip(stems, readable(masks), strict=True):
        with Image.open(out / 'SegmentationClass' / f'{stem}.png') as file:
            assert file.mode == 'P'
            assert np.array_equal(np.asarray(file), entry.mask)
            info = {'seg_map_path': file.filename, 'reduce_zero_label': False, 'seg_fields': []}
            assert np.array_equal(LoadAnnotations()(info)['gt_seg_map'], entry.mask)
            seen = {tuple(colour) for colour in np.asarray(file.convert('RGB')).reshape(-1, 3)}
        assert {colours[tuple(map(int, one))] for one in seen} == {
            masks.labels[label] for label in np.unique(entry.mask)
        }


def decode_brush(brush):
    """The plain reader of Label Studio's runs, bit by bit."""
    bits = ''.join(f'{byte:08b}' for byte in brush)
    place = 0

    def read(count):
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    count, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values = []
    while len(values) < count:
        run, length = read(1), read(sizes[read(2)]) + 1
        values += [read(word)] * length if run else [read(word) for _ in range(length)]
    return np.array(values, dtype=np.uint8)


@pytest.mark.parametrize('shape', [(1, 1), (3, 5), (150, 170)])
@pytest.mark.parametrize('share', [0.0, 0.001, 0.5, 1.0])
def test_a_brush_is_its_mask(shape, share):
    mask = np.random.RandomState(0).rand(*shape) < share
    pixels = decode_brush(encode_brush(mask)).reshape(*shape, 4)
    assert (pixels == mask[..., None] * np.uint8(255)).all()


@pytest.mark.parametrize('shapes', ['masks', 'polygons', 'boxes'])
def test_label_studio_s_tasks_fit_their_config(masks, tmp_path, shapes):
    out = export('label-studio', masks, tmp_path / 'a.json', shapes=shapes, tolerance=0)
    config = read_label_config(out.with_suffix('.xml').read_text())
    assert config == LabelConfig(shapes, 'image', 'image', shapes, masks.classes)
    tasks = json.loads(out.read_text())
    assert [task['data']['image'] for task in tasks] == [
        f'/data/local-files/?d={name}'
        for name in ('000008.jpg', '000011.jpg', '%C3%BC%20b/000008.jpg')
    ]
    for task, entry in zip(tasks, readable(masks), strict=True):
        find = class_regions if shapes == 'masks' else connected_regions
        ((found,),) = [[one['result'] for one in task['predictions']]]
        assert len({one['id'] for one in found}) == len(found)
        for one, region in zip(found, find(entry.mask, 0), strict=True):
            assert one['from_name'] == config.control
            assert (one['original_height'], one['original_width']) == entry.size
            assert one['value'][one['type']] == [masks.labels[region.label]]
            (left, top, width, height), value = region.box, one['value']
            if shapes == 'masks':
                alpha = decode_brush(value['rle']).reshape(*entry.size, 4)[..., 3]
                assert ((alpha > 0) == region.full(entry.size)).all()
            else:
                x, y = np.array(entry.size)[::-1] / 100
                assert value.get('closed', shapes == 'boxes')
                corners = np.array(
                    value.get('points')
                    or [
                        [value['x'], value['y']],
                        [value['x'] + value['width'], value['y'] + value['height']],
                    ]
                ) * [x, y]
                assert corners.min(axis=0) == pytest.approx([left, top])
                assert corners.max(axis=0) == pytest.approx([left + width, top + height])


@pytest.mark.parametrize('shapes', ['masks', 'polygons', 'boxes'])
def test_cvat_s_xml(masks, tmp_path, shapes):
    """As its documentation describes it; datumaro reads it in tools/dev/check_readers.py."""
    root = ElementTree.parse(export('cvat', masks, tmp_path / 'a.xml', shapes=shapes)).getroot()
    assert root.findtext('version') == '1.1'
    labels = root.findall('meta/task/labels/label')
    assert [label.findtext('name') for label in labels] == list(masks.classes)
    assert [label.findtext('color') for label in labels] == [
        f'#{bytes(colour).hex()}' for colour in masks.palette[1:]
    ]
    assert {label.findtext('type') for label in labels} == {'any'}
    entries = readable(masks)
    for number, (image, entry) in enumerate(zip(root.findall('image'), entries, strict=True)):
        height, width = entry.size
        assert image.attrib == {
            'id': f'{number}', 'name': entry.file_name, 'width': f'{width}', 'height': f'{height}'
        }  # fmt: skip
        find = class_regions if shapes == 'masks' else connected_regions
        for shape, region in zip(image, find(entry.mask, 0), strict=True):
            values = shape.attrib
            assert values['label'] == masks.labels[region.label]
            assert (values['source'], values['occluded'], values['z_order']) == ('auto', '0', '0')
            left, top, wide, high = region.box
            if shapes == 'masks':
                box = [int(values[side]) for side in ('left', 'top', 'width', 'height')]
                runs = list(map(int, values['rle'].split(', ')))
                inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(high, wide)
                assert (inside == region.pixels).all()
            elif shapes == 'polygons':
                assert values['points'] == ';'.join(
                    f'{x:.2f},{y:.2f}' for x, y in region.outline(1)
                )
                continue
            else:
                first, last = values['xtl'], values['xbr']
                box = [float(first), float(values['ytl']), float(last) - left, float(values['ybr'])]
                box[3] -= top
            assert shape.tag == {'masks': 'mask', 'boxes': 'box'}[shapes]
            assert box == [left, top, wide, high]


def test_cvat_s_tags(tags, tmp_path):
    root = ElementTree.parse(export('cvat', tags, tmp_path / 'a.xml')).getroot()
    assert {label.findtext('type') for label in root.iter('label')} == {'tag'}
    for image, entry in zip(root.findall('image'), readable(tags), strict=True):
        assert [(one.tag, one.attrib) for one in image] == [
            ('tag', {'label': tag, 'source': 'auto'}) for tag in entry.record.tags
        ]


def lines_of(tmp_path, *names, tag='dog', masks=False):
    """Results of images that exist, from lines."""
    more = {'masks': []} if masks else {}
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b'x')
    rows = [
        {'image': str(tmp_path / name), 'tags': [tag], 'size': [2, 3], **more} for name in names
    ]
    (tmp_path / 'a.jsonl').write_text(''.join(f'{json.dumps(row)}\n' for row in rows))
    return open_results(tmp_path / 'a.jsonl')


def test_names_with_characters_that_are_no_text(tmp_path):
    results = lines_of(tmp_path, 'a\n\x01b.jpg', 'c\udcff.jpg', masks=True)
    out = export('cvat', results, tmp_path / 'a.xml')
    images = ElementTree.parse(out).findall('image')
    assert [image.get('name') for image in images] == [r'a\n\x01b.jpg', r'c\udcff.jpg']
    out = export('voc', results, tmp_path / 'voc')
    stems = (out / 'ImageSets/Segmentation/default.txt').read_text().splitlines()
    assert stems == [r'a\n\x01b', r'c\udcff']
    assert all((out / f'SegmentationClass/{stem}.png').is_file() for stem in stems)


@pytest.mark.parametrize('tag', ['10:30', '#dog'])
def test_a_class_that_labelmap_can_not_hold_is_refused(tmp_path, tag):
    results = lines_of(tmp_path, 'a.jpg', tag=tag, masks=True)
    with pytest.raises(ValueError, match=rf"labelmap.txt can not hold the class name '{tag}'"):
        export('voc', results, tmp_path / 'voc')
    assert not (tmp_path / 'voc').exists()


def test_the_label_config_of_label_studio_replaces_nothing(tags, tmp_path):
    theirs = export('cvat', tags, tmp_path / 'a.xml').read_bytes()
    with pytest.raises(FileExistsError, match=r'a\.xml exists already with another content'):
        export('label-studio', tags, tmp_path / 'a.json')
    assert (tmp_path / 'a.xml').read_bytes() == theirs
    assert not (tmp_path / 'a.json').exists()
    for _ in range(2):
        export('label-studio', tags, tmp_path / 'a.json', overwrite=True)
    assert (tmp_path / 'a.xml').read_bytes() != theirs


def test_yolo_keeps_images_of_one_name_apart(tmp_path):
    out = export('yolo', lines_of(tmp_path, 'a/b.jpg', 'a_b.jpg'), tmp_path / 'out', copy=True)
    assert sorted(os.listdir(out / 'train/dog')) == ['a_b-2.jpg', 'a_b.jpg']


def test_yolo_of_folders_called_images_is_read_back(tmp_path):
    """Readers replace the last folder ``images`` of a path."""
    everywhere = coco_mask.encode(np.ones((9, 9), dtype=np.uint8, order='F'))
    found = {'tag': 'dog', 'segmentation': {**everywhere, 'counts': everywhere['counts'].decode()}}
    lines = tmp_path / 'a.jsonl'
    for name in ('images/1.jpg', 'images_/1.jpg', 'a/images/images/1.jpg', 'images.jpg'):
        path = tmp_path / 'photos' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'x')
        row = {'image': str(path), 'tags': ['dog'], 'size': [9, 9], 'masks': [found]}
        with lines.open('a') as file:
            file.write(f'{json.dumps(row)}\n')
    out = export('yolo', open_results(lines), tmp_path / 'out', copy=True)
    assert read_tags(out / 'images', out / 'data.yaml').labels == [[0]] * 4
    assert len(list((out / 'labels').rglob('*.txt'))) == 4


def test_yolo_puts_an_image_into_the_folder_of_its_highest_score(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(b'x')
    row = {'image': str(tmp_path / 'a.jpg'), 'tags': ['cat', 'dog'], 'scores': [0.4, 0.6]}
    (tmp_path / 'a.jsonl').write_text(f'{json.dumps({**row, "size": [2, 3]})}\n')
    out = export('yolo', open_results(tmp_path / 'a.jsonl'), tmp_path / 'out', copy=True)
    assert os.listdir(out / 'train/dog') == ['a.jpg']


def test_yolo_mixes_nothing_with_other_results(tmp_path):
    """Labels that are left of an earlier export have the numbers of other classes."""
    out = export('yolo', lines_of(tmp_path, 'a.jpg', 'b.jpg', masks=True), tmp_path / 'out')
    less = lines_of(tmp_path, 'a.jpg', masks=True)
    with pytest.raises(FileExistsError, match=r'b\.jpg is not of these results, .* \(2 such files'):
        export('yolo', less, out, overwrite=True)
    (out / 'images/b.jpg').unlink()
    (out / 'labels/b.txt').unlink()
    (out / 'labels/.hidden').touch()
    export('yolo', less, out, overwrite=True)


def test_label_studio_s_choices(tags, tmp_path):
    out = export('label-studio', tags, tmp_path / 'a.json', image_url='s3://bucket/')
    config = read_label_config(out.with_suffix('.xml').read_text())
    assert config == LabelConfig('tags', 'image', 'image', None, tags.classes)
    for task, entry in zip(json.loads(out.read_text()), readable(tags), strict=True):
        assert task['data']['image'].startswith('s3://bucket/')
        ((one,),) = [task['predictions'][0]['result']]
        assert one['value'] == {'choices': list(entry.record.tags)}
        assert task['predictions'][0]['score'] == max(entry.scores.values())


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('<View', 'is no XML'),
        ('<View><Text name="t" value="$t"/></View>', 'has no BrushLabels'),
        ('<!DOCTYPE a><View/>', 'no document type'),
        ('<View><Image name="i"/><Choices name="c" toName="i"/></View>', 'has no BrushLabels'),
    ],
)
def test_what_is_no_label_config(text, message):
    with pytest.raises(ValueError, match=message):
        read_label_config(text)


def test_keywords_are_read_by_exiv2(tags, tmp_path):
    out = export('xmp', tags, tmp_path)
    for entry in readable(tags):
        path = out / f'{entry.file_name}.xmp'
        assert path.exists() == bool(entry.record.tags)
        if entry.record.tags:
            found = pyexiv2.Image(str(path)).read_xmp()
            assert found == {'Xmp.dc.subject': list(entry.record.tags)}
    assert not (out / 'broken.jpg.xmp').exists()
    before = {path: path.stat().st_mtime_ns for path in out.rglob('*.xmp')}
    export('xmp', tags, tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob('*.xmp')}


THEIRS = [
    """<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>
<!-- a comment -->
<x:xmpmeta xmlns:x='adobe:ns:meta/' x:xmptk='Image::ExifTool 12.57'>
<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>
 <rdf:Description rdf:about='' xmlns:dc='http://purl.org/dc/elements/1.1/'>
  <dc:subject><rdf:Bag><rdf:li>holiday</rdf:li><rdf:li>bell</rdf:li></rdf:Bag></dc:subject>
 </rdf:Description>
 <rdf:Description rdf:about='' xmlns:xmp='http://ns.adobe.com/xap/1.0/'
   xmlns:mine='http://example.org/mine/' xmp:Rating='4' mine:note='kept &amp; safe'/>
</rdf:RDF></x:xmpmeta>
<?xpacket end='w'?>""",
    """<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
 <rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4"/>
</rdf:RDF></x:xmpmeta>""",
]


@pytest.mark.parametrize('theirs', THEIRS, ids=['exiftool', 'no keywords'])
def test_what_others_wrote_into_a_side_file_is_kept(theirs, tmp_path):
    path = tmp_path / 'a.jpg.xmp'
    path.write_text(theirs)
    before = pyexiv2.Image(str(path)).read_xmp()
    content = with_keywords(theirs.encode(), ('bell', 'Büro & <x>'))
    path.write_bytes(content)
    after = pyexiv2.Image(str(path)).read_xmp()
    subjects = [*before.pop('Xmp.dc.subject', []), 'bell', 'Büro & <x>']
    assert after.pop('Xmp.dc.subject') == list(dict.fromkeys(subjects))
    assert after == before
    assert after['Xmp.xmp.Rating'] == '4'
    assert (b'a comment' in content) == ('a comment' in theirs)
    assert (b'xpacket' in content) == ('xpacket' in theirs)
    assert with_keywords(content, ('bell',)) == content


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'not xml', 'is not XML'),
        (b'<?xml version="1.0" encoding="foo"?><a/>', r'is not XML \(unknown encoding: foo\)'),
        (b'<html/>', 'is not XMP: it has no rdf:RDF'),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', 'has a document type'),
    ],
)
def test_a_side_file_that_is_not_xmp_is_left_alone(tags, tmp_path, content, message):
    entry = next(entry for entry in tags if entry.record.tags)
    path = tmp_path / f'{entry.file_name}.xmp'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f'{path.name} {message}.*: nothing was changed in it'):
        export('xmp', tags, tmp_path)
    assert path.read_bytes() == content


def test_a_folder_is_completed_and_nothing_of_others_is_replaced(masks, tmp_path):
    out = export('voc', masks, tmp_path / 'voc')
    whole = {path: path.stat().st_mtime_ns for path in out.rglob('*.*')}
    missing, other = out / 'classes.txt', out / 'SegmentationClass/000008.png'
    missing.unlink()
    export('voc', masks, out)
    assert missing.exists()
    assert all(path.stat().st_mtime_ns == time for path, time in whole.items() if path != missing)
    other.write_bytes(b'mine')
    with pytest.raises(FileExistsError, match=r'000008\.png exists already with another content'):
        export('voc', masks, out)
    assert other.read_bytes() == b'mine'
    export('voc', masks, out, overwrite=True)
    assert Image.open(other).mode == 'P'


def test_links_to_other_images_are_refused(masks, tmp_path):
    (tmp_path / 'images').mkdir()
    (tmp_path / 'images/000008.jpg').symlink_to('/nowhere')
    with pytest.raises(FileExistsError, match='add --overwrite'):
        export('yolo', masks, tmp_path)
    export('yolo', masks, tmp_path, overwrite=True)
    assert os.path.samefile(tmp_path / 'images/000008.jpg', masks.folder / '000008.jpg')


@pytest.mark.parametrize(
    ('name', 'kind', 'out', 'options', 'message'),
    [
        ('voc', 'tags', 'a', {}, 'voc takes masks, not tags'),
        ('coco', 'tags', 'a.jsonl', {}, r'coco is a file that ends in \.json, not a\.jsonl'),
        ('coco', 'tags', 'a.json', {'shapes': 'boxes'}, 'these results have only tags'),
        ('yolo', 'masks', 'a', {'shapes': 'masks'}, 'yolo makes polygons, boxes of masks'),
        ('csv', 'masks', 'a.csv', {'shapes': 'masks'}, 'csv makes nothing else of masks'),
    ],
)
def test_what_a_format_does_not_fit_is_refused(name, kind, out, options, message):
    with pytest.raises(ValueError, match=message):
        FORMATS[name].check(kind, out, Options(**options))


@pytest.mark.parametrize(
    'options',
    [{'shapes': 'cubes'}, {'min_area': 0}, {'tolerance': -1}, {'tolerance': float('nan')}],
)
def test_options_out_of_range(options):
    with pytest.raises(ValueError, match=f'{next(iter(options))} must be'):
        Options(**options)
