# The demo model: a tiny ViT of 12 blocks, trained on the demo's own world.
_demo = '{{fileDirname}}/../../../demo'
model = dict(
    type='mmtagclip.TagCLIP',
    encoder=dict(type='mmtagclip.CLIPEncoder', model=f'local-dir:{_demo}/model'),
    head=dict(
        type='mmtagclip.TagCLIPHead',
        dmar=dict(type='mmtagclip.DMAR', layers=(8, 9, 10), votes=4),
        cwr=dict(type='mmtagclip.CWR', threshold=0.5),
        threshold=0.5,
    ),
    classes=f'{_demo}/data/classes.txt',
    background=f'{_demo}/data/background.txt',
    templates='templates_85',
    data_preprocessor=dict(type='mmtagclip.CLIPDataPreprocessor'),
)
