_base_ = './tagclip.py'
model = dict(
    _delete_=True,
    type='mmtagclip.CLSSeg',
    tagger=_base_.model,
    cam=dict(type='mmtagclip.SoftmaxGradCAM'),
    affinity=dict(type='mmtagclip.AffinityRefinement', box_threshold=0.7),
    templates='templates_origami',
    data_preprocessor=dict(type='mmtagclip.CLIPDataPreprocessor'),
)
