"""Segmentation by concepts behind the tools, the command line, the inferencer and the web page."""

import json
import re
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mmtagclip import cli
from mmtagclip.apis import Analysis, SegInferencer
from mmtagclip.apis.config_table import ConfigTable
from mmtagclip.exports.instances import read_instances
from mmtagclip.jobs.pseudo_labels import read_pseudo_labels
from mmtagclip.records import ImageRecord
from mmtagclip.visualization import draw_instances, draw_result
from tests.processes import ROOT, run_ranks, run_script

TEST_PY = ROOT / 'tools/test.py'
SCENES = sorted((ROOT / 'demo/data/JPEGImages').glob('*.jpg'))[:2]


def write(cfg, path):
    cfg.dump(path)
    return path


@pytest.fixture(scope='module')
def config(sam3_config, tmp_path_factory):
    """The demo's tags as prompts of a tiny SAM 3, on two scenes."""
    path = tmp_path_factory.mktemp('configs') / 'tagclip-sam3.py'
    path.write_text(ConfigTable().text('tagclip-sam3', 'vit-demo', 'demo'))
    cfg = Config.fromfile(path)
    cfg.model.sam3 = deepcopy(sam3_config)
    cfg.model.confidence = 0.18
    cfg.model.with_instances = True
    cfg.test_dataloader.dataset.indices = 2
    cfg.test_dataloader.num_workers = 0
    return write(cfg, path)


@pytest.fixture(scope='module')
def inferencer(config):
    return SegInferencer(Config.fromfile(config), show_progress=False)


@pytest.fixture(scope='module')
def results(inferencer):
    return inferencer(SCENES)


# Python


def test_results_say_what_was_asked_for(inferencer, results):
    names = inferencer.model.names
    for result in results:
        assert set(result.asked) == {'background', *result.tags}
        assert all(0 < presence < 1 for presence in result.asked.values())
        assert {result.classes[label] for label in result.labels} <= set(result.asked)
        record = ImageRecord.from_json(result.record.to_json())
        assert record.more['asked'] == result.asked
        assert json.loads(result.to_json())['asked'] == result.asked
    assert len(names.vocabulary) == 50
    assert any(result.instances for result in results)


def test_instances_go_through_records_and_samples(results):
    for result in results:
        record = ImageRecord.from_json(result.record.to_json())
        assert read_instances(record) == list(result.instances)
        sample = result.to_datasample()
        assert len(sample.pred_instances.scores) == len(result.instances)
        assert [result.classes[1 + label] for label in sample.pred_instances.labels] == [
            one.tag for one in result.instances
        ]
        for one in result.instances:
            assert one.mask.shape == result.size
            assert one.tag in result.asked
            inside = np.argwhere(one.mask)
            left, top, width, height = one.to_dict()['box']
            assert (top, left) == tuple(inside.min(0))
            assert (top + height, left + width) == tuple(inside.max(0) + 1)


def test_another_call_with_other_names(inferencer):
    (result,) = inferencer(SCENES[0], classes=['dog', 'pizza'], threshold=0.0)
    assert len(result.tags) == 1  # the other scores less
    assert list(result.asked) == ['background', *result.tags]
    assert result.classes == ('background', 'dog', 'pizza')


def test_one_encoding_answers_several_questions(inferencer, results, monkeypatch):
    analysis = Analysis(inferencer, np.asarray(Image.open(SCENES[0])), 'scene')
    monkeypatch.setattr(inferencer.model.sam3.model.vision_encoder, 'forward', None)  # would fail
    stages = analysis.stages()
    assert list(stages) == ['coarse', 'DMAR', 'CWR']
    result = analysis.masks(tags=stages['CWR'])
    assert set(result.tags) == set(stages['CWR'].tags)
    assert np.array_equal(analysis.masks().mask, results[0].mask)
    few = analysis.masks(tags=stages['CWR'].with_rule(top=1), background_level=0.9)
    assert len(few.asked) == 2
    assert (few.mask == 0).all()


# Drawings


def test_instances_are_drawn(results):
    image = np.asarray(Image.open(SCENES[0]))
    result = next(one for one in results if one.image.endswith(SCENES[0].name))
    found = [(one.tag, one.score, one.mask) for one in result.instances]
    assert np.array_equal(draw_result(image, result), draw_instances(image, found))
    black = np.zeros((40, 60, 3), np.uint8)
    lower, upper = np.zeros((2, 40, 60), bool)
    lower[:, :40], upper[:, 20:] = True, True
    drawn = draw_instances(black, [('dog', 0.5, lower), ('dog', 0.9, upper)], with_legend=False)
    left, right = drawn[450, 150], drawn[450, 800]
    assert (left != right).any()
    # The one with the higher score is on top: in the overlap the colour is its own.
    assert (drawn[100, 480] == drawn[100, 800]).all()
    with pytest.raises(ValueError, match="an instance of 'dog' has another size"):
        draw_instances(black, [('dog', 0.5, lower[:2])])


# The command line


def test_the_command_line_s_instances_become_coco_s(config, results, tmp_path):
    lines, out, polygons = (tmp_path / name for name in ('a.jsonl', 'a.json', 'polygons.json'))
    command = ['segment', *map(str, SCENES), '--model', str(config), '--out', str(lines)]
    assert cli.main([*command, '--vis', str(tmp_path / 'vis')]) == 0
    assert len(list((tmp_path / 'vis').iterdir())) == 2
    convert = ['convert', str(lines), '--to', 'coco', '--out']
    assert cli.main([*convert, str(out)]) == 0
    assert cli.main([*convert, str(polygons), '--shapes', 'polygons']) == 0
    coco, outlined = COCO(str(out)), COCO(str(polygons))
    assert len(coco.getImgIds()) == 2
    for number, result in zip(coco.getImgIds(), results, strict=True):
        (image,) = coco.loadImgs(number)
        assert image['file_name'] == Path(result.image).name
        annotations = coco.loadAnns(coco.getAnnIds(number))
        assert len(annotations) == len(result.instances)
        for annotation, one in zip(annotations, result.instances, strict=True):
            (category,) = coco.loadCats(annotation['category_id'])
            assert (category['name'], annotation['score']) == (one.tag, one.score)
            assert np.array_equal(coco.annToMask(annotation).astype(bool), one.mask)
            assert annotation['area'] == one.mask.sum()
            assert annotation['bbox'] == coco_mask.toBbox(annotation['segmentation']).tolist()
            (outline,) = outlined.loadAnns(annotation['id'])
            drawn = outlined.annToMask(outline).astype(bool)
            assert (drawn & one.mask).sum() > 0.5 * (drawn | one.mask).sum()


def test_without_weights_there_is_one_sentence(capsys, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
    command = ['segment', str(SCENES[0]), '--model', 'activesam_sam3_voc21']
    assert cli.main(command) != 0
    error = capsys.readouterr().err
    assert re.search(r"Meta's SAM License at https://huggingface.co/facebook/sam3", error)
    assert 'Traceback' not in error
    other = tmp_path / 'sam.safetensors'
    from safetensors.torch import save_file

    save_file({'image_encoder.weight': torch.zeros(1)}, other)
    assert cli.main([*command, '--checkpoint', str(other)]) != 0
    assert 'SAM 1 or 2, which take points and boxes' in capsys.readouterr().err
    (tmp_path / 'config.json').write_text('{"model_type": "sam2"}')
    assert cli.main([*command, '--checkpoint', str(tmp_path)]) != 0
    assert "describes a model of type 'sam2'" in capsys.readouterr().err


# The tools


def test_augmentation_and_drawings_of_the_test_tool(config, tmp_path):
    cfg = Config.fromfile(config)
    cfg.model.with_instances = False
    path = write(cfg, tmp_path / 'config.py')
    plain = run_script(TEST_PY, path, '--work-dir', tmp_path / 'a', '--show-dir', tmp_path / 'b')
    assert plain.returncode == 0, plain.stderr[-2000:]
    assert len(list((tmp_path / 'b').rglob('*.png'))) == 2
    views = run_script(TEST_PY, path, '--work-dir', tmp_path / 'c', '--tta')
    assert views.returncode == 0, views.stderr[-2000:]
    for process in (plain, views):
        assert 'mIoU' in process.stdout + process.stderr
    refused = run_script(TEST_PY, config, '--work-dir', tmp_path / 'd', '--tta')
    assert 'can not be merged: leave out with_instances' in refused.stderr


def test_pseudo_labels_of_two_processes_equal_those_of_one(config, results, tmp_path):
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(Config.fromfile(ROOT / 'configs/_base_/pseudo_masks.py').to_dict())
    cfg.test_pipeline.pop(2)
    cfg.test_dataloader.dataset.pipeline = cfg.test_pipeline
    cfg.test_evaluator = []
    path = write(cfg, tmp_path / 'config.py')
    one = run_script(TEST_PY, path, '--work-dir', tmp_path / 'one')
    assert one.returncode == 0, one.stderr[-2000:]
    two = run_ranks(TEST_PY, path, '--work-dir', tmp_path / 'two')
    assert two.returncode == 0, two.stderr[-2000:]
    roots = [tmp_path / name / 'pseudo_labels' for name in ('one', 'two')]
    found = [
        {
            str(file.relative_to(root)): file.read_bytes()
            for file in root.rglob('*')
            if file.is_file()
        }
        for root in roots
    ]
    assert found[0] == found[1]
    _, records = read_pseudo_labels(roots[0])
    assert len(records) == 2
    for record, result in zip(records, results, strict=True):
        assert Path(record.image).name == Path(result.image).name
        with Image.open(roots[0] / record.more['masks']) as mask:
            assert np.array_equal(np.asarray(mask), result.mask)
        assert record.more['asked'] == pytest.approx(result.asked, abs=1e-5)
        assert len(read_instances(record)) == len(result.instances)
        assert set(record.tags) == set(result.tags)


# The web page


def test_the_web_page_asks_sam_3(inferencer):
    pytest.importorskip('starlette', reason='the web page needs the extra web')
    import asyncio

    from mmtagclip.web import make_app
    from tests.web.asgi import call

    app = make_app(inferencer, 'concepts')

    async def visit():
        headers = [(b'host', b'127.0.0.1')]
        taken = await call(app, '/api/image', SCENES[0].read_bytes(), query=b'name=a.jpg',
                           headers=headers)  # fmt: skip
        question = {
            'classes': 'bell, dog',
            'background': 'wall',
            'threshold': 0.0,
            'background_level': 0.01,
        }
        key = taken.json()['key']
        cookie = [(b'cookie', taken.headers.get('set-cookie', '').partition(';')[0].encode())]
        return await call(
            app, f'/api/{key}/ask', json.dumps(question).encode(), headers=headers + cookie
        )

    reply = asyncio.run(visit())
    assert reply.status == 200, reply.body
    answer = reply.json()
    assert {one['name'] for one in answer['masks']} <= {'background', 'bell', 'dog'}
