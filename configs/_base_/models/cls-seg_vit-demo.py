_base_ = './tagclip_vit-demo.py'
model = dict(
    _delete_=True,
    type='mmtagclip.CLSSeg',
    tagger=_base_.model,
    cam=dict(type='mmtagclip.SoftmaxGradCAM'),
    affinity=dict(
        type='mmtagclip.AffinityRefinement', layers=(4, 5, 6, 7, 8, 9, 10), box_threshold=0.4
    ),
    background_prompts=_base_.model.background,
    templates=['a photo of a {}.'],
    data_preprocessor=dict(type='mmtagclip.CLIPDataPreprocessor'),
)
