"""How long commands and imports take: mistakes and lists need no torch, tags no MMSegmentation."""

import json
import sys
from itertools import pairwise

from tests.processes import ROOT, run

IMAGE = ROOT / 'demo/data/JPEGImages/000040.jpg'
# Each with what it prints, and where.
COMMANDS = [
    (['--version'], 'mmtagclip '),
    (['tag', '--help'], '--classes'),
    (['models'], 'tagclip_demo '),
    (['models', '--json'], '"weights": "bundled"'),
    (['config'], 'backbones: '),
    (['config', 'sclip', 'vit-large-p14_openai', 'voc21'], '_base_ = ['),
    (['check', 'nothere'], 'nothere holds no results'),
    (['tag', 'nothere.jpg'], 'no image or folder at nothere.jpg'),
    (['tag', IMAGE, '--out', 'tags.txt'], '--out must end in'),
    (['segment', IMAGE, '--out', 'mask.png'], 'or be a folder without an ending, not mask.png'),
    (['tag', IMAGE, '--out', IMAGE / 'tags.csv'], 'is a file, so nothing can be written'),
    (['tag', IMAGE, '--model', 'tagclip_dmo'], 'similar names: tagclip_demo'),
    (['tag', IMAGE, '--checkpoint', 'gone.pt'], '--checkpoint: there is no file gone.pt'),
    (['tag', IMAGE, '--classes', 'gone.txt'], 'no file of names at gone.txt'),
    (['tag', IMAGE, '--classes', 'names.json'], 'names.json has no classes under'),
    (['tag', IMAGE, '--classes', 'coko'], 'did you mean coco'),
    (['segment', IMAGE, '--background', 'coko'], 'did you mean coco'),
    (['tag', IMAGE, '--threshold', '3'], 'threshold must be in [0, 1], not 3'),
    (['tag', IMAGE, '--min-score', '-1'], 'min_score must be in [0, 1], not -1'),
    (['tag', IMAGE, '--top', '0'], 'top must be at least 1, not 0'),
    (['tag', IMAGE, '--batch-size', '0'], '--batch-size must be at least 1, not 0'),
    (['segment', IMAGE, '--out', IMAGE / 'masks'], 'is a file, so nothing can be written'),
    (['export', 'encoder.onnx', '--model', 'no_such'], "'no_such' is neither a config file nor"),
    (['export', 'encoder.txt'], 'the file must end in .onnx, not encoder.txt'),
    (['web', '--port', '70000'], '--port must be in 0 to 65535, not 70000'),
    (['tag', IMAGE, '--clases', 'dog'], 'arguments: --clases dog; did you mean --classes?'),
    (['tag', IMAGE, '--conf=0.5'], 'arguments: --conf=0.5; did you mean --min-score?'),
    (['models', 'zebra'], "no model has 'zebra' in its name"),
    (['embed', IMAGE, '--out', 'a.safetensors', '--max-side', '0'], '--max-side must be at least'),
    (['tag', IMAGE, '--model', 'cls-seg_demo'], 'cls-seg_demo makes masks, not tags'),
    (['tag', IMAGE, '--cfg-options', 'a'], 'an option is KEY=VALUE'),
    (['tag', IMAGE], 'are not on this machine, and nothing is downloaded'),
]
SCRIPTS = [('tools/test.py', 'no config file at gone.py'), ('tools/train.py', 'no config file at')]

PROGRAM = """
import contextlib, io, json, runpy, sys, time

begin = time.process_time()
from mmtagclip import cli

rows = []
for words, expected in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            if words[0].endswith('.py'):
                sys.argv = words
                runpy.run_path(words[0], run_name='__main__')
            else:
                cli.main(words)
        except SystemExit:
            pass
    names = ['torch', 'open_clip', 'timm']
    if words[0] == 'models':
        names += ['cv2', 'huggingface_hub.file_download']
    heavy = [name for name in names if name in sys.modules]
    rows.append([words, expected in said.getvalue() or said.getvalue(), heavy])
    rows[-1].append(time.process_time() - begin)
    begin = time.process_time()
import torch
print(json.dumps([rows, time.process_time() - begin]))
"""


def test_mistakes_and_lists_need_no_torch(tmp_path):
    (tmp_path / 'names.json').write_text('{"names": []}')
    cases = [([str(word) for word in words], expected) for words, expected in COMMANDS]
    cases += [([str(ROOT / script), 'gone.py'], expected) for script, expected in SCRIPTS]
    begin = f'import os; os.chdir({str(tmp_path)!r})\n'
    process = run(sys.executable, '-c', begin + PROGRAM, json.dumps(cases), HF_HOME=tmp_path)
    assert process.returncode == 0, process.stderr
    rows, torch = json.loads(process.stdout.splitlines()[-1])
    assert len(rows) == len(cases)
    for words, said, heavy, seconds in rows:
        assert said is True, (words, said)
        assert not heavy, words
        assert seconds < 0.6 * torch, (words, seconds, torch)


def test_tags_need_no_mmsegmentation(tmp_path):
    """Nor IPython, nor matplotlib where nothing is drawn, and little beyond torch and open_clip."""
    program = """
import gc, json, sys, time
times = [time.process_time()]
import torch
times.append(time.process_time())
import open_clip, timm
times.append(time.process_time())
from mmtagclip.apis import TagInferencer
times.append(time.process_time())
from mmtagclip import cli
code = cli.main(sys.argv[1:])
drawing = 'matplotlib' in sys.modules
names = [name for name in sys.modules if name.split('.')[0] in ('mmseg', 'IPython')]
names += [] if gc.isenabled() else ['without garbage collection']
print(json.dumps([times, drawing, code, names]))
"""
    out = tmp_path / 'tags.jsonl'
    words = ['tag', IMAGE, '--model', 'tagclip_demo', '--out', out, '--quiet']
    process = run(sys.executable, '-c', program, *words, OMP_NUM_THREADS='1')
    assert process.returncode == 0, process.stderr
    times, drawing, code, names = json.loads(process.stdout)
    assert (code, drawing, names) == (0, False, [])
    assert json.loads(out.read_text())['tags']
    torch, others, ours = (later - earlier for earlier, later in pairwise(times))
    assert ours < 0.25 * (torch + others), times
    # open_clip imports transformers where it is installed.
    assert torch + others + ours < 4.5 * torch, times
