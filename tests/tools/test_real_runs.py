"""What tools/dev/real_runs.py writes; the runs themselves take minutes."""

import importlib.util
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmtagclip.clip import published as package
from mmtagclip.clip.published import SentencePieceTokenizer
from tests.golden.towers import published
from tests.processes import ROOT

pytest.importorskip('sentencepiece')
_spec = importlib.util.spec_from_file_location('real_runs', ROOT / 'tools/dev/real_runs.py')
real_runs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(real_runs)


@pytest.mark.parametrize('kind', published.KINDS)
def test_files_by_the_publishers_names(kind):
    clip = published.untrained(kind)
    if kind == 'dinotxt':  # which has none
        for block in clip.text.transformer.resblocks:
            block.attn.in_proj_bias.data.zero_()
    state = getattr(real_runs, f'{kind}_files')(clip)
    if kind == 'tips':
        state['temperature'] = (-clip.logit_scale.detach()).exp()
    found = getattr(package, f'convert_{kind}')(state, clip, Path())
    expected = clip.state_dict()
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value)


def test_a_tokenizer_of_any_size(tmp_path):
    real_runs.write_tokenizer(tmp_path / 'tokenizer.model', 50)
    assert SentencePieceTokenizer(tmp_path, 50, 8)('a dog').any()


def test_its_config(tmp_path):
    text = real_runs.config_text({'model': 'RN50', 'checkpoint': 'x'}, False, tmp_path)
    (tmp_path / 'config.py').write_text(text)
    config = Config.fromfile(tmp_path / 'config.py')
    assert config.model.head.dmar is None
    assert config.model.encoder.to_dict() == {
        'type': 'mmtagclip.CLIPEncoder', 'model': 'RN50', 'checkpoint': 'x', 'text_cache': False,
    }  # fmt: skip
    assert config.test_dataloader.dataset.data_prefix == str(tmp_path)
