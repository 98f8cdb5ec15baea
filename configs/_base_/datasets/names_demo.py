# The demo's 50 classes and its background.
_demo = '{{fileDirname}}/../../../demo/data'
_names = dict(classes=f'{_demo}/classes.txt', background=f'{_demo}/background.txt')
layers = 'voc'
parts = dict(
    TagCLIP=_names,
    SegTextHead=_names,
    CLSSeg=dict(background_prompts=_names['background']),
    AffinityRefinement=dict(box_threshold=0.4),
)
