"""Shared fixtures: a tiny CLIP with rebuildable random weights, the demo's models, pictures."""

import gc
import os
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from yapf.yapflib import yapf_api

from mmtagclip.clip import DenseEncoder, load_clip
from mmtagclip.images import PatchGrid
from tests.golden.weights import openai_clip_state_dict, smooth_image

# The models here are tiny: more threads would only wait for each other.
torch.set_num_threads(1)


def check_syntax(text, **options):
    """Stands in for yapf, to which each of mmengine's runners gives its config three times.

    Laying out a config took most of the time of the tests that build runners. Its syntax is checked
    as yapf checks it.
    """
    compile(text, 'config', 'exec')
    return text, False


yapf_api.FormatCode = check_syntax

CONFIGS = str(Path(__file__).parents[1] / 'configs')
parse, parsed = Config._file2dict, {}


def parse_once(filename, *arguments, **options):
    """Parse each file of configs/ once: tests read hundreds of configs with the same few bases."""
    key = os.path.abspath(filename), arguments, tuple(options.items())
    if key in parsed:
        return deepcopy(parsed[key])
    found = parse(filename, *arguments, **options)
    # found[1] is the text of the file and its bases. One that names an environment variable is read
    # each time; found[2], the variables used, lacks those that were not set.
    if key[0].startswith(CONFIGS) and '{{$' not in found[1]:
        parsed[key] = deepcopy(found)
    return found


Config._file2dict = staticmethod(parse_once)


def pytest_collection_finish():
    """All that was imported stays: mmengine's data sets search the garbage when they are built."""
    gc.collect()
    gc.freeze()
    # Autograd's first use starts a thread for each device, and a process with such threads can't be
    # forked. From the first fake tensors on, torch counts a device that is not there.
    if not torch.cuda.is_available():
        torch.ones((), requires_grad=True).backward()


# A start of a Python process imports torch and the frameworks: 8 seconds of CPU time. More starts
# than this fail the suite; tests/processes.py has functions that need none.
MOST_STARTS = 25
starts = 0


def count_starts(event, arguments):
    """Count what a test starts: Python, or one of tools/dist_*.sh, which is one start here."""
    global starts
    if event == 'subprocess.Popen' and 'PYTEST_CURRENT_TEST' in os.environ:
        names = [Path(os.fsdecode(part)).name for part in arguments[1][:4]]
        starts += any(name.startswith(('python', 'dist_')) for name in names)


sys.addaudithook(count_starts)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    global starts
    starts += getattr(node, 'workeroutput', {}).get('starts', 0)


def pytest_sessionfinish(session):
    if hasattr(session.config, 'workeroutput'):  # one of xdist's processes
        session.config.workeroutput['starts'] = starts
    elif starts > MOST_STARTS:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    words = f'{starts} starts of a Python process, at most {MOST_STARTS} are allowed'
    terminalreporter.write_line(words, red=starts > MOST_STARTS)


# The architecture of the golden arrays' weights.
TINY = {
    'embed_dim': 64,
    'quick_gelu': True,
    'vision_cfg': {'image_size': 224, 'layers': 12, 'width': 128, 'patch_size': 16},
    'text_cfg': {'context_length': 77, 'vocab_size': 49408, 'width': 64, 'heads': 1, 'layers': 2},
}


def has_float16_convolution() -> bool:
    """Whether this torch convolves float16 on a CPU; 2.1 does not."""
    one = torch.ones(1, 1, 1, 1, dtype=torch.float16)
    try:
        torch.nn.functional.conv2d(one, one)
    except RuntimeError:
        return False
    return True


# The data types that an encoder may have besides float32.
NARROW = [
    'bfloat16',
    pytest.param(
        'float16',
        marks=pytest.mark.skipif(
            not has_float16_convolution(), reason='this torch has no float16 convolution on CPUs'
        ),
    ),
]


@pytest.fixture(scope='session')
def state_dict() -> dict[str, torch.Tensor]:
    """The golden weights, float32."""
    return {
        key: torch.from_numpy(np.array(value)) for key, value in openai_clip_state_dict().items()
    }


@pytest.fixture(scope='session')
def clip(state_dict):
    """A tiny open_clip model with the golden weights."""
    model = open_clip.CLIP(**deepcopy(TINY))
    model.load_state_dict(state_dict)
    return model


@pytest.fixture(scope='session')
def encoder(clip):
    """Its dense encoder, value-only, float32."""
    return DenseEncoder(load_clip(clip))


@pytest.fixture(scope='session')
def checkpoint(state_dict, tmp_path_factory):
    """The golden weights as a .safetensors file, and the config of an encoder that loads it."""
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp('weights') / 'tiny.safetensors'
    save_file(state_dict, path)
    return path


@pytest.fixture(scope='session')
def encoder_config(checkpoint):
    """Config of an encoder with the golden weights, whose text features are not cached."""
    return {
        'type': 'mmtagclip.CLIPEncoder',
        'model': deepcopy(TINY),
        'checkpoint': str(checkpoint),
        'text_cache': False,
    }


@pytest.fixture(scope='session')
def sam3_config(tmp_path_factory):
    """Config of a tiny SAM 3 with random weights in a file; texts are not cached."""
    from safetensors.torch import save_file

    from tests.golden.sam3 import TINY_SAM3, sam3_state_dict

    path = tmp_path_factory.mktemp('sam3') / 'tiny.safetensors'
    save_file(sam3_state_dict(), path)
    return {
        'type': 'mmtagclip.Sam3',
        'model': deepcopy(TINY_SAM3),
        'checkpoint': str(path),
        'text_cache': False,
        'max_phrases': 3,
    }


@pytest.fixture(scope='session')
def demo_tagger():
    """The inferencer of the demo's tagger; leave it as it is."""
    from mmtagclip.apis import TagInferencer

    return TagInferencer('tagclip_demo', show_progress=False)


@pytest.fixture(scope='session')
def demo_segmentor():
    """The inferencer of the demo's segmentor; leave it as it is."""
    from mmtagclip.apis import SegInferencer

    return SegInferencer('cls-seg_demo', show_progress=False)


def picture(height: int, width: int, seed: int) -> np.ndarray:
    """A picture ``(H, W, 3)`` uint8 RGB."""
    return smooth_image(height, width, seed)


def normalised(encoder: DenseEncoder, height: int, width: int, seed: int) -> torch.Tensor:
    """The encoder's input ``(1, 3, H', W')`` for a picture, by the plain formula."""
    size = PatchGrid(encoder.patch_size).target_size(height, width)
    image = Image.fromarray(picture(height, width, seed)).resize(
        size[::-1], Image.Resampling.BICUBIC
    )
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    mean, std = torch.tensor(encoder.mean), torch.tensor(encoder.std)
    return (x - mean[:, None, None]) / std[:, None, None]
