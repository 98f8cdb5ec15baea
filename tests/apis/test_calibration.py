"""A calibration of the demo's tagger, fitted, saved and used as a user does."""

import numpy as np
import pytest
import torch
from mmengine.runner import load_checkpoint

from mmtagclip.apis import Analysis, TagInferencer, calibrate
from mmtagclip.apis.model_zoo import load_config
from mmtagclip.cli import main
from mmtagclip.clip import Vocabulary
from mmtagclip.images import read_image
from mmtagclip.jobs.runner import Job
from mmtagclip.models.taggers.calibration import read_compound_prompts
from mmtagclip.registry import MODELS
from tests import twins
from tests.apis.conftest import SCENES

NAMES = ['bell', 'octopus', 'train', 'pizza']
PROMPTS = 'a bell and a train\ntwo octopuses beside a pizza\npizza on a train\n'
PATHS = sorted(map(str, SCENES.glob('*.jpg')))[:4]


@pytest.fixture(scope='module')
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp('prompts') / 'prompts.txt'
    path.write_text(PROMPTS)
    return path


@pytest.fixture(scope='module')
def checkpoint(demo_tagger, prompts):
    out = prompts.with_name('calibration.pth')
    assert calibrate(demo_tagger, PATHS, out, classes=NAMES, compound=prompts) == {}
    assert [path.name for path in out.parent.iterdir()] == ['prompts.txt', 'calibration.pth']
    return out


@pytest.fixture(scope='module')
def calibrated(checkpoint):
    return TagInferencer('tagclip_demo', checkpoint, show_progress=False, classes=NAMES)


def test_scores_are_those_of_the_plain_twin(demo_tagger, calibrated, prompts):
    single = np.array([one.scores for one in demo_tagger(PATHS, classes=NAMES)], np.float64)
    encoder = demo_tagger.model.encoder
    tokens = torch.cat(
        [
            encoder.ordinary_class_token(Analysis(demo_tagger, read_image(path)).encoded.features)
            for path in PATHS
        ]
    ).double()
    lines, member = read_compound_prompts(prompts, [(name,) for name in NAMES])
    assert member.sum(dim=0).tolist() == [2, 2, 2]
    words = [Vocabulary(tuple((one,) for one in texts)) for texts in (NAMES, lines)]
    text = [encoder.encode_names(one, ('a photo of a {}.',)).double() for one in words]
    simple, compound = ((tokens @ one.T).numpy() for one in text)
    expected = 1 / (1 + np.exp(-twins.sparc(single, simple, compound, member.numpy())))
    scores = [one.scores for one in calibrated(PATHS)]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-4)
    assert calibrated(PATHS[0])[0].rule.min_score == 0
    assert list(Analysis(calibrated, read_image(PATHS[0])).stages(calibrated.names_for())) == [
        'coarse',
        'DMAR',
        'CWR',
        'calibrated',
    ]


def test_tools_of_the_framework_read_the_checkpoint(calibrated, checkpoint):
    model = MODELS.build(load_config('tagclip_demo', {'model.classes': NAMES}).model)
    load_checkpoint(model, str(checkpoint))
    (result,) = TagInferencer(model, show_progress=False)(PATHS[0])
    assert np.array_equal(result.scores, calibrated(PATHS[0])[0].scores)


def test_command_and_what_it_resumes(checkpoint, prompts, tmp_path, capsys, monkeypatch):
    out, damaged = tmp_path / 'again.pth', tmp_path / 'damaged.jpg'
    damaged.write_bytes(b'no image')
    command = ['calibrate', *PATHS, str(damaged), '--model', 'tagclip_demo', '--quiet']
    command += ['--classes', ','.join(NAMES), '--compound', str(prompts), '--out', str(out)]
    add, seen = Job.add, []

    def die(self, index, record, *files):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(index)
        add(self, index, record, *files)

    monkeypatch.setattr(Job, 'add', die)
    assert main(command) == 130
    monkeypatch.setattr(Job, 'add', lambda *call: (seen.append(call[1]), add(*call)))
    assert main(command) == 1
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert 'could not read' in capsys.readouterr().err
    ours, theirs = (torch.load(path, weights_only=True)['state_dict'] for path in (checkpoint, out))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert main(command) == 2
    assert 'exists already; add --overwrite' in capsys.readouterr().err


def test_what_is_refused(demo_tagger, calibrated, checkpoint, tmp_path):
    out = tmp_path / 'calibration.pth'
    for options, message in [
        ({'inputs': PATHS[:1], 'classes': NAMES}, 'images with each other: 1 is too few'),
        ({'inputs': [PATHS[0]] * 2, 'classes': NAMES}, "score of 'bell' is the same in all 2"),
        ({'inputs': PATHS, 'classes': ['bell']}, 'classes with each other: name at least 2'),
    ]:
        with pytest.raises(ValueError, match=message):
            calibrate(demo_tagger, out=out, **options)
    assert not out.exists()
    with pytest.raises(ValueError, match='is calibrated already'):
        calibrate(calibrated, PATHS, out)
    with pytest.raises(ValueError, match=r"fitted for other names: its 14 .* are 2: 'dog', 'bell'"):
        calibrated(PATHS[0], classes=['dog', 'bell'], background=[])
    with pytest.raises(ValueError, match='the same names with other prompts'):
        calibrated.model.head.calibration.check_names(
            demo_tagger.model.encoder.names(NAMES, demo_tagger.model.background, ('a {}',))
        )
    with pytest.raises(ValueError, match=r'calibration\.pth: .* scores of another head'):
        TagInferencer('coarse_demo', checkpoint)
    other = load_config('tagclip_demo', {'model.encoder.positions': 'bicubic'})
    with pytest.raises(ValueError, match='calibration was fitted for another encoder'):
        TagInferencer(other, checkpoint)
    torch.save({'state_dict': {'head.scorer.bias': torch.zeros(2)}}, out)
    with pytest.raises(ValueError, match='holds no calibration of mmtagclip calibrate'):
        TagInferencer('tagclip_demo', out)


def test_a_classifier_stays_with_its_calibration(tmp_path):
    piaa = MODELS.build(load_config('piaa_demo').model)
    numbers = torch.Generator().manual_seed(0)
    shapes = piaa.head.scorer.weight.shape, piaa.head.scorer.bias.shape
    piaa.head.scorer.set(*(torch.randn(shape, generator=numbers) for shape in shapes))
    piaa = TagInferencer(piaa, show_progress=False)
    out = tmp_path / 'both.pth'
    calibrate(piaa, PATHS[:3], out)
    both = TagInferencer('piaa_demo', out, show_progress=False)
    single = np.array([one.scores for one in piaa(PATHS[:3])], np.float64)
    expected = twins.sparc(single, single, single[:, :0], np.zeros((single.shape[1], 0), bool))
    scores = [one.scores for one in both(PATHS[:3])]
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-expected)), rtol=0, atol=1e-4)
