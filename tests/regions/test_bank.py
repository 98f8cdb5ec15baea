"""Memory banks: search by products, the file, and what a damaged one says."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file

from mmtagclip.regions import bank as module
from mmtagclip.regions.bank import (
    MemoryBank,
    bank_content,
    nearest,
    region_means,
    unit_region_means,
)
from tests import twins
from tests.golden import GOLDEN
from tests.golden.weights import region_map


def unit(rows, width, seed):
    return F.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)))


def write(path, keys, values, **more):
    facts = {
        'rows': len(keys), 'key_dimension': keys.shape[1], 'dimension': values.shape[1],
        'dtype': str(keys.dtype).removeprefix('torch.'), 'regions': 'r',
        'content': 'abcdef0123456789',
        'encoder': {'name': 'n', 'architecture': 'a', 'weights': 'w'},
        'source': {'name': 's', 'weights': 'x'}, 'settings': {}, 'errors': {}, **more,
    }  # fmt: skip
    half = len(keys) // 2
    content = bank_content(
        facts,
        ['a.jpg', 'b/ü.jpg'],
        [0] * half + [1] * (len(keys) - half),
        range(1, len(keys) + 1),
        [keys[:half].numpy().tobytes(), keys[half:].numpy().tobytes()],
        [values.numpy().tobytes()],
    )
    path.write_bytes(b''.join(content))
    return path


@pytest.mark.parametrize('sizes', [[50], [1, 2, 3, 44], [7] * 8, [60, 1]])
@pytest.mark.parametrize('count', [1, 5, 60])
def test_a_search_in_pieces_is_that_of_its_twin(sizes, count):
    keys = unit(sum(sizes), 6, 1)
    keys[10] = keys[40] = keys[3]  # equal ones come in the order of the rows
    queries = torch.cat([unit(4, 6, 2), keys[[3, 17]]])
    products, rows = nearest(queries, keys.split(sizes), count)
    expected_products, expected_rows = twins.nearest(queries, keys, count)
    assert rows.tolist() == expected_rows
    np.testing.assert_allclose(products, expected_products, atol=1e-6)
    if count == 5 and len(keys) > 40:
        assert rows[4, :3].tolist() == [3, 10, 40]


def test_equal_keys_in_any_number_take_little_memory(monkeypatch):
    monkeypatch.setattr(module, 'PAIRS', 7)
    keys = unit(1, 5, 3).expand(90, -1)
    _, rows = nearest(unit(3, 5, 4), keys.split(20), 8)
    assert rows.tolist() == [list(range(8))] * 3


def test_queries_are_checked(tmp_path):
    bank = MemoryBank(write(tmp_path / 'a.safetensors', unit(9, 4, 1), unit(9, 3, 2)))
    with pytest.raises(ValueError, match='a query is not finite'):
        bank.search(torch.full((1, 4), torch.nan))
    with pytest.raises(ValueError, match='has keys of 4 numbers, a query 5'):
        bank.search(torch.ones(1, 5))
    with pytest.raises(ValueError, match='neighbours must be at least 1, not 0'):
        bank.search(torch.ones(1, 4), 0)
    assert bank.search(unit(2, 4, 5), 50).shape == (2, 9)


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
def test_the_file_is_read_by_safetensors_and_piece_by_piece(dtype, tmp_path, monkeypatch):
    keys, values = unit(21, 6, 1).to(dtype), unit(21, 5, 2).to(dtype)
    path = write(tmp_path / 'a.safetensors', keys, values)
    with safe_open(path, 'pt') as file:
        assert torch.equal(file.get_tensor('keys'), keys)
        assert torch.equal(file.get_tensor('values'), values)
        assert file.get_tensor('region').tolist() == list(range(1, 22))
    monkeypatch.setattr(module, 'ROWS', 4)
    monkeypatch.setattr(module, 'GATHERED', 5)
    bank = MemoryBank(path)
    assert (len(bank), bank.images[1], bank.origin(20)) == (21, 'b/ü.jpg', (1, 21))
    queries = unit(3, 6, 4)
    rows = bank.search(queries, 7)
    assert rows.tolist() == twins.nearest(queries, keys.float(), 7)[1]
    assert torch.equal(bank.values(rows), values.float()[rows])


def test_another_encoder_source_or_other_regions_are_refused(encoder, tmp_path):
    source = torch.nn.Linear(3, 2)
    ours = module.source_identity(source)
    theirs = {**encoder.identity, 'weights': 'w'}
    keys, values = unit(9, 4, 1), unit(9, 3, 2)

    def bank(**more):
        return MemoryBank(write(tmp_path / 'a.safetensors', keys, values, **more))

    good = bank(encoder={**encoder.identity, 'last_block': 'another'}, source=ours)
    good.check_encoder(encoder)
    good.check_source(source)
    good.check_regions(bank())
    with pytest.raises(ValueError, match=r'a.safetensors has values of .*, whose weights are not'):
        bank(encoder=theirs).check_encoder(encoder)
    with pytest.raises(ValueError, match='has keys of s, but the queries are of Linear'):
        bank().check_source(source)
    with pytest.raises(
        ValueError, match='queries are of other weights of the same model: make a bank'
    ):
        bank(source={**ours, 'weights': 'x'}).check_source(source)
    with pytest.raises(ValueError, match='has not the same regions of the same images as'):
        good.check_regions(bank(regions='x'))


def test_damaged_and_unfinished_banks_are_refused(tmp_path):
    keys, values = unit(30, 4, 1), unit(30, 4, 2)
    path = tmp_path / 'a.safetensors'
    with pytest.raises(FileNotFoundError, match=r'a.safetensors is not there: run mmtagclip bank'):
        MemoryBank(path)
    (tmp_path / 'a.safetensors.unfinished').mkdir()
    with pytest.raises(FileNotFoundError, match=r'a.safetensors is not finished: run mmtagclip'):
        MemoryBank(path)
    content = write(path, keys, values).read_bytes()
    for cut in (content[:-1], content[:50], b'', content + b'0', b'x' * 300):
        path.write_bytes(cut)
        with pytest.raises(ValueError, match=r'a\.safetensors is no memory bank, or a damaged one'):
            MemoryBank(path)
    for more, reason in [
        ({'format': 'other'}, 'lacks "format"'),
        ({'rows': 29}, r'has no keys of shape \[29, 4\]'),
        ({'rows': 0}, 'its metadata is damaged'),
        ({'dtype': 'float16'}, 'has no keys of shape .* and type torch.float16'),
        ({'source': {}}, 'its metadata is damaged'),
    ]:
        fake = write(tmp_path / 'b.safetensors', keys, values)
        facts = {**MemoryBank(fake).facts, **more}
        _rewrite(fake, facts)
        with pytest.raises(ValueError, match=reason):
            MemoryBank(fake)
    for place, what in ((-30 * 4 * 4 * 2 + 3, 'key of row 0'), (-1, 'value of row 29')):
        broken = bytearray(content)
        broken[place] ^= 0x40
        path.write_bytes(broken)
        bank = MemoryBank(path)
        with pytest.raises(ValueError, match=f'is damaged: the {what} does not have length 1'):
            bank.values(bank.search(keys, 30))


def _rewrite(path, facts):
    with safe_open(path, 'pt') as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, {'mmtagclip': json.dumps(facts), 'images': '[]'})


def test_faiss_finds_what_an_exact_search_finds(tmp_path):
    pytest.importorskip('faiss', reason='FAISS is not installed')
    keys = unit(600, 8, 1)
    path = write(tmp_path / 'a.safetensors', keys, unit(600, 4, 2))
    with pytest.raises(FileNotFoundError, match=r'no index .*a\.abcdef01\.faiss .* --faiss'):
        MemoryBank(path, 'faiss')
    exact = MemoryBank(path)
    made = exact.add_index('IVF8,Flat')
    queries = unit(5, 8, 3)
    all_lists = MemoryBank(path, 'faiss', nprobe=8)
    with pytest.raises(ValueError, match='a query is not finite'):
        all_lists.search(torch.full((1, 8), torch.nan))
    assert all_lists.search(queries, 20).tolist() == exact.search(queries, 20).tolist()
    few = MemoryBank(path, 'faiss', nprobe=1).search(queries, 300)
    for query, row in zip(queries, few, strict=True):
        there = row >= 0
        assert there.tolist() == sorted(there.tolist(), reverse=True)  # -1 is at the end
        products = keys[row[there]] @ query
        assert not there.all()
        assert (products.diff() <= 1e-6).all()
    # Short codes name the wrong rows; the more candidates, the fewer are missed.
    exact.add_index('IVF8,PQ2x4')
    expected = exact.search(queries, 20)
    for candidates, same in ((1, False), (600, True)):
        found = MemoryBank(path, 'faiss', 8, candidates).search(queries, 20)
        assert torch.equal(found, expected) == same
    made.write_bytes(made.read_bytes()[:100])
    with pytest.raises(ValueError, match=r'faiss is no index of FAISS, or a damaged one'):
        MemoryBank(path, 'faiss')
    write(path, keys[:300], unit(300, 4, 2))
    MemoryBank(path).add_index('Flat')
    MemoryBank(write(path, keys, unit(600, 4, 2)))
    with pytest.raises(ValueError, match='has 300 keys of 8 numbers, the bank 600 of 8: make the'):
        MemoryBank(path, 'faiss')
    with pytest.raises(ValueError, match='FAISS can not make such an index of 600 keys of 8 numbe'):
        exact.add_index('IVF8,PQ3')


def test_without_faiss_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    path = write(tmp_path / 'a.safetensors', unit(9, 4, 1), unit(9, 4, 2))
    monkeypatch.setattr('mmtagclip.extras.find_spec', lambda name: None)
    for call in (lambda: MemoryBank(path, 'faiss'), lambda: MemoryBank(path).add_index()):
        with pytest.raises(ImportError, match=r"search='faiss' needs faiss: pip install"):
            call()
    with pytest.raises(ValueError, match='search must be one of exact, faiss, not'):
        MemoryBank(path, 'quick')
    for name in ('nprobe', 'candidates'):
        with pytest.raises(ValueError, match=f'{name} must be at least 1, not 0'):
            MemoryBank(path, **{name: 0})


@pytest.mark.parametrize('size', [(1, 1), (2, 3), (5, 9), (16, 17)])
@pytest.mark.parametrize('grid', [(1, 1), (4, 5)])
def test_means_of_regions_are_those_of_their_twins(size, grid):
    random = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 4, size, generator=random) * 7
    whole = torch.randn(7, *size, generator=random)
    features = torch.randn(7, *grid, generator=random)
    for (regions, means), maps in (
        (region_means(whole.split(3), ids), whole),
        (unit_region_means(features, ids), twins.unit_map(features, size)),
    ):
        expected = twins.region_means(maps, ids)
        assert regions.tolist() == list(expected)
        np.testing.assert_allclose(means, torch.stack(list(expected.values())), atol=1e-6)


@pytest.fixture(scope='module')
def golden():
    with np.load(GOLDEN / 'regions' / 'corrclip_v2.npz') as file:
        return dict(file)


@pytest.fixture(scope='module')
def features():
    """Features of the whole image, of another model."""
    return torch.from_numpy(np.random.RandomState(52).standard_normal((24, 9, 13))).float()


def test_keys_are_those_of_the_released_code(golden, features):
    ids = torch.from_numpy(region_map(90, 131, 41))
    regions, means = unit_region_means(features, ids)
    assert regions.tolist() == list(range(8))
    np.testing.assert_allclose(means[1:], golden['bank/90x131/keys'], atol=1e-6)


def test_neighbours_are_those_of_the_released_code(golden, features, tmp_path):
    keys = torch.from_numpy(np.random.RandomState(61).standard_normal((400, 24))).float()
    ids = torch.from_numpy(region_map(90, 131, 41))
    ids = F.interpolate(ids[None, None].float(), (224, 326), mode='nearest')[0, 0].long()
    _, means = unit_region_means(features, ids)
    queries = F.normalize(means)
    np.testing.assert_allclose(queries, golden['pipeline/90x131/bank/queries'], atol=1e-6)
    bank = MemoryBank(write(tmp_path / 'a.safetensors', F.normalize(keys), unit(400, 4, 2)))
    rows = bank.search(queries)
    np.testing.assert_array_equal(rows, golden['pipeline/90x131/bank/neighbours'])
