"""tools/train.py: a segmentor on pseudo masks, a classifier on pseudo tags."""

import json
import os

import numpy as np
import torch

from tests.processes import ROOT, run, run_fresh, run_ranks, run_script

TRAIN_PY = ROOT / 'tools' / 'train.py'


def output(process):
    assert process.returncode == 0, process.stderr
    return process.stdout + process.stderr


def losses(work_dir):
    (path,) = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line)['loss'] for line in path.read_text().splitlines()]


def test_a_segmentor_learns_from_pseudo_masks_and_resumes(segmentor, tmp_path):
    output(run_script(TRAIN_PY, segmentor, '--work-dir', tmp_path))
    assert len(losses(tmp_path)) == 2
    assert np.isfinite(losses(tmp_path)).all()
    assert (tmp_path / 'iter_2.pth').is_file()
    options = ['--resume', '--cfg-options', 'train_cfg.max_iters=3']
    resumed = output(run_script(TRAIN_PY, segmentor, '--work-dir', tmp_path, *options))
    assert 'resumed epoch: 0, iter: 2' in resumed


def test_two_processes_on_the_cpu(segmentor, tmp_path):
    output(run_ranks(TRAIN_PY, segmentor, '--work-dir', tmp_path))
    assert np.isfinite(losses(tmp_path)).all()
    assert (tmp_path / 'iter_2.pth').is_file()


def test_the_script_calls_torchrun_as_that_of_tests_does(tmp_path):
    """Which test_test.py really starts."""
    (tmp_path / 'torchrun').write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / 'torchrun').chmod(0o755)
    words = ['config.py', 2, '--work-dir', 'my folder']
    names = {'PORT': '29', 'OMP_NUM_THREADS': '1', 'PATH': f'{tmp_path}:{os.environ["PATH"]}'}
    said = [
        output(run('bash', ROOT / 'tools' / f'dist_{name}.sh', *words, **names)).splitlines()
        for name in ('train', 'test')
    ]
    tools = ROOT / 'tools'
    assert said[0] == [
        *('--nnodes=1', '--node_rank=0', '--master_addr=127.0.0.1', '--master_port=29'),
        *('--nproc_per_node=2', f'{tools}/train.py', 'config.py', '--launcher', 'pytorch'),
        *('--work-dir', 'my folder'),
    ]
    assert said[1] == [word.replace(f'{tools}/train.py', f'{tools}/test.py') for word in said[0]]


def test_a_classifier_learns_from_pseudo_tags(classifier, tmp_path):
    output(run_fresh(TRAIN_PY, classifier, '--work-dir', tmp_path))
    assert np.isfinite(losses(tmp_path)).all()


def test_a_training_free_config_is_refused():
    config = ROOT / 'configs/tagclip/tagclip_vit-base-p16_openai_voc07.py'
    result = run_script(TRAIN_PY, config)
    assert result.returncode == 1
    assert 'has no train_dataloader: its model is not trained' in result.stderr


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), 'w'))


def test_a_checkpoint_s_code_runs_only_if_it_is_trusted(segmentor, tmp_path):
    """For tools/train.py, which starts from it, and tools/test.py, which evaluates it."""
    state = {'decode_head.conv_seg.bias': torch.zeros(3)}
    torch.save({'state_dict': state, 'meta': Harmful(tmp_path / 'ran')}, tmp_path / 'start.pth')
    torch.save({'state_dict': Harmful(tmp_path / 'ran')}, tmp_path / 'none.pth')
    start = ['--work-dir', tmp_path / 'out', '--cfg-options', f'load_from={tmp_path}/start.pth']
    assert 'Load checkpoint from' in output(run_script(TRAIN_PY, segmentor, *start))
    evaluate = [ROOT / 'tools' / 'test.py', segmentor, tmp_path / 'none.pth', *start[:2]]
    process = run_script(*evaluate)
    assert process.returncode == 1
    assert 'none.pth holds no weights that can be read as data alone' in process.stderr
    process = run_script(*evaluate[:2], 'https://example.org/a.pth', *start[:2])
    assert process.returncode == 2
    assert 'a.pth would be unpickled by MMEngine: download it' in process.stderr
    assert not (tmp_path / 'ran').exists()
    run_script(*evaluate, '--trust-checkpoint')
    assert (tmp_path / 'ran').exists()


def test_weights_are_downloaded_only_on_request(monkeypatch, tmp_path):
    config = ROOT / 'configs/pseudo_labels/resnet50_voc12.py'
    process = run_script(TRAIN_PY, config, '--work-dir', tmp_path, TORCH_HOME=str(tmp_path))
    assert process.returncode == 1
    assert 'error: the weights https://download.openmmlab.com/' in process.stderr
    assert 'Traceback' not in process.stderr
    monkeypatch.setattr('mmtagclip.clip.downloads.cached', lambda *of: None)
    config = ROOT / 'configs/tagclip/tagclip_vit-base-p16_openai_voc07.py'
    process = run_script(ROOT / 'tools' / 'test.py', config, '--work-dir', tmp_path)
    assert process.returncode == 1
    assert 'error: the weights of ViT-B-16-quickgelu (openai) are not on this' in process.stderr
    assert 'Traceback' not in process.stderr
    config, url = ROOT / 'configs/demo/tagclip_demo.py', 'https://example.org/a.pth'
    words = ['--work-dir', tmp_path, '--cfg-options', f'load_from={url}']
    process = run_script(ROOT / 'tools' / 'test.py', config, *words)
    assert process.returncode == 1
    assert f'error: the weights {url} are not on this machine' in process.stderr
