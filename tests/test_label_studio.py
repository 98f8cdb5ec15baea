"""Predictions of Label Studio's tasks."""

import pytest

from mmtagclip.apis import zoo_root
from mmtagclip.label_studio import Annotator

SCENES = zoo_root() / 'demo/data/JPEGImages'
CONFIG = """<View><Image name="photo" value="$picture"/>
<{control} name="what" toName="photo">
<{child} value="bell"/><{child} value="a red train"/></{control}></View>"""
TASKS = [{'id': 7, 'data': {'picture': '/data/000040.jpg'}}, {'id': 8, 'data': {'picture': 'x'}}]


def path_of(address, task):
    assert task in TASKS
    return str(SCENES / address.removeprefix('/data/'))


def annotator(inferencer):
    """One of a model that is built already."""
    made = object.__new__(Annotator)
    made.inferencer, made.min_area, made.tolerance = inferencer, 16, 1.0
    return made


@pytest.mark.parametrize(
    ('control', 'key'),
    [
        ('BrushLabels', 'rle'),
        ('PolygonLabels', 'points'),
        ('RectangleLabels', 'width'),
        ('Choices', 'choices'),
    ],
)
def test_names_of_the_label_config_are_found(demo_segmentor, control, key, caplog):
    child = 'Choice' if control == 'Choices' else 'Label'
    config = CONFIG.format(control=control, child=child)
    one, broken = annotator(demo_segmentor).predict(TASKS, config, path_of)
    assert broken['result'] == []
    assert 'no image at' in caplog.text
    (expected,) = demo_segmentor(SCENES / '000040.jpg', classes=['bell', 'a red train'])
    assert one['score'] == max(expected.tags.values())
    names = set()
    for region in one['result']:
        assert (region['from_name'], region['to_name']) == ('what', 'photo')
        assert key in region['value']
        names |= set(region['value'][region['type']])
    wanted = expected.tags if control == 'Choices' else set(expected.shares) - {'background'}
    assert names
    assert names <= set(wanted)


def test_a_tagger_has_choices_only(demo_tagger):
    some = annotator(demo_tagger)
    config = CONFIG.format(control='Choices', child='Choice')
    ((one,),) = [task['result'] for task in some.predict(TASKS[:1], config, path_of)]
    (expected,) = demo_tagger(SCENES / '000040.jpg', classes=['bell', 'a red train'])
    assert one['value']['choices'] == list(expected.tags)
    with pytest.raises(ValueError, match='what needs masks, and this model makes tags'):
        some.predict(TASKS[:1], CONFIG.format(control='BrushLabels', child='Label'), path_of)


def test_a_model_by_its_name():
    (one,) = Annotator('tagclip_demo', device='cpu').predict(
        TASKS[:1], CONFIG.format(control='Choices', child='Choice'), path_of
    )
    assert one['model_version'].startswith('mmtagclip ')
