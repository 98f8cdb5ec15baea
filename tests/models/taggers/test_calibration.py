"""SPARC's arithmetic; tests/apis/test_calibration.py runs it as a user does."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mmtagclip.models.taggers.calibration import (
    Calibration,
    fit_tensors,
    read_compound_prompts,
    relative_scores,
)
from tests import twins

GOLDEN = Path(__file__).parents[2] / 'golden' / 'sparc.npz'


def fitted(single, simple, compound, member):
    """A calibration of cosines: class tokens are unit vectors that select a row."""
    relative, beside = relative_scores(single), relative_scores(compound, simple)
    names = [str(label) for label in range(single.shape[1])]
    tensors = fit_tensors(relative, beside, member, names)
    texts = {'text': simple.T, 'simple': simple.T, 'compound': compound.T}
    return Calibration(tensors | texts, {})


def golden():
    content = np.load(GOLDEN)
    return [torch.from_numpy(content[key]) for key in ('single', 'simple', 'compound', 'member')]


def test_golden():
    single, simple, compound, member = golden()
    calibration = fitted(single, simple, compound, member)
    tokens = torch.eye(len(single), dtype=torch.float64)
    expected = torch.from_numpy(np.load(GOLDEN)['final'])
    torch.testing.assert_close(calibration(single, tokens), expected, rtol=0, atol=1e-10)
    # Image by image, and in float32.
    one = torch.cat([calibration(single[[row]], tokens[[row]]) for row in range(len(single))])
    torch.testing.assert_close(one, expected, rtol=0, atol=1e-10)
    narrow = calibration.float()(single.float(), tokens.float())
    torch.testing.assert_close(narrow, expected.float(), rtol=0, atol=2e-5)


def test_single_prompts_alone():
    single, simple, compound, member = golden()
    calibration = fitted(single, simple, compound[:, :0], member[:, :0])
    expected = torch.from_numpy(np.load(GOLDEN)['single_z'])
    torch.testing.assert_close(calibration(single, simple), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize('prompts', [0, 1, 6])
def test_plain_twin(prompts):
    numbers = np.random.default_rng(prompts)
    sizes = (9, 4), (9, 4), (9, prompts)
    arrays = [numbers.normal(size=size) for size in sizes]
    member = numbers.random((4, prompts)) < 0.5
    values = [torch.from_numpy(one) for one in (*arrays, member)]
    result = fitted(*values)(values[0], torch.eye(9, dtype=torch.float64))
    np.testing.assert_allclose(result, twins.sparc(*arrays, member), rtol=0, atol=1e-10)


def test_what_can_not_be_calibrated():
    single, simple, compound, member = golden()
    with pytest.raises(ValueError, match='1 is too few, give at least 2'):
        fitted(single[:1], simple[:1], compound[:1], member)
    with pytest.raises(ValueError, match='compares classes with each other'):
        fitted(single[:, :1], simple[:, :1], compound, member[:1])
    with pytest.raises(ValueError, match="score of '0' is the same in all 23 images"):
        fitted(single[:1].expand(23, -1), simple, compound, member)
    with pytest.raises(ValueError, match="score of '0' is the same"):
        fitted(torch.full_like(single, 0.25), simple, compound, member)
    # One image of equal scores among others has 0 everywhere.
    assert relative_scores(torch.full((1, 3), 0.1)).tolist() == [[0, 0, 0]]


def test_compound_prompts_of_a_file(tmp_path):
    path = tmp_path / 'prompts.txt'
    path.write_bytes('\ufeffa cat and two dogs\r\n\r\npuppies near the hot dog stand\r\n'.encode())
    phrases = [('cat',), ('dog', 'puppy'), ('hot dog',)]
    prompts, member = read_compound_prompts(path, phrases)
    assert prompts == ['a cat and two dogs', 'puppies near the hot dog stand']
    assert member.tolist() == [[True, False], [True, True], [False, True]]


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'holds no prompt'),
        (b'\n \n', 'holds no prompt'),
        (b'cat and dog\na tree\n', "line 2 names none of the classes: 'a tree'"),
        (b'cat and dog\ncat and dog', "line 2 has the prompt 'cat and dog' a second time"),
        ('chat et chien à côté'.encode('latin-1'), 'is not a UTF-8 text file'),
    ],
)
def test_bad_files_of_compound_prompts(tmp_path, content, message):
    path = tmp_path / 'prompts.txt'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_compound_prompts(path, [('cat',), ('dog',)])
    with pytest.raises(FileNotFoundError, match='no file of compound prompts at'):
        read_compound_prompts(tmp_path / 'other.txt', [('cat',)])
