# Direct segmentation by the demo model; the background's names are its words.
_demo = '{{fileDirname}}/../../../demo'
model = dict(
    type='mmtagclip.DirectSegmentor',
    encoder=dict(
        type='mmtagclip.CLIPEncoder',
        model=f'local-dir:{_demo}/model',
        last_block=dict(type='mmtagclip.SelfOnlyLastBlock'),
    ),
    head=dict(
        type='mmtagclip.SegTextHead',
        classes=f'{_demo}/data/classes.txt',
        background=f'{_demo}/data/background.txt',
        templates='templates_85',
        logit_scale=100.0,
    ),
    windows=dict(type='mmtagclip.WholeImage'),
    data_preprocessor=dict(type='mmtagclip.CLIPDataPreprocessor'),
)
