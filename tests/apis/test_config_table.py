"""Configs as a table: what is committed is what the tables make, and every cell is a config."""

import copy
import re
import runpy
import shutil
import sys
import tomllib
from pathlib import Path

import open_clip
import pytest
from mmengine.config import Config

from mmtagclip import cli
from mmtagclip.apis import config_table
from mmtagclip.apis.config_table import ConfigTable
from mmtagclip.clip import LAST_BLOCKS, LastBlock, last_block
from mmtagclip.registry import MODELS
from tests.apis.conftest import ROOT
from tests.processes import run

CONFIGS = ROOT / 'configs'
MAKE = runpy.run_path(str(ROOT / 'tools/dev/make_configs.py'))
TABLE = ConfigTable(CONFIGS)


@pytest.fixture(scope='module')
def load(tmp_path_factory):
    """Load the text of a config; bases, which many have in common, are read once."""
    cache = {}
    original = Config._file2dict
    patch = pytest.MonkeyPatch()

    def file2dict(filename, *args, **kwargs):
        if Path(filename).parent == folder:
            return original(filename, *args, **kwargs)
        if filename not in cache:
            cache[filename] = original(filename, *args, **kwargs)
        return copy.deepcopy(cache[filename])

    folder = tmp_path_factory.mktemp('configs')
    patch.setattr(Config, '_file2dict', staticmethod(file2dict))

    def load(text):
        path = folder / 'config.py'
        path.write_text(text)
        return Config.fromfile(path)

    yield load
    patch.undo()


def test_what_is_committed_is_what_the_tables_make():
    for path, text in MAKE['made_files'](TABLE):
        assert path.read_text() == text, path.relative_to(ROOT)
    assert not MAKE['stale_files'](TABLE)


def test_configs_are_as_wide_as_ruff_makes_them():
    options = tomllib.loads((ROOT / 'pyproject.toml').read_text())['tool']['ruff']
    assert options['line-length'] == config_table.WIDTH


def test_an_algorithm_is_a_folder_with_one_collection():
    names = [content['collection'] for content in TABLE.published.values()]
    assert len(names) == len(set(names)) >= 10
    index = (ROOT / 'model-index.yml').read_text()
    for folder in TABLE.published:
        assert f'configs/{folder}/metafile.yml' in index


def test_a_page_without_the_marks_is_refused():
    with pytest.raises(ValueError, match='the page needs one line'):
        MAKE['with_table']('# A card', '| |')


@pytest.mark.parametrize('method', TABLE.methods)
def test_every_method_loads_with_each_backbone_and_each_data_set(method, load):
    # One of the new towers stands for all: they differ in the encoder alone.
    backbones = [
        one
        for one in TABLE.backbones_of(TABLE.methods[method])
        if 'openai' in one or one in ('vit-demo', 'convnext-large_laion2b', 'sam3')
    ]
    for number, backbone in enumerate(backbones):
        tower = TABLE._load(CONFIGS / f'_base_/backbones/{backbone}.py')['backbone']
        data_sets = list(TABLE.datasets(method))
        # All with the first backbone, and one each with the others.
        for data in data_sets if not number else [data_sets[number % len(data_sets)]]:
            cfg = load(TABLE.text(method, backbone, data))
            encoders = list(encoders_of(cfg.model))
            assert bool(encoders) == (backbone != 'sam3')
            for encoder in encoders:
                assert encoder['model'] == tower['encoder']['model']
            assert cfg.test_dataloader.dataset.pipeline == cfg.test_pipeline
            for step in (cfg.test_pipeline, cfg.get('tta_pipeline', [])):
                assert not any('patch_size' in entry for entry in entries(step))


def entries(value):
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            yield from entries(one)


def encoders_of(model):
    return (part for part in entries(model) if part.get('type') == 'mmtagclip.CLIPEncoder')


@pytest.mark.parametrize(
    'name',
    [
        ('tag-guided-sclip', 'vit-base-p16_openai', 'cocostuff171'),
        ('naclip_pamr', 'vit-base-p16_openai', 'voc21'),
        ('scclip', 'vit-large-p14_openai', 'voc21'),
        ('cls-seg_crf', 'vit-base-p16_openai', 'voc12'),
        ('piaa-sclip-dmar-cwr', 'vit-base-p16_openai', 'voc07'),
        ('clip', 'vit-base-p16_openai', 'voc07'),
        ('activesam', 'sam3', 'voc21'),
    ],
)
def test_a_published_cell_is_the_leaf(name, load, capsys):
    assert cli.main(['config', *name]) == 0
    method = TABLE.methods[name[0]]
    leaf = CONFIGS / method.folder / f'{method.leaf(*name[1:])}.py'
    assert load(capsys.readouterr().out).to_dict() == Config.fromfile(leaf).to_dict()


@pytest.mark.parametrize(
    'method, data',
    [
        ('tagclip', 'demo'),
        ('sclip_pamr', 'voc21'),
        ('tag-guided-scclip', 'cityscapes'),
        ('cls-seg', 'pascal-context59'),
        ('piaa-itaclip', 'coco14'),
    ],
)
def test_a_handful_is_built(method, data, load):
    cfg = load(TABLE.text(method, 'vit-demo', data))
    assert MODELS.build(cfg.model) is not None


@pytest.mark.parametrize('method', ['itaclip', 'scclip'])
def test_layers_of_a_deeper_model_follow_from_its_depth(method, load):
    """As by --cfg-options model.encoder.model=ViT-L-14-quickgelu on a published config."""
    deep = open_clip.CLIP(
        embed_dim=8,
        vision_cfg={'layers': 24, 'width': 8, 'head_width': 4, 'patch_size': 16, 'image_size': 32},
        text_cfg={'width': 8, 'heads': 2, 'layers': 1},
    )
    cfg = load(TABLE.text(method, 'vit-base-p16_openai', TABLE.datasets(method)[0]))
    built = MODELS.build({**cfg.model.encoder.to_dict(), 'model': deep, 'pretrained': None})
    assert built.num_blocks == 24
    assert max(built.last_block.block_inputs) > 12


def test_the_command_prints_what_works_in_any_folder(tmp_path):
    process = run(sys.executable, '-m', 'mmtagclip', 'config', 'sclip', 'vit-demo', 'demo')
    assert process.returncode == 0, process.stderr
    path = tmp_path / 'my.py'
    path.write_text(process.stdout)
    assert Config.fromfile(path).model.head.classes.endswith('demo/data/classes.txt')


def test_unknown_names_are_refused_with_the_near_ones(capsys):
    for arguments, message in [
        (['slip', 'vit-demo', 'voc21'], "no method 'slip' .*similar names: sclip"),
        (
            ['sclip', 'vit-base', 'voc21'],
            "no backbone of sclip 'vit-base' .*similar names: vit-base-p16_",
        ),
        (['sclip', 'vit-demo', 'voc07'], "no data set of sclip 'voc07' .*voc"),
        (['sclip', 'vit-demo'], 'give a method, a backbone and a data set'),
    ]:
        assert cli.main(['config', *arguments]) == 2
        error = capsys.readouterr().err
        assert re.search(message, error), error


def test_a_method_without_a_clip_goes_with_no_clip():
    with pytest.raises(ValueError, match="no backbone of activesam 'vit-base-p16_openai'"):
        TABLE.text('activesam', 'vit-base-p16_openai', 'voc21')
    with pytest.raises(ValueError, match="there is no backbone of sclip 'sam3'"):
        TABLE.text('sclip', 'sam3', 'voc21')


def test_all_names_are_listed(capsys):
    assert cli.main(['config']) == 0
    words = set(capsys.readouterr().out.replace(',', ' ').split())
    assert {*TABLE.methods, *TABLE.backbones} <= words
    assert {data for method in TABLE.methods for data in TABLE.datasets(method)} <= words


@pytest.fixture
def key_last_block():
    """A last block as a file of mmtagclip/clip/last_blocks would define it, for one test."""
    MODELS.get('mmtagclip.TagCLIP')  # imports the package, which registers what is there by then

    @MODELS.register_module()
    @last_block
    class KeyLastBlock(LastBlock):
        def attend(self, context):
            return context.qkv[1]

    yield KeyLastBlock
    del LAST_BLOCKS['KeyLastBlock'], MODELS.module_dict['KeyLastBlock']


def test_what_a_method_a_backbone_and_a_data_set_cost(tmp_path, key_last_block):
    """One file a backbone, one and a vocabulary a data set, two and a card a method; no list."""
    configs = tmp_path / 'configs'
    shutil.copytree(CONFIGS, configs)
    (tmp_path / 'demo').symlink_to(ROOT / 'demo')  # where the backbone vit-demo looks for its model
    base = configs / '_base_'
    (base / 'backbones/vit-huge-p14_mine.py').write_text(
        "backbone = dict(encoder=dict(model='ViT-H-14'))\n"
    )
    (base / 'datasets/masks/mine.py').write_text(
        "title = 'Mine'\n"
        "dataset = dict(type='mmtagclip.VocabularySegDataset', classes='coco')\n"
        "parts = dict(SegTextHead=dict(classes='coco'))\n"
    )
    (base / 'methods/keyclip.py').write_text(
        "_base_ = './direct.py'\n"
        "model = dict(encoder=dict(last_block=dict(type='mmtagclip.KeyLastBlock')))\n"
    )
    (configs / 'keyclip').mkdir()
    (configs / 'keyclip/README.md').write_text(f'# KeyCLIP\n\n{MAKE["START"]}\n{MAKE["END"]}\n')
    (configs / 'keyclip/published.yml').write_text(
        (configs / 'sclip/published.yml').read_text().partition('methods:')[0]
        + 'methods: {keyclip: {mine: {results: {mIoU (paper): 12.3}}}}\n'
    )
    table = ConfigTable(configs)
    made = dict(MAKE['made_files'](table))
    leaf = configs / 'keyclip/keyclip_vit-base-p16_openai_mine.py'
    assert [path for path in made if path.parent.name == 'keyclip'] == [
        leaf,
        leaf.with_name('metafile.yml'),
        leaf.with_name('README.md'),
    ]
    assert (
        '| `keyclip_vit-base-p16_openai_mine` | Mine | 12.3 |' in made[leaf.with_name('README.md')]
    )
    leaf.write_text(made[leaf])
    cfg = Config.fromfile(leaf)
    assert cfg.model.encoder.last_block.type == 'mmtagclip.KeyLastBlock'
    assert (cfg.model.head.classes, cfg.test_dataloader.dataset.classes) == ('coco', 'coco')
    path = tmp_path / 'demo.py'
    path.write_text(table.text('keyclip', 'vit-demo', 'mine'))
    encoder = MODELS.build(Config.fromfile(path).model).encoder
    assert (type(encoder.last_block), encoder.positions) == (key_last_block, 'bicubic_scale')
    path = tmp_path / 'huge.py'  # the fixture `load` remembers files by name
    path.write_text(table.text('tag-guided-keyclip', 'vit-huge-p14_mine', 'mine'))
    cfg = Config.fromfile(path)
    assert cfg.model.encoder.model == cfg.model.tagger.encoder.model == 'ViT-H-14'
