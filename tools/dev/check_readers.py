"""Let the real readers of other tools read what ``mmtagclip convert`` writes.

The suite runs the light readers (pycocotools, supervision, pandas, exiv2). The others bring
distributions that do not fit beside OpenMMLab's, so each runs in an environment of its own:

    python tools/dev/check_readers.py write work_dirs/readers
    /some/venv/bin/python tools/dev/check_readers.py datumaro work_dirs/readers

The first command needs mmtagclip, the others only the tool itself.
"""

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np

SCENES = ('000008', '000011', '000040')
CLASSES = 'bell,train,octopus,traffic light'
# What Ultralytics' classification asks its settings for.
CLASSIFY = {
    'imgsz': 64, 'single_cls': False, 'fraction': 1.0, 'cache': False, 'scale': 0.5,
    'fliplr': 0.5, 'flipud': 0.0, 'erasing': 0.4, 'auto_augment': None,
    'hsv_h': 0.0, 'hsv_s': 0.0, 'hsv_v': 0.0,
}  # fmt: skip


def write(root: Path) -> None:
    """Tag and segment scenes and a broken file, export to all formats, and note what is true."""
    from mmtagclip.apis import zoo_root
    from mmtagclip.cli import main
    from mmtagclip.exports import open_results
    from mmtagclip.exports.regions import class_regions, connected_regions

    photos = root / 'photos'
    (photos / 'more').mkdir(parents=True)
    for scene, folder in zip(SCENES, ('', '', 'more'), strict=True):
        shutil.copy(zoo_root() / f'demo/data/JPEGImages/{scene}.jpg', photos / folder)
    (photos / 'broken.jpg').write_bytes(b'no image')

    def run(*words: object) -> None:
        assert main(list(map(str, words))) in (0, 1)

    common = ('--classes', CLASSES, '--quiet', '--out')
    run('segment', photos, '--model', 'cls-seg_demo', *common, root / 'masks')
    run('tag', photos, '--model', 'tagclip_demo', *common, root / 'tags.jsonl')
    for shapes in ('masks', 'polygons', 'boxes'):
        for name, ending in (('coco', 'json'), ('label-studio', 'json'), ('cvat', 'xml')):
            out = root / f'{name}-{shapes}.{ending}'
            run('convert', root / 'masks', '--to', name, '--shapes', shapes, '--tolerance', 0,
                '--out', out)  # fmt: skip
    for shapes in ('polygons', 'boxes'):
        out = root / f'yolo-{shapes}'
        run('convert', root / 'masks', '--to', 'yolo', '--shapes', shapes, '--out', out)
    run('convert', root / 'masks', '--to', 'voc', '--out', root / 'voc')
    for name, ending in (
        ('coco', '.json'),
        ('label-studio', '.json'),
        ('cvat', '.xml'),
        ('yolo', ''),
    ):
        out = root / f'{name}-tags{ending}'
        run('convert', root / 'tags.jsonl', '--to', name, '--classes', CLASSES, '--out', out)
    results = open_results(root / 'masks')
    tags = {one.file_name: list(one.record.tags) for one in open_results(root / 'tags.jsonl')}
    facts = {}
    for entry in results:
        if entry.mask is not None:
            facts[entry.file_name] = {
                'size': entry.size,
                'tags': tags[entry.file_name],
                **{
                    key: [
                        {'label': results.labels[one.label], 'box': one.box, 'area': one.area}
                        for one in regions
                    ]
                    for key, regions in (
                        ('classes', class_regions(entry.mask, 0)),
                        ('regions', connected_regions(entry.mask, 0)),
                    )
                },
            }
    (root / 'facts.json').write_text(json.dumps({'classes': results.classes, 'images': facts}))


def same(what: str, found: dict, wanted: dict) -> None:
    """Compare what was read of each image with what is true."""
    assert found.keys() == wanted.keys(), (what, sorted(found), sorted(wanted))
    for name in wanted:
        assert sorted(found[name]) == sorted(wanted[name]), (what, name, found[name], wanted[name])
    print(
        f'{what}: {sum(map(len, found.values()))} objects in {len(found)} images, all as they are'
    )


def boxes(facts: dict, key: str) -> dict:
    """Label and box of each object."""
    return {
        name: [(one['label'], *one['box']) for one in image[key]]
        for name, image in facts['images'].items()
    }


def areas(facts: dict) -> dict:
    """Label and number of pixels of each class."""
    return {
        name: [(one['label'], one['area']) for one in image['classes']]
        for name, image in facts['images'].items()
    }


def stems(by_name: dict) -> dict:
    """The same by names without ending."""
    return {str(Path(name).with_suffix('')): value for name, value in by_name.items()}


def datumaro(root: Path, facts: dict) -> None:
    """COCO, CVAT, VOC and YOLO, read by datumaro."""
    import datumaro as dm

    def read(path: Path, name: str, shapes: str) -> tuple[dict, list]:
        data = dm.Dataset.import_from(str(path), name)
        names = [one.name for one in data.categories()[dm.AnnotationType.label]]
        kinds = {'masks': 'mask', 'polygons': 'polygon', 'boxes': 'bbox', 'tags': 'label'}
        kind = getattr(dm.AnnotationType, kinds[shapes])
        return {
            item.id: [one for one in item.annotations if one.type == kind] for item in data
        }, names

    def placed(root: Path, source: Path, *folders: str) -> Path:
        """A folder of the layout that datumaro expects around one file."""
        place = root / f'datumaro-{source.stem}'
        shutil.rmtree(place, ignore_errors=True)
        (place / Path(*folders)).mkdir(parents=True)
        target = 'instances_default' if folders else 'default'
        shutil.copy(source, place / Path(*folders) / f'{target}{source.suffix}')
        shutil.copytree(root / 'photos', place / 'images')
        return place

    for shapes in ('masks', 'polygons', 'boxes'):
        key = 'classes' if shapes == 'masks' else 'regions'
        items, names = read(
            placed(root, root / f'coco-{shapes}.json', 'annotations'), 'coco_instances', shapes
        )
        found = {
            item: [(names[one.label], *map(round, one.get_bbox())) for one in annotations]
            for item, annotations in items.items()
        }
        wanted = stems(boxes(facts, key))
        if shapes == 'masks':
            found = {
                item: [(names[one.label], int(one.image.sum())) for one in annotations]
                for item, annotations in items.items()
            }
            wanted = stems(areas(facts))
        same(f'datumaro, COCO, {shapes}', found, wanted)
        items, names = read(placed(root, root / f'cvat-{shapes}.xml'), 'cvat', shapes)
        found = {
            item: [
                (names[one.label], int(one.image.sum()))
                if shapes == 'masks'
                else (names[one.label], *map(round, one.get_bbox()))
                for one in annotations
            ]
            for item, annotations in items.items()
        }
        same(f'datumaro, CVAT, {shapes}', found, wanted)
    items, names = read(placed(root, root / 'cvat-tags.xml'), 'cvat', 'tags')
    tags = {item: [names[one.label] for one in found] for item, found in items.items()}
    same('datumaro, CVAT, tags', tags, stems({n: i['tags'] for n, i in facts['images'].items()}))
    items, names = read(root / 'voc', 'voc_segmentation', 'masks')
    found = {
        item: [
            (names[one.label], int(one.image.sum()))
            for one in annotations
            if names[one.label] != 'background'
        ]
        for item, annotations in items.items()
    }
    same('datumaro, VOC', found, stems(areas(facts)))


def coco_converted(root: Path, facts: dict, convert: Callable, tool: str) -> None:
    """COCO by a converter to Label Studio's tasks, which reads polygons as their boxes."""
    for shapes in ('polygons', 'boxes', 'tags'):
        out = root / 'converted.json'
        convert(str(root / f'coco-{shapes}.json'), str(out), image_root_url='http://a/')
        tasks = json.loads(out.read_text())
        found = {}
        for task in tasks:
            results = task['annotations'][0]['result']
            name = task['data']['image'].removeprefix('http://a/')
            found[name] = [
                (one['value']['rectanglelabels'][0], *(
                    round(one['value'][side] * one[total] / 100)
                    for side, total in (('x', 'original_width'), ('y', 'original_height'),
                                        ('width', 'original_width'), ('height', 'original_height'))
                ))
                for one in results if one['type'] == 'rectanglelabels'
            ]  # fmt: skip
        if shapes == 'tags':
            wanted = {
                name: [(tag, 0, 0, *image['size'][::-1]) for tag in image['tags']]
                for name, image in facts['images'].items()
            }
        else:
            wanted = boxes(facts, 'regions')
        found = {name: found.get(name, []) for name in wanted}
        same(f'{tool}, COCO, {shapes}', found, wanted)


def label_studio_converter(root: Path, facts: dict) -> None:
    """COCO by the converter of its own, the SDK's predecessor, and its reading of brushes."""
    from label_studio_converter.brush import decode_rle
    from label_studio_converter.imports.coco import convert_coco_to_ls

    coco_converted(root, facts, convert_coco_to_ls, 'label-studio-converter')
    found = {}
    for task in json.loads((root / 'label-studio-masks.json').read_text()):
        name = task['data']['image'].removeprefix('/data/local-files/?d=')
        found[name] = [
            (one['value']['brushlabels'][0], int((decode_rle(one['value']['rle'])[3::4] > 0).sum()))
            for one in task['predictions'][0]['result']
        ]
    same('label-studio-converter, brushes', found, areas(facts))


def label_studio(root: Path, facts: dict) -> None:
    """COCO by the SDK's converter; predictions by the SDK's check of tasks, and its brushes."""
    from label_studio_sdk.converter.brush import decode_rle
    from label_studio_sdk.converter.imports.coco import convert_coco_to_ls
    from label_studio_sdk.label_interface import LabelInterface

    coco_converted(root, facts, convert_coco_to_ls, "label-studio-sdk's converter")
    for shapes in ('masks', 'polygons', 'boxes', 'tags'):
        config = LabelInterface((root / f'label-studio-{shapes}.xml').read_text())
        config.validate()
        found = {}
        for task in json.loads((root / f'label-studio-{shapes}.json').read_text()):
            (prediction,) = task['predictions']
            errors = config.validate_prediction(prediction, return_errors=True)
            assert not errors, errors
            name = task['data']['image'].removeprefix('/data/local-files/?d=')
            found[name] = []
            for one in prediction['result']:
                (label,) = one['value'].get(one['type'], [None])[:1]
                if shapes == 'masks':
                    found[name].append(
                        (label, int((decode_rle(one['value']['rle'])[3::4] > 0).sum()))
                    )
                elif shapes == 'tags':
                    found[name] = one['value']['choices']
                else:
                    found[name].append((label,))
        wanted = {
            'masks': areas(facts),
            'tags': {name: image['tags'] for name, image in facts['images'].items()},
        }.get(
            shapes,
            {n: [(one['label'],) for one in i['regions']] for n, i in facts['images'].items()},
        )
        same(f'label-studio-sdk, predictions, {shapes}', found, wanted)


def fiftyone(root: Path, facts: dict) -> None:
    """COCO, read by FiftyOne's importer, without its database."""
    from fiftyone.utils.coco import COCODetectionDatasetImporter

    for shapes in ('masks', 'polygons', 'boxes', 'tags'):
        importer = COCODetectionDatasetImporter(
            data_path=str(root / 'photos'),
            labels_path=str(root / f'coco-{shapes}.json'),
            label_types=['detections'] if shapes in ('boxes', 'tags') else ['segmentations'],
        )
        found = {}
        with importer:
            for path, metadata, label in importer:
                name = Path(path).relative_to((root / 'photos').absolute()).as_posix()
                assert [metadata.height, metadata.width] == facts['images'][name]['size']
                label = label or {}
                objects = label.values() if isinstance(label, dict) else [label]
                detections = [one for each in objects if each for one in each.detections]
                size = np.array(facts['images'][name]['size'])[[1, 0, 1, 0]]
                found[name] = [
                    (one.label, int(one.mask.sum()))
                    if shapes == 'masks'
                    else (one.label, *np.round(one.bounding_box * size).astype(int).tolist())
                    for one in detections
                ]
        if shapes == 'masks':
            wanted = areas(facts)
        elif shapes == 'tags':
            wanted = {
                name: [(tag, 0, 0, *image['size'][::-1]) for tag in image['tags']]
                for name, image in facts['images'].items()
            }
        else:
            wanted = boxes(facts, 'regions')
        same(f'FiftyOne, COCO, {shapes}', found, wanted)


def ultralytics(root: Path, facts: dict) -> None:
    """YOLO's folders, read by Ultralytics' data sets."""
    from ultralytics.data.dataset import ClassificationDataset, YOLODataset
    from ultralytics.data.utils import check_det_dataset

    for shapes, task in (('polygons', 'segment'), ('boxes', 'detect')):
        data = check_det_dataset(str(root / f'yolo-{shapes}' / 'data.yaml'))
        assert list(data['names'].values()) == facts['classes']
        found = {}
        for info in YOLODataset(img_path=data['train'], data=data, task=task).labels:
            name = Path(info['im_file']).relative_to(data['train']).as_posix()
            found[name] = [(facts['classes'][int(one)],) for one in info['cls'].ravel()]
        wanted = {
            name: [(one['label'],) for one in image['regions']]
            for name, image in facts['images'].items()
        }
        same(f'Ultralytics, {task}', found, wanted)
    train = root / 'yolo-tags/train'
    data = ClassificationDataset(str(train), SimpleNamespace(**CLASSIFY))
    found = {Path(path).name: [data.base.classes[label]] for path, label, *_ in data.samples}
    known = {path.name: [path.parent.name] for path in train.rglob('*.jpg')}
    same('Ultralytics, classify', found, known)
    assert data.base.classes == sorted(facts['classes'])


def main() -> None:
    """Run one step."""
    steps = {
        one.__name__: one
        for one in (
            write, datumaro, label_studio, label_studio_converter, fiftyone, ultralytics,
        )
    }  # fmt: skip
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('step', choices=steps)
    parser.add_argument('root', type=Path)
    args = parser.parse_args()
    if args.step == 'write':
        write(args.root)
    else:
        facts = json.loads((args.root / 'facts.json').read_text())
        steps[args.step](args.root.absolute(), facts)


if __name__ == '__main__':
    main()
