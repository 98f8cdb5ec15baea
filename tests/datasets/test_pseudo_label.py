"""A data set with its labels replaced by pseudo labels."""

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from mmpretrain.datasets import CustomDataset, MultiLabelDataset
from PIL import Image

from mmtagclip.datasets import PseudoLabelDataset, VocabularySegDataset
from mmtagclip.jobs.description import Source
from mmtagclip.jobs.runner import Job, Manifest
from mmtagclip.records import ImageRecord
from tests.conftest import picture

NAMES = ('dog', 'cat', 'bus')
TAGS = [['dog'], [], ['dog', 'bus'], ['cat'], ['bus']]
SCORES = [[0.9], [], [0.4, 0.8], [0.7], [0.6]]


def png(array):
    import io

    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format='PNG')
    return buffer.getvalue()


@pytest.fixture
def images(tmp_path):
    """Five pictures, and real masks that are 1 throughout."""
    for folder in ('images', 'masks'):
        (tmp_path / folder).mkdir()
    for i in range(5):
        Image.fromarray(picture(32, 48, i)).save(tmp_path / 'images' / f'{i}.jpg')
        Image.fromarray(np.ones((32, 48), np.uint8)).save(tmp_path / 'masks' / f'{i}.png')
    return tmp_path


def labels(root, kind, classes, errors=()):
    """Pseudo labels of the five pictures; pseudo mask i is i throughout, with a corner of 255."""
    images = [Source(f'elsewhere/{i}.jpg') for i in range(5)]
    job = Job(root / kind, Manifest(kind, classes), images)
    for i in range(5):
        record = ImageRecord(images[i].name, TAGS[i], SCORES[i] if kind == 'tags' else None)
        if i in errors:
            record = ImageRecord(images[i].name, error='gone')
        mask = np.full((32, 48), i % 4, np.uint8)
        mask[0, 0] = 255
        job.add(i, record, {'masks.png': png(mask)} if kind == 'masks' else None)
    assert job.finish()
    return str(root / kind)


@pytest.fixture
def tagged(images):
    def build(pipeline=(), **options):
        data_list = [{'img_path': f'{i}.jpg', 'gt_label': [1]} for i in range(5)]
        import json

        (images / 'real.json').write_text(
            json.dumps({'metainfo': {'classes': NAMES}, 'data_list': data_list})
        )
        dataset = MultiLabelDataset(
            str(images / 'real.json'), data_prefix=str(images / 'images'), pipeline=pipeline
        )
        return PseudoLabelDataset(dataset, **options)

    return build


@pytest.fixture
def masked(images):
    def build(classes=NAMES, **options):
        init_default_scope('mmseg')
        dataset = VocabularySegDataset(
            classes,
            data_root=str(images),
            data_prefix={'img_path': 'images', 'seg_map_path': 'masks'},
            pipeline=[
                {'type': 'LoadImageFromFile'},
                {'type': 'LoadAnnotations'},
                {'type': 'PackSegInputs'},
            ],
        )
        return PseudoLabelDataset(dataset, **options)

    return build


def gt(dataset):
    return [dataset.get_data_info(i)['gt_label'] for i in range(len(dataset))]


def test_tags_replace_the_labels(tagged, images):
    dataset = tagged(labels=labels(images, 'tags', NAMES))
    assert gt(dataset) == [[0], [], [0, 2], [1], [2]]
    assert tuple(dataset.metainfo['classes']) == NAMES
    assert dataset.get_cat_ids(2) == [0, 2]


def test_untagged_and_unsure_images(tagged, images):
    folder = labels(images, 'tags', NAMES)
    assert gt(tagged(labels=folder, drop_untagged=True)) == [[0], [0, 2], [1], [2]]
    assert gt(tagged(labels=folder, min_score=0.65)) == [[0], [], [2], [1], []]
    assert gt(tagged(labels=folder, min_score=0.65, drop_untagged=True)) == [[0], [2], [1]]


def test_images_that_could_not_be_read_are_left_out(tagged, images):
    dataset = tagged(labels=labels(images, 'tags', NAMES, errors=[0]))
    assert gt(dataset) == [[], [0, 2], [1], [2]]
    assert dataset.get_data_info(0)['img_path'].endswith('1.jpg')


def test_the_published_text_format(tagged, masked, images):
    path = images / 'tags.txt'
    path.write_text('0 0\n1\n2 0 2\n3 1\n4 2\n')
    assert gt(tagged(labels=str(path))) == [[0], [], [0, 2], [1], [2]]
    assert gt(tagged(labels=str(path), drop_untagged=True)) == [[0], [0, 2], [1], [2]]
    folder = CustomDataset(data_prefix=str(images / 'images'), with_label=False)
    with pytest.raises(ValueError, match='needs a data set that has class names'):
        PseudoLabelDataset(folder, labels=str(path))
    with pytest.raises(ValueError, match='VocabularySegDataset needs masks'):
        masked(labels=str(path), classes=NAMES)
    path.write_text('0 3\n')
    with pytest.raises(ValueError, match='line 1 has the class index 3, but there are 3 classes'):
        tagged(labels=str(path))


def test_a_share_of_real_labels(tagged, images):
    folder = labels(images, 'tags', ('dog', 'cat', 'bus'))
    pseudo = gt(tagged(labels=folder))
    mixed = gt(tagged(labels=folder, real_fraction=0.4, seed=3))
    assert sum(one == [1] for one in mixed) >= 2
    assert sum(one != other for one, other in zip(pseudo, mixed, strict=True)) <= 2
    assert mixed == gt(tagged(labels=folder, real_fraction=0.4, seed=3))
    assert gt(tagged(labels=folder, real_fraction=1.0)) == [[1]] * 5
    with pytest.raises(ValueError, match='real_fraction must be in'):
        tagged(labels=folder, real_fraction=1.5)


def test_class_map(tagged, images):
    folder = labels(images, 'tags', ('dog', 'cat', 'bus'))
    names = {'dog': 'bus', 'cat': 'dog', 'bus': None}
    assert gt(tagged(labels=folder, class_map=names)) == [[2], [], [2], [0], []]
    with pytest.raises(ValueError, match="class_map lacks 'bus'"):
        tagged(labels=folder, class_map={'dog': 'dog', 'cat': 'cat'})
    with pytest.raises(ValueError, match="class_map names 'fox'"):
        tagged(labels=folder, class_map={**names, 'bus': 'fox'})


def test_a_folder_without_class_names_gets_those_of_the_labels(images):
    folder = CustomDataset(data_prefix=str(images / 'images'), with_label=False)
    dataset = PseudoLabelDataset(folder, labels=labels(images, 'tags', NAMES))
    assert dataset.metainfo['classes'] == NAMES
    assert gt(dataset) == [[0], [], [0, 2], [1], [2]]
    with pytest.raises(ValueError, match='class_map needs a data set that has class names'):
        PseudoLabelDataset(folder, labels=str(images / 'tags'), class_map={'dog': 'dog'})


def test_masks_replace_the_masks(masked, images):
    dataset = masked(labels=labels(images, 'masks', ('background', *NAMES)))
    assert len(dataset) == 5
    for i in range(5):
        mask = dataset[i]['data_samples'].gt_sem_seg.data[0]
        assert mask[0, 0] == 255
        assert (mask[1:] == i % 4).all()
    assert dataset.pipeline is dataset.dataset.pipeline


def test_masks_have_no_scores(masked, images):
    with pytest.raises(ValueError, match=r'min_score is for tags.*test_cfg\.confidence'):
        masked(labels=labels(images, 'masks', ('background', *NAMES)), min_score=0.5)


def test_masks_with_a_class_map(masked, images):
    folder = labels(images, 'masks', ('background', 'dog', 'cat', 'bus'))
    names = {'background': 'background', 'dog': 'animal', 'cat': 'animal', 'bus': None}
    dataset = masked(classes=('animal',), labels=folder, class_map=names)
    values = [dataset[i]['data_samples'].gt_sem_seg.data[0, 1, 1].item() for i in range(5)]
    assert values == [0, 1, 1, 255, 0]


def test_real_masks_stay_real(masked, images):
    dataset = masked(labels=labels(images, 'masks', ('background', *NAMES)), real_fraction=1.0)
    assert (dataset[0]['data_samples'].gt_sem_seg.data == 1).all()


def test_other_classes_or_kinds_are_refused(tagged, masked, images):
    with pytest.raises(ValueError, match="class 0 is 'cat' there and 'dog' here"):
        tagged(labels=labels(images, 'tags', ('cat', 'dog', 'bus')))
    masks = labels(images, 'masks', NAMES)
    with pytest.raises(ValueError, match='has masks, but MultiLabelDataset needs tags'):
        tagged(labels=masks)


def test_an_image_without_pseudo_labels_is_named(tagged, images):
    job = Job(images / 'few', Manifest('tags', NAMES), [Source('0.jpg')])
    job.add(0, ImageRecord('0.jpg'))
    assert job.finish()
    with pytest.raises(ValueError, match=r'few has no image with the name of .*1\.jpg'):
        tagged(labels=str(images / 'few'))


def test_two_images_of_one_name_do_not_share_a_mask(masked, images):
    folder = labels(images, 'masks', ('background', *NAMES))
    for kind, ending in (('images', 'jpg'), ('masks', 'png')):
        (images / kind / 'trip').mkdir()
        (images / kind / f'0.{ending}').rename(images / kind / 'trip' / f'1.{ending}')
    with pytest.raises(ValueError, match=r'elsewhere/1\.jpg, for two images, .*trip/1\.jpg'):
        masked(labels=folder)


def test_a_pipeline_that_returns_nothing(tagged, images):
    folder = labels(images, 'tags', NAMES)

    def only_some(info):
        return info if info['gt_label'] == [1] else None

    dataset = tagged(labels=folder, pipeline=[only_some])
    np.random.seed(0)
    assert dataset[0]['gt_label'] == [1]
    never = tagged(labels=folder, pipeline=[lambda info: None], max_refetch=3)
    with pytest.raises(ValueError, match='returned nothing 4 times in a row'):
        never[0]
    never.dataset.test_mode = True
    with pytest.raises(ValueError, match=r'returned nothing for .*0\.jpg'):
        never[0]
