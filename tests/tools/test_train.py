"""tools/train.py as a subprocess: a segmentor on pseudo masks, a classifier on pseudo tags."""

import json
import sys

import numpy as np

from tests.processes import ROOT, free_port, run


def train(*arguments, program=(sys.executable, ROOT / 'tools/train.py'), **environment):
    process = run(*program, *arguments, OMP_NUM_THREADS='1', **environment)
    assert process.returncode == 0, process.stderr
    return process.stdout + process.stderr


def losses(work_dir):
    (path,) = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line)['loss'] for line in path.read_text().splitlines()]


def test_a_segmentor_learns_from_pseudo_masks_and_resumes(segmentor, tmp_path):
    train(segmentor, '--work-dir', tmp_path)
    assert len(losses(tmp_path)) == 2
    assert np.isfinite(losses(tmp_path)).all()
    assert (tmp_path / 'iter_2.pth').is_file()
    resumed = train(
        segmentor, '--work-dir', tmp_path, '--resume', '--cfg-options', 'train_cfg.max_iters=3'
    )
    assert 'resumed epoch: 0, iter: 2' in resumed


def test_two_processes_on_the_cpu(segmentor, tmp_path):
    train(
        segmentor,
        2,
        '--work-dir',
        tmp_path,
        program=('bash', ROOT / 'tools/dist_train.sh'),
        PORT=free_port(),
    )
    assert np.isfinite(losses(tmp_path)).all()
    assert (tmp_path / 'iter_2.pth').is_file()


def test_a_classifier_learns_from_pseudo_tags(classifier, tmp_path):
    train(classifier, '--work-dir', tmp_path)
    assert np.isfinite(losses(tmp_path)).all()


def test_a_training_free_config_is_refused():
    config = ROOT / 'configs/tagclip/tagclip_vit-base-p16_openai_voc07.py'
    result = run(sys.executable, ROOT / 'tools/train.py', config)
    assert result.returncode == 1
    assert 'has no train_dataloader: its model is not trained' in result.stderr
