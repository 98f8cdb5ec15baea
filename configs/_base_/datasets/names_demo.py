# The demo's 50 classes and its background.
_demo = '{{fileDirname}}/../../../demo/data'
_names = dict(classes=f'{_demo}/classes.txt', background=f'{_demo}/background.txt')
layers = 'voc'
# Thresholds chosen on development scenes (demo/README.md); the scale is the model's own.
threshold = 0.3
parts = dict(
    TagCLIP=_names,
    TagCLIPHead=dict(threshold=threshold),
    SegTextHead=dict(**_names, logit_scale=32.0, background_threshold=0.9),
    ConceptSegmentor=dict(classes=_names['classes'], background=['background']),
    CLSSeg=dict(background_prompts=_names['background']),
    AffinityRefinement=dict(box_threshold=0.4),
)
