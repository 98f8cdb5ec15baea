"""A folder of photographs and a list of names in, a trained segmentor out, in three commands."""

import shutil

import pytest

from mmtagclip import cli
from mmtagclip.jobs.pseudo_labels import read_pseudo_labels
from tests.processes import ROOT, run_script

CONFIGS = ROOT / 'configs/pseudo_labels'


def test_folder_to_segmentor(tmp_path):
    photos = tmp_path / 'photos' / 'deep'
    photos.mkdir(parents=True)
    for path in sorted((ROOT / 'demo/data/JPEGImages').glob('*.jpg'))[:3]:
        shutil.copy(path, photos)
    (photos / 'broken.jpg').write_text('no image')
    (tmp_path / 'names.txt').write_text('dog\ncar\nowl,bird of prey\n')
    out = tmp_path / 'out'

    def command(tool, config, *arguments):
        process = run_script(
            ROOT / 'tools' / tool,
            CONFIGS / config,
            *arguments,
            PHOTOS=str(tmp_path / 'photos'),
            CLASSES=str(tmp_path / 'names.txt'),
            OUT=str(out),
        )
        assert process.returncode == 0, process.stderr

    # The real encoder's place is taken by the demo's, which is in the repository.
    command(
        'test.py',
        'masks_vit-base-p16_openai_folder.py',
        '--cfg-options',
        f'model.tagger.encoder.model=local-dir:{ROOT}/demo/model',
        'model.tagger.encoder.pretrained=None',
        'test_dataloader.num_workers=0',
    )
    manifest, records = read_pseudo_labels(out / 'masks/pseudo_labels')
    assert manifest.classes == ('background', 'dog', 'car', 'owl')
    assert [record.error is not None for record in records] == [False, False, False, True]

    command(
        'train.py',
        'segformer_mit-b0_folder.py',
        '--cfg-options',
        'model.backbone.init_cfg=None',
        'train_cfg.max_iters=1',
        'train_dataloader.batch_size=2',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
    )
    assert (out / 'segmentor/iter_1.pth').is_file()

    (photos / 'broken.jpg').unlink()
    command(
        'test.py',
        'segformer_mit-b0_folder.py',
        out / 'segmentor/iter_1.pth',
        '--show-dir',
        tmp_path / 'drawn',
        '--cfg-options',
        'model.backbone.init_cfg=None',
        'test_dataloader.num_workers=0',
    )
    assert len(list((tmp_path / 'drawn').rglob('*.png'))) == 3

    # The student runs as any model does; its classes are those that the folder was labelled with.
    environment = {'PHOTOS': str(photos), 'CLASSES': str(tmp_path / 'names.txt'), 'OUT': str(out)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        arguments = ['segment', photos, '--model', CONFIGS / 'segformer_mit-b0_folder.py']
        arguments += ['--checkpoint', out / 'segmentor/iter_1.pth', '--out', tmp_path / 'masks']
        assert cli.main([str(one) for one in [*arguments, '--device', 'cpu']]) == 0
    manifest, records = read_pseudo_labels(tmp_path / 'masks')
    assert manifest.classes == ('background', 'dog', 'car', 'owl')
    assert len(records) == 3
