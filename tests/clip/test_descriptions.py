"""Prompts from descriptions, and how their features are joined: released arithmetic, bad files."""

import json

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from mmtagclip.clip import Described, Descriptions, Names, Vocabulary, cluster, enrich, load_labels
from mmtagclip.clip.descriptions import clause, load_descriptors
from tests.golden import GOLDEN

WORDS = GOLDEN / 'words'
RECIPE = json.loads((WORDS / 'recipe.json').read_text())
PROMPTS = json.loads((WORDS / 'dclip_prompts.json').read_text())
SAID = {name: texts for name, texts in RECIPE['descriptors'].items() if texts}
CLOSE = {'atol': 1e-6, 'rtol': 0}


def load(name):
    with np.load(WORDS / f'{name}.npz') as file:
        return {
            key: torch.from_numpy(np.array(file[key]))
            for key in file
            if file[key].dtype != 'O' and file[key].dtype.kind in 'fiu'
        }


def described(features, counts, join='mean', temperature=1.0, scale=1.0):
    """Descriptions of classes with these numbers of prompts."""
    owners = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    words = tuple(tuple(f'{c}.{k}' for k in range(n)) for c, n in enumerate(counts))
    return Described(words, features, owners, join, temperature, scale)


@pytest.mark.parametrize('descriptor', PROMPTS['sentences'])
def test_published_clauses(descriptor):
    assert clause(descriptor, 'prefix') == PROMPTS['sentences'][descriptor]


@pytest.mark.parametrize(
    ('descriptor', 'expected'),
    [
        ('antenna-like feathers', 'which has antenna-like feathers'),
        ('mayoral livery', 'which has mayoral livery'),
        ('canary yellow bill', 'which has canary yellow bill'),
        ('an arched handle', 'which is an arched handle'),
        ('A spout', 'which is A spout'),
        ('may show footprints', 'which may show footprints'),
        ('used on a stove', 'which is used on a stove'),
        ('steam', 'which has steam'),
    ],
)
def test_clauses_by_whole_words(descriptor, expected):
    assert clause(descriptor) == expected
    assert clause(descriptor, 'plain') == descriptor


@pytest.mark.parametrize(
    ('key', 'prompt', 'style'),
    [
        ('prepend/True', '{name}, {clause}.', 'prefix'),
        ('prepend/False', '{name}, {clause}.', 'plain'),
        ('append/True', '{clause}, {name}', 'prefix'),
        ('append/False', '{clause}, {name}', 'plain'),
    ],
)
def test_published_prompts(key, prompt, style):
    classes = Vocabulary.load(list(SAID))
    got = Descriptions(SAID, style=style, prompt=prompt).prompts(classes)
    assert [list(one) for one in got] == [PROMPTS[key][name] for name in SAID]


def test_joins_are_the_released_ones():
    """Mean and maximum of the cosines, and the mean of unit length (WaffleCLIP's option)."""
    golden = load('dclip_scores')
    counts = golden['counts'].tolist()
    rows = golden['descriptors'][: sum(counts)]
    image, said = golden['image'], described(rows, counts, 'max')
    torch.testing.assert_close(image @ said.means().T, golden['mean'], **CLOSE)
    merged = normalize(said.means(), dim=-1)
    torch.testing.assert_close(image @ merged.T, golden['merged'], **CLOSE)


def test_reweighting_is_the_released_one():
    golden = load('ram_reweight')
    cosines, rows = golden['cosines'], golden['descriptions_16']
    said = described(rows.flatten(0, 1), [7] * 6, 'reweight')
    weights = said.weights(cosines.flatten(1), float(golden['scale'])).reshape(cosines.shape)
    got = torch.einsum('bcm,cmd->bcd', weights, rows)
    torch.testing.assert_close(got, golden['reweighted_16'], **CLOSE)


def test_reweighted_equals_a_plain_loop():
    torch.manual_seed(0)
    counts, tokens = [1, 4, 2], normalize(torch.randn(3, 8), dim=-1)
    said = described(normalize(torch.randn(7, 8), dim=-1), counts, 'reweight', 5.0)
    got = said.reweighted(tokens)
    for image, token in enumerate(tokens):
        for label, rows in enumerate(said.features.split(counts)):
            expected = (5 * rows @ token).softmax(0) @ rows
            torch.testing.assert_close(got[image, label], expected, **CLOSE)


def test_enriched_text_is_the_released_one():
    golden = load('excel_text')
    text = enrich(golden['text'][:5], golden['attributes'])
    torch.testing.assert_close(text.float(), golden['enriched'][:5], **CLOSE)
    with pytest.raises(ValueError, match='by 10 clusters, at most 10'):
        enrich(golden['text'], golden['attributes'][:10])


def test_clusters_are_means_of_what_is_nearest_to_them():
    rows = torch.randn(60, 4, generator=torch.Generator().manual_seed(1))
    centres = cluster(rows, 7)
    nearest = torch.cdist(rows, centres).argmin(1)
    for number in range(7):
        torch.testing.assert_close(centres[number], rows[nearest == number].mean(0))
    assert torch.equal(centres, cluster(rows, 7))
    assert len(cluster(rows, 60).unique(dim=0)) == 60
    with pytest.raises(ValueError, match='60 different descriptions can not have 61 clusters'):
        cluster(torch.cat([rows, rows]), 61)


def test_what_images_are_compared_with():
    torch.manual_seed(0)
    rows, text = normalize(torch.randn(5, 8), dim=-1), normalize(torch.randn(4, 8), dim=-1)
    names = Vocabulary.load(['a', 'b']), Vocabulary.load(['c', 'd'])
    best = Names(*names, text, described(rows, [2, 3], 'max'))
    features, owners = best.compared()
    assert torch.equal(features, torch.cat([rows, text[2:]]))
    assert owners.tolist() == [0, 0, 1, 1, 1, 2, 3]
    token = normalize(torch.randn(2, 8), dim=-1)
    weighted = Names(*names, text, described(rows, [2, 3], 'reweight'))
    features, owners = weighted.compared(token)
    assert owners is None
    assert features.shape == (2, 4, 8)
    assert torch.equal(features[1, 2:], text[2:])
    assert Names(*names, text).compared()[0] is text
    assert Names(*names, text, described(rows, [2, 3])).compared()[0] is text


def test_shares_of_a_class_add_up_to_one():
    rows = normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(3)), dim=-1)
    said = described(rows, [2, 3], scale=10.0)
    shares = said.shares(rows[[1, 4]])
    torch.testing.assert_close(shares[:2], (10 * rows[:2] @ rows[1]).softmax(0), **CLOSE)
    torch.testing.assert_close(shares[2:], (10 * rows[2:] @ rows[4]).softmax(0), **CLOSE)


@pytest.mark.parametrize(
    ('name', 'text', 'error', 'message'),
    [
        ('a.json', '{"bell": []}', ValueError, "'bell' has no descriptor"),
        ('a.json', '{"bell": ["rings", " "]}', ValueError, 'or an empty one'),
        ('a.json', '{"bell": ["rings", 7]}', TypeError, "'bell' has the descriptor 7"),
        ('a.json', '{"bell": "rings"}', TypeError, "'bell' must have a list"),
        ('a.yaml', 'no: [rings]', TypeError, 'False is no class name: put it in quotes'),
        ('a.json', '["bell"]', ValueError, 'holds no object'),
        ('a.json', '{}', ValueError, 'must map class names'),
        ('a.json', '{"bell":', ValueError, 'is neither JSON nor YAML'),
        ('a.json', b'{"caf\xe9": ["x"]}', ValueError, 'is not a UTF-8 text file'),
        ('b.json', None, FileNotFoundError, 'no file of descriptions at'),
    ],
)
def test_bad_files(tmp_path, name, text, error, message):
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(error, match=message):
        load_descriptors(path)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'join': 'sum'}, 'join of descriptions must be one of mean'),
        ({'style': 'who'}, 'style of descriptions must be one of which'),
        ({'prompt': '{name}'}, 'must hold {clause} once'),
        ({'temperature': 0}, 'must be above 0'),
        ({'clusters': 10}, 'must be above 10, not 10'),
        ({'joint': 'mean'}, "have no option 'joint'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Descriptions.of({'source': {'bell': ['rings']}, **options})


def test_unknown_and_missing_classes(tmp_path):
    path = tmp_path / 'said.yaml'
    path.write_text('\ufeffbell:\r\n- rings\r\n- "rings"\r\ntrian: [rails]\r\n', encoding='utf-8')
    said = Descriptions.of(path)
    assert said.source['bell'] == ('rings',)
    with pytest.raises(ValueError, match=r"of 'trian', which is no class; did you mean 'train'\?"):
        said.check(Vocabulary.load(['bell', 'train']))
    with pytest.raises(ValueError, match="1 of 2 classes have no descriptions, such as 'train'"):
        said.prompts(Vocabulary.load(['bell', 'train']))
    with pytest.raises(TypeError, match='must be a file or a dict, not 7'):
        Descriptions.of(7)


def test_labels_in_another_language(tmp_path):
    names = ['bell', 'ox', 'cow']
    path = tmp_path / 'zh.txt'
    path.write_text('\u949f/\u94c3 \r\n\u725b\r\n\u725b  \r\n', encoding='utf-8')
    expected = {'bell': '\u949f/\u94c3', 'ox': '\u725b (ox)', 'cow': '\u725b (cow)'}
    assert load_labels(path, names) == expected
    table = tmp_path / 'labels.json'
    table.write_text('{"cow": "Kuh", "bell": "Glocke", "ox": "Ochse", "dog": "Hund"}')
    assert list(load_labels(table, names).values()) == ['Glocke', 'Ochse', 'Kuh']
    for source, error, message in (
        (['a'], ValueError, 'one label for each of the 3 classes, not 1'),
        (['a', 7, 'b'], TypeError, "the label of 'ox' must be a string, not 7"),
        (['a', ' ', 'b'], ValueError, "the label of 'ox' is empty"),
        ({'bell': 'Glocke'}, ValueError, "2 classes have no label, as 'ox'"),
        (tmp_path / 'none.txt', FileNotFoundError, 'no file of labels at'),
    ):
        with pytest.raises(error, match=message):
            load_labels(source, names)
