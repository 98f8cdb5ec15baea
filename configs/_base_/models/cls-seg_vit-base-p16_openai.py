_base_ = './tagclip_vit-base-p16_openai.py'
model = dict(
    _delete_=True,
    type='mmtagclip.CLSSeg',
    tagger=_base_.model,
    cam=dict(type='mmtagclip.SoftmaxGradCAM'),
    affinity=dict(
        type='mmtagclip.AffinityRefinement', layers=(4, 5, 6, 7, 8, 9, 10, 11), box_threshold=0.7
    ),
    templates='templates_origami',
    data_preprocessor=dict(type='mmtagclip.CLIPDataPreprocessor'),
)
