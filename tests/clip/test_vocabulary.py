"""Class names, synonyms and templates."""

import hashlib
import json

import numpy as np
import pytest
from mmseg.datasets import (
    ADE20KDataset,
    CityscapesDataset,
    COCOStuffDataset,
    PascalContextDataset59,
    PascalVOCDataset,
)
from open_clip import OPENAI_IMAGENET_TEMPLATES

from mmtagclip.clip import Vocabulary, load_templates, parse_names, vocabulary
from mmtagclip.clip.vocabulary import BUILTIN_DIR, load_integers
from tests.golden import GOLDEN


def test_list_of_names_and_synonyms():
    vocabulary = Vocabulary.load(['dog', ('cat', 'kitten')])
    assert vocabulary.names == ('dog', 'cat')
    assert vocabulary.phrases == (('dog',), ('cat', 'kitten'))
    assert len(vocabulary + Vocabulary.load(['sky'])) == 3


def test_names_with_their_synonyms_as_a_dict_and_names_that_come_one_by_one():
    vocabulary = Vocabulary.load({'dog': ['puppy', 'hound'], 'cat': 'kitten', 'bird': ()})
    assert vocabulary.phrases == (('dog', 'puppy', 'hound'), ('cat', 'kitten'), ('bird',))
    assert Vocabulary.load(name for name in ('dog', 'cat')).names == ('dog', 'cat')


def test_file_with_synonyms_quotes_comments_and_a_byte_order_mark(tmp_path):
    path = tmp_path / 'names.txt'
    path.write_text(
        '\ufeff# my classes\ndog, puppy, hound\n\n"person, people", human\nbird\n', encoding='utf-8'
    )
    assert Vocabulary.load(path).phrases == (
        ('dog', 'puppy', 'hound'),
        ('person, people', 'human'),
        ('bird',),
    )


@pytest.mark.parametrize(
    'name',
    sorted(
        path.stem
        for path in BUILTIN_DIR.glob('*.txt')
        if not path.stem.startswith('templates') and not path.stem.endswith(('values', 'groups'))
    ),
)
def test_built_in_lists_load(name):
    vocabulary = Vocabulary.load(name)
    counts = {'voc': 20, 'coco': 80, 'cocostuff': 171, 'nus_wide': 81, 'ade20k': 150}
    assert len(vocabulary) == counts.get(name.removesuffix('_clsseg'), len(vocabulary)) > 0


@pytest.mark.parametrize(
    ('source', 'error', 'message'),
    [
        (['dog', ''], ValueError, 'class 1 has an empty name'),
        (['dog', ('cat', ' ')], ValueError, 'class 1 has an empty name or synonym'),
        (['dog', ()], ValueError, 'class 1 has no name or phrase'),
        (['dog', 'cat', 'dog'], ValueError, r"more than once: \['dog'\]"),
        (['dog', 7], TypeError, '7 of type int'),
        (7, TypeError, 'not 7'),
        ({'dog', 'cat'}, TypeError, 'a set of class names has no order'),
        ({'dog': ['puppy', '']}, ValueError, 'class 0 has an empty name or synonym'),
        ('no_such_list', FileNotFoundError, 'built-in list .*voc'),
    ],
)
def test_bad_names(source, error, message):
    with pytest.raises(error, match=message):
        Vocabulary.load(source)


@pytest.mark.parametrize('odd', ['\n', '\x00', '\x1f', '\t', '\ud800', '\ufffe'])
def test_a_name_that_no_file_of_results_can_hold_is_refused(odd):
    with pytest.raises(ValueError, match='class 1 has a character in its name that is no text'):
        Vocabulary.load(['cat', f'a{odd}b'])
    # A phrase is only read by the tokenizer.
    assert Vocabulary((('a\tb',),), ('ü\x85\u2028\U0001f40d',)).names == ('ü\x85\u2028\U0001f40d',)


def test_bad_file_is_named(tmp_path):
    path = tmp_path / 'names.txt'
    path.write_text('dog\ncat\ndog\n')
    with pytest.raises(ValueError, match=r'names\.txt: .*more than once'):
        Vocabulary.load(path)
    path.write_bytes(b'caf\xe9\n')
    with pytest.raises(ValueError, match=r'names\.txt is not a UTF-8 text file'):
        Vocabulary.load(path)


def test_templates():
    assert len(load_templates('templates_85')) == 85
    assert len(load_templates('templates_80')) == 80
    assert load_templates(['a {}.']) == ('a {}.',)


@pytest.mark.parametrize(
    ('source', 'error', 'message'),
    [
        (['a photo'], ValueError, "exactly once.*'a photo'"),
        (['{} and {}'], ValueError, 'exactly once'),
        ([], ValueError, 'no prompt template'),
        ([3], TypeError, 'must be a string, not 3'),
        ('no_such_list', FileNotFoundError, 'neither a file nor a built-in list'),
    ],
)
def test_bad_templates(source, error, message):
    with pytest.raises(error, match=message):
        load_templates(source)


def test_an_open_quote_is_an_error(tmp_path):
    path = tmp_path / 'names.txt'
    path.write_text('"dog, cat\nbird\n')
    with pytest.raises(ValueError, match=r'names\.txt: .*'):
        Vocabulary.load(path)


def test_names_are_stripped():
    with pytest.raises(ValueError, match=r"more than once: \['dog'\]"):
        Vocabulary.load(['dog', ' dog '])


def test_a_path_is_not_taken_for_a_built_in_list(tmp_path):
    (tmp_path / 'voc').write_text('dog\n')
    (tmp_path / 'voc.txt').write_text('cat\n')
    assert Vocabulary.load(str(tmp_path / 'voc')).names == ('dog',)


def test_integers(tmp_path):
    assert load_integers('cocostuff_groups')[:3] == [9, 11, 11]
    path = tmp_path / 'values.txt'
    path.write_text('1\ntwo\n')
    with pytest.raises(ValueError, match=r'values\.txt must have one integer per line'):
        load_integers(path)


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('dog', 'dog'),
        ('dog,cat', 'dog cat'),
        (' dog, traffic  light ,"big, red bus" ,', 'dog traffic_light big,_red_bus'),
        ('dog, cat\nbird\r\ndog', 'dog cat bird'),
        ('"big,\nred bus"', 'big,_red_bus'),
        ('tv/monitor, dog', 'tv/monitor dog'),
        ('~nobody', '~nobody'),
        (' , \n', ''),
        (', '.join(['dog', *map(str, range(3000))]), ' '.join(['dog', *map(str, range(3000))])),
    ],
)
@pytest.mark.parametrize('files', [True, False])
def test_typed_names(text, expected, files):
    names = parse_names(text, files).names
    assert names == tuple(name.replace('_', ' ') for name in expected.split())


def test_typed_names_of_lists_and_files(tmp_path):
    path = tmp_path / 'names'
    path.write_text('dog, puppy\ncat\n')
    assert parse_names(' voc\n') == parse_names('voc', files=False) == Vocabulary.load('voc')
    assert parse_names(str(path)).phrases == (('dog', 'puppy'), ('cat',))
    with pytest.raises(FileNotFoundError, match='names, as files are not read here'):
        parse_names(str(path), files=False)


@pytest.mark.parametrize('text', ['names.txt', 'my/names', 'dog, names.csv'])
def test_a_typed_file_that_is_not_there_is_no_name(text):
    with pytest.raises(FileNotFoundError, match='no file of names at '):
        parse_names(text)


def test_a_typed_quote_that_is_not_closed_is_an_error():
    with pytest.raises(ValueError, match='a quote is not closed in the names'):
        parse_names('dog, "big, red bus')


# Where a list is published in a file of the tests or a library: that list itself.
GOLDEN_NAMES = json.loads((GOLDEN / 'names.json').read_text(encoding='utf-8'))
PUBLISHED = {
    'coco': GOLDEN_NAMES['coco'],
    'coco_background': GOLDEN_NAMES['coco_background'],
    'coco_clsseg': GOLDEN_NAMES['coco_clsseg'],
    # COCO's category ids leave out the eleven that no annotation has.
    'coco_values': sorted({*range(1, 91)} - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}),
    'cocostuff': GOLDEN_NAMES['cocostuff171'],
    'cocostuff_clsseg': GOLDEN_NAMES['cocostuff171_clsseg'],
    'cocostuff_clsseg_background': GOLDEN_NAMES['cocostuff_clsseg_background'],
    # Ids from 1 and the groups of the 182 ids; a mask's value is its id less 1.
    'cocostuff_groups': [
        GOLDEN_NAMES['cocostuff182_to_27'][i - 1] for i in GOLDEN_NAMES['cocostuff171_ids182']
    ],
    'cocostuff_values': [i - 1 for i in GOLDEN_NAMES['cocostuff171_ids182']],
    'ade20k': [name.strip() for name in ADE20KDataset.METAINFO['classes']],
    'pascal_context': PascalContextDataset59.METAINFO['classes'],
    'templates_80': [template('{}') for template in OPENAI_IMAGENET_TEMPLATES],
    'templates_85': GOLDEN_NAMES['templates_85'],
    'templates_origami': [GOLDEN_NAMES['template_clsseg']],
    'templates_photo': ['a photo of a {}.'],
    'voc': GOLDEN_NAMES['voc'],
    'voc_background': GOLDEN_NAMES['voc_background'],
    'voc_clsseg': GOLDEN_NAMES['voc_clsseg'],
}
# Where it is published elsewhere: the first digits of the SHA-256 of its lines, and where. Those in
# the repositories of SCLIP, ITACLIP and ProxyCLIP were compared line by line; do so again before
# changing a digest.
DIGESTS = {
    'seg_ade20k_activesam': (
        'fc136b214324be8d',
        "ActiveSAM's map of words on SCLIP's list",
    ),
    'seg_cityscapes_activesam': ('42d38213b35c667c', "ActiveSAM's map on SegEarth-OV3's list"),
    'seg_cityscapes_segearth': ('099023d64b1648e2', "SegEarth-OV3's words"),
    'seg_coco_activesam': ('d8f181a35fc58745', "ActiveSAM's map on SegEarth-OV3's list"),
    'seg_cocostuff_activesam': ('13360e33d6409f26', "ActiveSAM's map on SegEarth-OV3's list"),
    'seg_pascal_context_activesam': (
        'b9c58c6bc9f11171',
        "ActiveSAM's map on SegEarth-OV3's list",
    ),
    'seg_voc_activesam': ('f8300937c680cf72', "ActiveSAM's map on SegEarth-OV3's list"),
    'seg_voc_segearth': ('653c79887c452eeb', "SegEarth-OV3's words"),
    'cityscapes': ('6f6782fc1bf92bfd', 'configs/cls_city_scapes.txt of SCLIP'),
    'cocostuff27': ('787105e7b08b120d', 'the groups of the published class map of COCO-Stuff'),
    'nus_wide': ('454b648677332111', 'Concepts81.txt of NUS-WIDE'),
    'seg_ade20k': ('e53ded02c488bdb9', 'configs/cls_ade20k.txt of SCLIP'),
    'seg_cityscapes_itaclip': ('75773bc7fa5cb719', 'configs/cls_cityscapes.txt of ITACLIP'),
    'seg_coco': (
        '823efabb8d14bb89',
        'configs/cls_coco_object.txt of SCLIP, but for its first line',
    ),
    'seg_coco_background': (
        'a55a8aaf3b77b4d7',
        "configs/cls_coco_object.txt of SCLIP, its first line without 'bed'",
    ),
    'seg_coco_background_proxyclip': (
        '8786029bfc5903e4',
        "configs/cls_coco_object.txt of ProxyCLIP, its first line without 'bed'",
    ),
    'seg_coco_itaclip': (
        '5dcff91d827709ad',
        'configs/cls_coco_object.txt of ITACLIP, but for its first line',
    ),
    'seg_coco_plain': (
        'd7654b2610157284',
        'configs/cls_coco_object.txt of ProxyCLIP, but for its first line',
    ),
    'seg_cocostuff': ('fb98709b9ab1baff', 'configs/cls_coco_stuff.txt of SCLIP'),
    'seg_cocostuff_itaclip': ('c7a8610f3315a62f', 'configs/cls_coco_stuff.txt of ITACLIP'),
    'seg_pascal_context_itaclip': (
        'b2b87f8244ee9cd1',
        'configs/cls_context60.txt of ITACLIP, but for its first line',
    ),
    'seg_voc': ('c68f65a2b342397c', 'configs/cls_voc21.txt of SCLIP, but for its first line'),
    'seg_voc_background': ('bcfdf1a3178c1702', 'configs/cls_voc21.txt of SCLIP, its first line'),
    'seg_voc_background_itaclip': (
        '42946fa85c6309d1',
        'configs/cls_voc21.txt of ITACLIP, its first line',
    ),
    'seg_voc_itaclip': (
        'c56473292d16956e',
        'configs/cls_voc21.txt of ITACLIP, but for its first line',
    ),
    'seg_voc_plain': ('6b9a85ffb907e34a', 'configs/cls_voc20.txt of ProxyCLIP'),
}


def lines(name):
    """Lines of a built-in list but for comments and for names that only results report."""
    text = (BUILTIN_DIR / f'{name}.txt').read_text(encoding='utf-8')
    lines = [line for line in text.splitlines() if line and not line.startswith('#')]
    return [line.rpartition(' = ')[2] for line in lines]


@pytest.mark.parametrize('name', sorted(PUBLISHED))
def test_built_in_lists_are_the_published_ones(name):
    load = (
        load_integers
        if name.endswith(('values', 'groups'))
        else load_templates
        if name.startswith('templates')
        else lambda source: [phrases[0] for phrases in Vocabulary.load(source).phrases]
    )
    assert list(load(name)) == list(PUBLISHED[name])
    if load not in (load_integers, load_templates):
        assert all(len(phrases) == 1 for phrases in Vocabulary.load(name).phrases)


@pytest.mark.parametrize('name', sorted(DIGESTS))
def test_built_in_lists_stay_as_they_are(name):
    digest, source = DIGESTS[name]
    content = '\n'.join(lines(name)).encode()
    assert hashlib.sha256(content).hexdigest().startswith(digest), f'{name} is {source}'


@pytest.mark.parametrize('name', sorted(DIGESTS.keys() | PUBLISHED.keys()))
def test_classes_are_called_as_their_data_set_calls_them(name):
    stuff = COCOStuffDataset.METAINFO['classes']
    called = {
        'voc': PascalVOCDataset.METAINFO['classes'][1:],
        'coco': stuff[:80],
        'cocostuff': stuff,
        'cityscapes': CityscapesDataset.METAINFO['classes'],
        'ade20k': [one.strip() for one in ADE20KDataset.METAINFO['classes']],
        'pascal_context': PascalContextDataset59.METAINFO['classes'],
    }
    parts = name.removeprefix('seg_').split('_')
    kinds = {'background', 'values', 'groups'} & set(parts)
    dataset = next((one for one in called if one == '_'.join(parts[: one.count('_') + 1])), None)
    if kinds or dataset is None:
        assert name.startswith('templates') or kinds or name in ('nus_wide', 'cocostuff27')
    else:
        assert Vocabulary.load(name).names == tuple(called[dataset])


def test_a_class_that_is_not_called_as_it_is_prompted(tmp_path):
    path = tmp_path / 'names.txt'
    path.write_text('tv = tvmonitor, "screen, flat"\n"a = b", c\nx, y = z\nplain\n')
    vocabulary = Vocabulary.load(path)
    assert vocabulary.names == ('tv', 'a = b', 'x', 'plain')
    assert vocabulary.phrases == (
        ('tvmonitor', 'screen, flat'),
        ('a = b', 'c'),
        ('x', 'y = z'),
        ('plain',),
    )
    for same in (
        parse_names('tv = tvmonitor, dog'),
        Vocabulary.load(['tv = tvmonitor', 'dog']),
        Vocabulary((('tvmonitor',), ('dog',)), ('tv', 'dog')),
    ):
        assert same == Vocabulary.load({'tv = tvmonitor': (), 'dog': []})
        assert same.names == ('tv', 'dog')
        assert (same + vocabulary.without(same)).names == ('tv', 'dog', 'a = b', 'x', 'plain')
        assert same.without(Vocabulary.load(['tvmonitor'])).names == ('dog',)
        assert same.without(Vocabulary.load(['tv'])).phrases == (('dog',),)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('tv =\n', 'class 0 has no name or phrase'),
        ('tv = a\ntv = b\n', "more than once: \\['tv'\\]"),
        ('0 = dog\n1 = cat\n', 'has numbers before its names'),
    ],
)
def test_bad_names_of_prompts(tmp_path, text, message):
    path = tmp_path / 'names.txt'
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        Vocabulary.load(path)


def test_as_many_names_as_classes():
    with pytest.raises(ValueError, match='2 names for 1 classes'):
        Vocabulary((('dog',),), ('dog', 'cat'))


def test_every_built_in_list_has_a_source():
    assert {path.stem for path in BUILTIN_DIR.glob('*.txt')} == {*PUBLISHED, *DIGESTS}
    assert not PUBLISHED.keys() & DIGESTS.keys()


# Files in which other tools keep classes, by what they are called, and their phrases.
CLASS_FILES = {
    'list.json': ('["bell", "train"]', 'bell,train'),
    'lines.txt': ('[\n"bell",\n"train"\n]\n', 'bell,train'),
    'python.txt': ("['bell', 'train']\n", 'bell,train'),
    'synonyms.json': ('[["bell", "gong"], "train"]', 'bell/gong,train'),
    'dict.json': ('\ufeff{"bell": ["gong"],\r\n "train": []}', 'bell/gong,train'),
    'numbered.json': ('{"1": "train", "0": "bell", "10": "owl"}', 'bell,train,owl'),
    'numbers.txt': ('{"train": 1,\n "bell": 0}', 'bell,train'),
    'coco.json': (
        '{"images": [{"id": 3}], "annotations": [], "categories": '
        '[{"id": 9, "name": "bell", "supercategory": "thing"}, {"id": 4, "name": "train"}]}',
        'bell,train',
    ),
    'lvis.json': (
        '{"categories": [{"name": "aerosol_can", "synset": "aerosol.n.02", '
        '"synonyms": ["aerosol_can", "spray_can"]}, {"name": "bell", "synonyms": ["bell"]}]}',
        'aerosol can/spray can,bell',
    ),
    'cvat.json': (
        '[\n {\n  "name": "bell",\n  "id": 1,\n  "color": "#ff0000",\n  "attributes": []\n },\n'
        ' {"name": "train", "type": "tag", "attributes": []}\n]',
        'bell,train',
    ),
    'label_studio.xml': (
        '<View>\n <Image name="i" value="$image"/>\n <Choices name="c" toName="i">\n'
        '  <Choice value="bell"/><Choice value="big, red train"/>\n </Choices>\n</View>',
        'bell,big; red train',
    ),
    'shapes.txt': (
        '<?xml version="1.0"?><View><Image name="i" value="$i"/><RectangleLabels name="r" '
        'toName="i"><Label value="bell" background="red"/></RectangleLabels></View>',
        'bell',
    ),
    'data.yaml': ('# of a detector\npath: ../data\nnames:\n  0: bell\n  1: train\n', 'bell,train'),
    'flow.txt': ('nc: 2\nnames: [bell, train]\n', 'bell,train'),
    'list.yml': ('- bell\n- [train, railway]\n', 'bell,train/railway'),
    'dashes.txt': ('---\n- bell\n', 'bell'),
    'dict.yaml': ('bell: [gong]\ntrain:\nowl: bird\n', 'bell/gong,train,owl/bird'),
    'numbers.yaml': ('0: bell\n1: train\n', 'bell,train'),
    'entries.txt': ('- name: bell\n  id: 3\n', 'bell'),
    'openimages.csv': (
        'LabelName,DisplayName\r\n/m/011k07,Tortoise\r\n/m/0120dh,"Food, hot"\r\n',
        'Tortoise,Food; hot',
    ),
    'boxable.csv': ('/m/011k07,Tortoise\n/g/11abc,Bell\n', 'Tortoise,Bell'),
    'ram.txt': ('bell | traffic light | train \n', 'bell,traffic light,train'),
    'three.txt': ('bell | owl\ncow | dog |\n', 'bell,owl,cow,dog'),
}


@pytest.mark.parametrize('name', CLASS_FILES)
def test_class_files_of_other_tools(tmp_path, name):
    text, expected = CLASS_FILES[name]
    path = tmp_path / name
    path.write_text(text, encoding='utf-8', newline='')
    phrases = [tuple(one.replace(';', ',').split('/')) for one in expected.split(',')]
    assert list(Vocabulary.load(path).phrases) == phrases
    assert parse_names(str(path)) == Vocabulary.load(path)


def test_lvis_classes_keep_their_names(tmp_path):
    path = tmp_path / 'lvis.json'
    path.write_text(CLASS_FILES['lvis.json'][0])
    assert Vocabulary.load(path).names == ('aerosol_can', 'bell')


@pytest.mark.parametrize(
    ('name', 'text', 'error', 'message'),
    [
        ('a.json', '{"image": "a.jpg", "tags": ["bell"]}', ValueError, "holds 'image'.* results"),
        ('a.json', '{"images": [], "annotations": []}', ValueError, "holds 'annotations'"),
        ('a.json', '{"annotations": [], "categories": []}', ValueError, "under 'categories'"),
        ('a.json', '["bell", 7]', TypeError, 'has 7 as class 1, .*: put it in quotes'),
        ('a.yml', 'names:\n- bell\n- no\n', TypeError, 'has False as class 1'),
        ('a.json', '[{"id": 1}]', ValueError, r"without a name, number 0: \{'id': 1\}"),
        ('a.json', '["bell", "bell"]', ValueError, r"a\.json: .*more than once: \['bell'\]"),
        ('a.json', '["bell", ["owl", ""]]', ValueError, r'a\.json: class 1 has an empty name'),
        ('a.json', '["bell"', ValueError, 'is neither JSON nor YAML as a whole: while parsing'),
        ('a.json', '"bell"', ValueError, 'holds no list of names'),
        ('a.yaml', 'bell\n', ValueError, 'holds no list of names'),
        ('a.json', '[' * 100000, ValueError, 'is neither JSON nor YAML'),
        ('a.xml', '<View/>', ValueError, r'a\.xml: the label config has no'),
        (
            'a.yml',
            '\n'.join(['- &a0 [x, x]', *(f'- &a{i} [*a{i - 1}, *a{i - 1}]' for i in range(1, 30))]),
            ValueError,
            r'a\.yml has the YAML alias \*a0 in line 2: write out',
        ),
        ('a.yml', 'a: &x {b: c}\nd: {<<: *x}\n', ValueError, r'alias \*x in line 2'),
        (
            'a.yml',
            f'- [{"x" * 900}, [{"y" * 900}]]',
            TypeError,
            r"has \['y+\.\.\.y+'\] of type list$",
        ),
        ('a.yml', '!!python/object/apply:os.abort []\n', ValueError, 'is neither JSON nor YAML'),
    ],
)
def test_bad_class_files_of_other_tools(tmp_path, name, text, error, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(error, match=message) as caught:
        Vocabulary.load(path)
    assert str(path) in str(caught.value)


def test_the_lists_of_imagenet():
    names = Vocabulary.load('imagenet12k')
    assert parse_names(' imagenet12k') is names  # put together once
    # 11,821 classes, 421 of which have no lemma that is not the name of an earlier one.
    assert len(names) == 11400
    of = dict(zip(names.names, names.phrases, strict=True))
    assert of['person'] == ('person', 'individual', 'someone', 'somebody', 'mortal', 'soul')
    assert of['monitor'] == ('monitor', 'monitor lizard', 'varan')
    assert of['monitoring device'] == ('monitoring device', 'monitor')
    with pytest.raises(ValueError, match=r'did you mean imagenet12k'):
        parse_names('imagenet-12k')


# Texts that are no class lists, and what is said of each.
OTHER_FORMATS = {
    '---\nbell\n': 'holds no list of names',
    '* bell\n* train\n': 'is neither JSON nor YAML',
    '{"image": "a.jpg", "tags": ["bell"]}\n{"image": "b.jpg", "tags": []}\n': 'is neither JSON',
    '<annotation>\n<name>bell</name>\n': 'is XML or HTML',
    "classes = [\n'bell',\n]\n": 'is Python code',
    'a photo of a {}.\nart of the {}.\n': 'holds prompt templates',
    'id,name\n1,bell\n2,train\n': r"is a table with a header \('id,name'\)",
    'image,tag,score\na.jpg,bell,0.8\n': 'is a table with a header',
    'image,tag,score,share\na.jpg,bell,0.8,0.1\n': 'is a table with a header',
    '"id","name"\n"1","bell"\n': 'is a table with a header',
    'Name, Synonyms\nbell, gong\n': 'is a table with a header',
    'name\nbell\n': 'is a table with a header',
    '1,bell\n3,train\n': 'has numbers before its names',
    '1. bell\n2. train\n': 'has numbers before its names',
    '1) bell\n2) train\n': 'has numbers before its names',
    '0 bell\n1 train\n': 'has numbers before its names',
    'n01440764 tench, Tinca tinca\nn01443537 goldfish\n': 'has numbers before its names',
    'id;name\n1;bell\n': r"has semicolons between its columns \('id;name'\)",
    'bell;train;octopus\n': 'has semicolons',
    '7\tbell\n9\ttrain\n': 'has tabs',
    '| name |\n|---|\n| bell |\n': 'has vertical bars',
    'bell\0train\n': 'is not a text file',
}


@pytest.mark.parametrize('text', OTHER_FORMATS)
def test_files_of_other_formats_are_refused(tmp_path, text):
    path = tmp_path / 'names.txt'
    path.write_text(text)
    with pytest.raises(ValueError, match=rf'names\.txt {OTHER_FORMATS[text]}'):
        Vocabulary.load(path)
    with pytest.raises(ValueError, match=r'names\.txt .*'):
        parse_names(str(path))


@pytest.mark.parametrize(
    ('text', 'names'),
    [
        ('12-gauge\n35 mm film\n', ['12-gauge', '35 mm film']),
        ('e.g. a: b\ntitle: subtitle\n', ['e.g. a: b', 'title: subtitle']),
        ('1 euro coin\n2 euro coin\n', ['1 euro coin', '2 euro coin']),
        ('0\n1\n2\n', ['0', '1', '2']),
        ('Boeing 747\nBoeing 737\n', ['Boeing 747', 'Boeing 737']),
        ('tag, label\nimage\n', ['tag', 'image']),
        ('label\nsticker\n', ['label', 'sticker']),
        ('dog,\tpuppy\n', ['dog']),
        ('[old] car, auto\n(new) car\n', ['[old] car', '(new) car']),
        ('[MASK]\n', ['[MASK]']),
        ('<3\n', ['<3']),
        ('rock &amp; roll\n', ['rock &amp; roll']),
        ('x-ray\n-\n', ['x-ray', '-']),
        ('"name"\nclass of pupils\n', ['name', 'class of pupils']),
        ('"0: bell"\n"a; b"\n', ['0: bell', 'a; b']),
        ('"0", zero\n"1", one\n', ['0', '1']),
        ('~foo\ncaf\u00e9\n\u72ac\n', ['~foo', 'caf\u00e9', '\u72ac']),
        ('it\'s, "it is"\n', ["it's"]),
        ('', []),
    ],
)
def test_odd_names_stay_names(tmp_path, text, names):
    path = tmp_path / 'names.txt'
    path.write_text(text, encoding='utf-8')
    assert list(Vocabulary.load(path).names) == names


@pytest.mark.parametrize(
    ('text', 'name'),
    [
        ('coko', 'coco'),
        ('COCO', 'coco'),
        ('VOC', 'voc'),
        ('nus-wide', 'nus_wide'),
        ('pascal context', 'pascal_context'),
        ('cityscape', 'cityscapes'),
        ('ade-20k', 'ade20k'),
    ],
)
def test_a_mistyped_built_in_list_is_asked_back(tmp_path, monkeypatch, text, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"no built-in list; did you mean {name}.*'{text},'"):
        parse_names(text)
    assert parse_names(f'{text},').names == (text,)
    (tmp_path / text).write_text('dog\n')
    assert parse_names(text).names == ('dog',)


def test_a_long_text_is_not_compared_with_the_lists(monkeypatch):
    """That takes seconds for the longest question of the web page."""
    monkeypatch.setattr(vocabulary, '_near_lists', None)
    assert parse_names('xyz ' * 20, files=False).names == ('xyz ' * 19 + 'xyz',)
    assert max(map(len, vocabulary._builtin_names())) < vocabulary.LONGEST_LIST


@pytest.mark.parametrize('text', ['auto', 'Auto', 'auto:names'])
def test_names_of_each_image_are_no_list(text):
    with pytest.raises(ValueError, match=r'chosen for each image.*AutoNames\(\)'):
        parse_names(text)
    assert parse_names(f'{text},').names == (text,)


def test_an_array_of_names():
    assert Vocabulary.load(np.array(['dog', 'cat'])).names == ('dog', 'cat')


@pytest.mark.parametrize('text', ['dog', 'cook', 'city', 'doc', 'vow', 'coko, dog', '"coko"'])
def test_other_single_names_are_classes(text):
    assert len(parse_names(text)) == text.count(',') + 1


@pytest.mark.parametrize('text', ['names.yaml', 'names.JSON', 'my.tsv'])
def test_files_of_other_endings_are_no_classes(text):
    with pytest.raises(FileNotFoundError, match='no file of names at'):
        parse_names(text)


def test_a_file_whose_name_begins_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    (tmp_path / '~names').write_text('dog\n')
    assert Vocabulary.load('~names').names == parse_names('~names').names == ('dog',)
    (tmp_path / 'home').mkdir()
    (tmp_path / 'home' / 'names').write_text('cat\n')
    assert Vocabulary.load('~/names').names == parse_names('~/names').names == ('cat',)
