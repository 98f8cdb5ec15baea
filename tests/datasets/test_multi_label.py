import json

import pytest
from mmpretrain.datasets import VOC

from mmtagclip.datasets import CocoMultiLabel, VOCMultiLabel

# Ids in neither file nor numerical order, with gaps, as COCO's have.
CATEGORIES = [{'id': 7, 'name': 'train'}, {'id': 2, 'name': 'bicycle'}, {'id': 90, 'name': 'brush'}]
IMAGES = [
    {'id': 30, 'file_name': 'c.jpg'},
    {'id': 10, 'file_name': 'a.jpg'},
    {'id': 20, 'file_name': 'b.jpg'},
]
ANNOTATIONS = [
    {'id': 1, 'image_id': 30, 'category_id': 90},
    {'id': 2, 'image_id': 30, 'category_id': 2},
    {'id': 3, 'image_id': 30, 'category_id': 90},
    {'id': 4, 'image_id': 10, 'category_id': 7},
]


def coco_file(tmp_path, **changes):
    content = {'images': IMAGES, 'annotations': ANNOTATIONS, 'categories': CATEGORIES} | changes
    content = {key: value for key, value in content.items() if value is not None}
    (tmp_path / 'instances.json').write_text(json.dumps(content))
    return tmp_path


def coco(root, **options):
    return CocoMultiLabel(
        ann_file='instances.json', data_root=str(root), data_prefix='val', **options
    )


def labels(dataset):
    return [dataset.get_data_info(index)['gt_label'] for index in range(len(dataset))]


def test_coco_labels_follow_the_category_ids(tmp_path):
    dataset = coco(coco_file(tmp_path))
    assert dataset.metainfo['classes'] == ('bicycle', 'train', 'brush')
    assert labels(dataset) == [[1], [0, 2]]
    assert dataset.get_data_info(0)['img_path'] == str(tmp_path / 'val' / 'a.jpg')
    assert dataset.get_data_info(1)['img_id'] == 30


def test_coco_unlabelled_images_on_request(tmp_path):
    dataset = coco(coco_file(tmp_path), keep_unlabelled=True)
    assert labels(dataset) == [[1], [], [0, 2]]


def test_coco_classes_named_by_the_user(tmp_path):
    names = ('bike', 'railway train', 'toothbrush')
    dataset = coco(coco_file(tmp_path), metainfo={'classes': names})
    assert dataset.metainfo['classes'] == names
    assert labels(dataset) == [[1], [0, 2]]


def test_coco_wrong_number_of_classes(tmp_path):
    with pytest.raises(ValueError, match='has 3 categories, but metainfo has 2 classes'):
        coco(coco_file(tmp_path), metainfo={'classes': ('a', 'b')})


def test_coco_unknown_category(tmp_path):
    stray = [*ANNOTATIONS, {'id': 5, 'image_id': 20, 'category_id': 3}]
    with pytest.raises(ValueError, match=r'instances\.json gives annotation 5 the unknown cat'):
        coco(coco_file(tmp_path, annotations=stray))


def test_coco_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no COCO annotation file at .*instances\.json'):
        coco(tmp_path)


@pytest.mark.parametrize('text', ['', '{"images": [', '[]', '"coco"', '\x00\xff', '[' * 99999])
def test_coco_broken_json(tmp_path, text):
    (tmp_path / 'instances.json').write_text(text, encoding='latin-1')
    with pytest.raises(ValueError, match=r"instances\.json is not in COCO's layout"):
        coco(tmp_path)


@pytest.mark.parametrize('part', ['images', 'annotations', 'categories'])
def test_coco_missing_part(tmp_path, part):
    # A test split's file has no annotations: without labels nothing can be evaluated.
    with pytest.raises(ValueError, match=f"is not in COCO's layout: .*{part}"):
        coco(coco_file(tmp_path, **{part: None}))


@pytest.mark.parametrize(
    'part, entries, message',
    [
        ('images', [{**IMAGES[0], 'id': 10}, *IMAGES[1:]], 'has the id 10 twice among its images'),
        (
            'images',
            [{**IMAGES[0], 'file_name': 'a.jpg'}, *IMAGES[1:]],
            "the file_name 'a.jpg' twice",
        ),
        (
            'categories',
            [{**CATEGORIES[0], 'id': 2}, *CATEGORIES[1:]],
            'has the id 2 twice among its c',
        ),
        ('categories', [{**CATEGORIES[0], 'name': 'brush'}, *CATEGORIES[1:]], "name 'brush' twice"),
        ('categories', [{'id': 7}, *CATEGORIES[1:]], "COCO's layout: KeyError\\('name'"),
        ('images', [{'id': 30}, *IMAGES[1:]], "COCO's layout: KeyError\\('file_name'"),
        ('images', [{'id': 30, 'file_name': 7}, *IMAGES[1:]], 'file_name must be a string, not 7'),
        ('annotations', [{'id': 1, 'image_id': 30}], "COCO's layout: KeyError\\('category_id'"),
        ('annotations', [{'id': 1, 'category_id': 7}], "COCO's layout: KeyError\\('image_id'"),
        (
            'annotations',
            [{'id': 1, 'image_id': '30', 'category_id': 7}],
            r"annotation 1 the unknown image '30' \(it has 30, of another type\)",
        ),
        (
            'annotations',
            [{'id': 1, 'image_id': 31, 'category_id': 7}],
            'annotation 1 the unknown image 31$',
        ),
        ('annotations', {}, 'annotations is not a list'),
        ('annotations', [None], "COCO's layout: TypeError"),
    ],
)
def test_coco_nothing_is_believed(tmp_path, part, entries, message):
    with pytest.raises(ValueError, match=rf'instances\.json .*{message}'):
        coco(coco_file(tmp_path, **{part: entries}))


def voc_object(name, difficult=0):
    return (
        f'<object><name>{name}</name><difficult>{difficult}</difficult>'
        '<part><name>head</name></part></object>'
    )


def voc(tmp_path, *annotations, **options):
    """A data set with images 000001, 000002, ... of which each annotation is the XML inside."""
    names = [f'{number:06}' for number in range(1, len(annotations) + 1)]
    (tmp_path / 'Annotations').mkdir()
    (tmp_path / 'ImageSets' / 'Main').mkdir(parents=True)
    (tmp_path / 'ImageSets' / 'Main' / 'test.txt').write_text('\n'.join(names) + '\n')
    for name, text in zip(names, annotations, strict=True):
        (tmp_path / 'Annotations' / f'{name}.xml').write_text(f'<annotation>{text}</annotation>')
    return VOCMultiLabel(data_root=str(tmp_path), split='test', test_mode=True, **options)


def test_voc_labels(tmp_path):
    dataset = voc(
        tmp_path,
        voc_object('tvmonitor') + voc_object('aeroplane') + voc_object('tvmonitor'),
        voc_object('person', 1) + voc_object('cat', 1) + voc_object('cat'),
        voc_object('dog', 1),
    )
    assert labels(dataset) == [[0, 19], [7], []]
    assert [dataset.get_data_info(i)['gt_label_difficult'] for i in range(3)] == [[], [7, 14], [11]]
    assert dataset.get_data_info(1)['img_path'] == str(tmp_path / 'JPEGImages' / '000002.jpg')


def test_voc_agrees_with_mmpretrain(tmp_path):
    ours = voc(
        tmp_path,
        voc_object('sofa', 1) + voc_object('cow'),
        voc_object('bird') + voc_object('bus') + voc_object('bird', 1),
    )
    theirs = VOC(data_root=str(tmp_path), split='test', test_mode=True)
    assert [ours.get_data_info(i) for i in range(2)] == [theirs.get_data_info(i) for i in range(2)]


def test_voc_object_without_difficult(tmp_path):
    dataset = voc(tmp_path, '<object><name>cat</name></object>')
    assert labels(dataset) == [[7]]


def test_voc_unknown_class(tmp_path):
    with pytest.raises(ValueError, match=r"000002\.xml names the unknown class 'unicorn'.*person"):
        voc(tmp_path, voc_object('cat'), voc_object('cat') + voc_object('unicorn'))


def test_voc_object_without_a_name(tmp_path):
    with pytest.raises(ValueError, match=r'000001\.xml names the unknown class None'):
        voc(tmp_path, '<object><difficult>0</difficult></object>')


def test_voc_own_classes(tmp_path):
    dataset = voc(tmp_path, voc_object('unicorn'), metainfo={'classes': ('cat', 'unicorn')})
    assert labels(dataset) == [[1]]


def test_voc_broken_xml(tmp_path):
    with pytest.raises(ValueError, match=r'000001\.xml is not an XML file'):
        voc(tmp_path, '<object>')


def test_voc_missing_annotation(tmp_path):
    voc(tmp_path, voc_object('cat'))
    (tmp_path / 'Annotations' / '000001.xml').unlink()
    with pytest.raises(FileNotFoundError, match=r'000001\.xml'):
        VOCMultiLabel(data_root=str(tmp_path), split='test', test_mode=True)


@pytest.mark.parametrize('text', ['Unspecified', '', ' 0 '])
def test_voc_difficult_that_nobody_set(tmp_path, text):
    assert labels(voc(tmp_path, voc_object('dog', text))) == [[11]]


def test_voc_difficult_that_says_nothing(tmp_path):
    with pytest.raises(
        ValueError, match=r"000001\.xml has difficult='maybe' for 'dog'; it must be '0' or"
    ):
        voc(tmp_path, voc_object('dog', 'maybe'))
