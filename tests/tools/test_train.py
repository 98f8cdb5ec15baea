"""tools/train.py: a segmentor on pseudo masks, a classifier on pseudo tags."""

import json
import sys

import numpy as np

from tests.processes import ROOT, free_port, run, run_script

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
    script, port = ROOT / 'tools' / 'dist_train.sh', free_port()
    output(
        run('bash', script, segmentor, 2, '--work-dir', tmp_path, PORT=port, OMP_NUM_THREADS='1')
    )
    assert np.isfinite(losses(tmp_path)).all()
    assert (tmp_path / 'iter_2.pth').is_file()


def test_a_classifier_learns_from_pseudo_tags(classifier, tmp_path):
    """As a user starts it."""
    command = [sys.executable, TRAIN_PY, classifier, '--work-dir', tmp_path]
    output(run(*command, OMP_NUM_THREADS='1'))
    assert np.isfinite(losses(tmp_path)).all()


def test_a_training_free_config_is_refused():
    config = ROOT / 'configs/tagclip/tagclip_vit-base-p16_openai_voc07.py'
    result = run_script(TRAIN_PY, config)
    assert result.returncode == 1
    assert 'has no train_dataloader: its model is not trained' in result.stderr
