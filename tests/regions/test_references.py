"""Banks of references: the released code's arrays, a plain twin, and damaged files."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file

from mmtagclip.files import write_whole
from mmtagclip.regions import ReferenceBank
from mmtagclip.regions.references import (
    SHARPNESS,
    agreement,
    cosegment,
    place_cosines,
    product,
    references_content,
)
from tests.golden import seeds

FACTS = {
    'words': ['dog', 'cat'],
    'encoder': {'name': 'n', 'architecture': 'a', 'weights': 'w'},
    'source': {'name': 's', 'weights': 'w'},
    'settings': {'side': 32},
    'images': {'dog': ['a.png'], 'cat': ['b.png']},
    'errors': {},
}


@pytest.fixture(scope='module')
def golden():
    return dict(np.load(seeds.FOLDER / 'reco.npz'))


def tensor(array):
    return torch.from_numpy(array)


def close(mine, published):
    torch.testing.assert_close(mine, tensor(published), atol=2e-5, rtol=0)


def references_of(golden, contexts, with_text=True):
    """A reference for each class, as the released code makes them."""
    features, dense, text = (tensor(golden[key]) for key in ('features', 'dense', 'text'))
    names = [str(name) for name in golden['names']]
    found = {}
    for name in [*contexts, *(name for name in names if name not in contexts)]:
        row = names.index(name)
        weights = torch.ones(5, 4, 3)
        if with_text:
            attention = agreement(dense[row], text[row : row + 1], SHARPNESS)
            weights = F.interpolate(attention, (4, 3), mode='bilinear')[:, 0]
        for other in contexts:
            if other in found and other != name:
                weights = weights * (1 - agreement(features[row], found[other][None])[:, 0])
        chosen = cosegment(features[row], weights, published_slices=True)
        found[name] = F.normalize(chosen.mean(dim=0), dim=0)
    if 'tree' in contexts:
        found['vegetation'] = found['tree']
    return torch.stack([found[name] for name in names])


@pytest.mark.parametrize(
    'kind, contexts, with_text',
    [('full', ('tree', 'sky'), True), ('no_context', (), True), ('plain', (), False)],
)
def test_the_released_codes_references_and_scores(golden, kind, contexts, with_text):
    count = len(golden[f'reference_{kind}'])
    references = references_of(golden, contexts, with_text)[:count]
    close(references, golden[f'reference_{kind}'])
    text = place_cosines(tensor(golden['query_dense']), tensor(golden['text'])[:count])[0]
    if not with_text:
        text = torch.full_like(text, 100.0)  # whose sigmoid is 1
    cosines = place_cosines(tensor(golden['query_features']), references)[0]
    scores = product(text, cosines, tuple(golden['query_size'].tolist()))
    close(scores, golden[f'masks_{kind}'][0])
    assert torch.equal(scores.argmax(0), tensor(golden[f'masks_{kind}'][0]).argmax(0))


def test_the_released_codes_steps(golden):
    car = [str(name) for name in golden['names']].index('car')
    features, dense, text = (tensor(golden[key]) for key in ('features', 'dense', 'text'))
    attention = agreement(dense[car], text[car : car + 1], SHARPNESS)
    attention = F.interpolate(attention, (4, 3), mode='bilinear')[:, 0]
    close(attention, golden['text_attention_car'])
    contexts = tensor(golden['reference_full'])[:2]
    close(agreement(features[car], contexts), golden['context_weights_car'])
    chosen = cosegment(features[car], torch.ones(5, 4, 3), published_slices=True)
    close(chosen, golden['seeds_car_unweighted'])
    close(F.normalize(chosen.mean(0), dim=0), golden['reference_car_unweighted'])


def plain_seeds(features, weights):
    """Loop over all pairs of places."""
    count, _, height, width = features.shape
    places = [
        [features[i, :, y, x] for y in range(height) for x in range(width)] for i in range(count)
    ]
    seeds = []
    for i in range(count):
        means = []
        for own in places[i]:
            best = [
                max(
                    float(F.cosine_similarity(own, other, dim=0) * weight)
                    for other, weight in zip(places[j], weights[j].flatten(), strict=True)
                )
                for j in range(count)
            ]
            means.append(sum(best) / count)
        seeds.append(places[i][int(np.argmax(means))])
    return torch.stack(seeds)


@pytest.mark.parametrize('count, height, width', [(1, 2, 3), (2, 1, 1), (3, 3, 2)])
def test_seeds_are_those_of_a_loop_over_pairs(count, height, width):
    generator = torch.Generator().manual_seed(count)
    features = torch.randn(count, 6, height, width, generator=generator)
    weights = torch.rand(count, height, width, generator=generator)
    expected = plain_seeds(features, weights)
    torch.testing.assert_close(cosegment(features, weights), expected)


def write_references(path, scale=1, references=None, levels=None, **facts):
    references = torch.eye(3)[:2] if references is None else references
    levels = scale * torch.arange(8.0).view(2, 4) if levels is None else levels
    write_whole(path, references_content({**FACTS, **facts}, references, levels))
    return path


def test_a_bank_is_read_as_written(tmp_path):
    path = write_references(tmp_path / 'a.safetensors')
    found = ReferenceBank(path)
    assert torch.equal(found.references, torch.eye(3)[:2])
    assert torch.equal(found.levels, torch.arange(8.0).view(2, 4))
    assert (found.row('cat'), found.row('fox')) == (1, None)
    with safe_open(path, 'pt') as file:  # the library itself
        assert json.loads(file.metadata()['mmtagclip'])['images'] == FACTS['images']
        assert torch.equal(file.get_tensor('references'), torch.eye(3)[:2])


@pytest.mark.parametrize(
    'change, message',
    [
        ({'words': []}, 'its metadata is damaged'),
        ({'words': 'dog'}, 'its metadata is damaged'),
        ({'encoder': {'name': 'n'}}, 'its metadata is damaged'),
        ({'words': ['dog']}, r'it has no float32 references of shape \(1, 3\)'),
        ({'format': 'other'}, 'its metadata lacks "format": "mmtagclip references 1"'),
    ],
)
def test_other_files_are_refused(change, message, tmp_path):
    path = write_references(tmp_path / 'a.safetensors', **change)
    with pytest.raises(ValueError, match=f'a.safetensors is no bank of references.*: {message}'):
        ReferenceBank(path)


def test_damaged_and_missing_files(tmp_path):
    for references in (2 * torch.eye(3)[:2], torch.full((2, 3), float('nan'))):
        path = write_references(tmp_path / 'a.safetensors', references=references)
        with pytest.raises(ValueError, match='does not have length 1'):
            ReferenceBank(path)
    save_file({'references': torch.eye(2)}, path)
    with pytest.raises(ValueError, match='its metadata lacks'):
        ReferenceBank(path)
    path.write_bytes(b'12')
    with pytest.raises(ValueError, match='is no bank of references'):
        ReferenceBank(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match='are not there: run mmtagclip references'):
        ReferenceBank(path)
    (tmp_path / 'a.safetensors.unfinished').mkdir()
    with pytest.raises(FileNotFoundError, match='are not finished: run mmtagclip references'):
        ReferenceBank(path)
