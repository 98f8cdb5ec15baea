"""Class names, synonyms and templates."""

import pytest

from mmtagclip.clip import Vocabulary, load_templates, parse_names
from mmtagclip.clip.vocabulary import BUILTIN_DIR, load_integers


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
        (['dog', ()], ValueError, 'class 1 has no name'),
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
    with pytest.raises(ValueError, match=r'values\.txt must hold an integer a line'):
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
