"""CaSED's arithmetic against the released code's arrays, and captions as people have them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmtagclip.clip import captions as module
from mmtagclip.clip.captions import (
    cased_scores,
    names_in_captions,
    nearest_captions,
    read_captions,
)
from mmtagclip.clip.matching import NameFinder

GOLDEN = Path(__file__).parents[1] / 'golden' / 'words'


@pytest.mark.parametrize('block', [7, 65536])
def test_nearest_captions(monkeypatch, block):
    monkeypatch.setattr(module, 'BLOCK', block)
    golden = np.load(GOLDEN / 'cased_retrieval.npz')
    database, queries = (
        F.normalize(torch.from_numpy(golden[key]), dim=1) for key in ('database', 'queries')
    )
    for query, kept, cosines in zip(queries, golden['kept'], golden['cosines'], strict=True):
        found, features = nearest_captions(query, database)
        assert found == kept[kept >= 0].tolist()
        torch.testing.assert_close(
            (features @ query).double(),
            torch.from_numpy(cosines[kept >= 0]),
            rtol=0,
            atol=1e-6,
        )


def test_words_of_captions():
    content = json.loads((GOLDEN / 'cased_words.json').read_text())
    # Membership in this list stands for the part-of-speech model; the others would be found if a
    # filter let them through.
    names = sorted({name for found in content['candidates'] for name in found})
    names += ['alpine', 'roof', 'octopus', 'stop', 'image', 'photo', 'two']
    finder = NameFinder([(name,) for name in names])
    for captions, expected in zip(content['captions'], content['candidates'], strict=True):
        assert [names[label] for label in names_in_captions(captions, finder)] == expected


def test_compounds_survive():
    names = ['fire engine', 'engine', 'dog']
    finder = NameFinder([(name,) for name in names])
    captions = ['two fire engines', 'a Fire-Engine and a dog.jpg', 'the dogs', 'an engine']
    assert names_in_captions(captions, finder) == [0, 2]


def test_scores():
    golden = np.load(GOLDEN / 'cased_scores.npz')
    content = json.loads((GOLDEN / 'cased_words.json').read_text())
    features = F.normalize(torch.from_numpy(golden['word_features']), dim=1)
    place = {str(name): row for row, name in enumerate(golden['word_names'])}
    images = F.normalize(torch.from_numpy(golden['images']), dim=1)
    words = golden['words'].tolist()
    for share in (0.5, 0.7, 1.0):
        expected = golden[f'scores_{share}']
        for image, texts, names, row in zip(
            images, content['captions'], content['candidates'], expected, strict=True
        ):
            names = names or ['object']
            own, theirs = (features[[place[text] for text in one]] for one in (names, texts))
            scores = cased_scores(image, theirs, own, float(golden['logit_scale']), share)
            wanted = row[[words.index(name) for name in names]]
            np.testing.assert_allclose(scores, wanted, rtol=0, atol=1e-6)


def test_captions_of_a_file_a_folder_and_a_list(tmp_path):
    path = tmp_path / 'captions.txt'
    path.write_bytes('\ufeffa dog\r\n\r\n#hashtag\r\na dog\r\n'.encode())
    assert read_captions(path) == ['a dog', '#hashtag']
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos' / 'black_dog-at-sea.jpg').write_bytes(b'')
    assert read_captions(tmp_path / 'photos') == ['black dog at sea']
    assert read_captions(('a cat',)) == ['a cat']


def test_bad_captions(tmp_path):
    path = tmp_path / 'captions.txt'
    path.write_bytes('ein Bär'.encode('latin-1'))
    with pytest.raises(ValueError, match='is not a UTF-8 text file'):
        read_captions(path)
    path.write_text(' \n\n')
    with pytest.raises(ValueError, match=r'captions\.txt holds no caption'):
        read_captions(path)
    with pytest.raises(ValueError, match='the list holds no caption'):
        read_captions(())
    with pytest.raises(TypeError, match='a caption must be a string, not 3'):
        read_captions((3,))
    with pytest.raises(FileNotFoundError, match='no file of captions at'):
        read_captions(tmp_path / 'none.txt')
