_base_ = [
    '../_base_/models/tagclip_demo.py',
    '../_base_/datasets/demo_seg_test.py',
    '../_base_/seg_runtime.py',
]
model = dict(
    _delete_=True,
    type='mmtagclip.CLSSeg',
    tagger=_base_.model,
    cam=dict(type='mmtagclip.SoftmaxGradCAM'),
    affinity=dict(
        type='mmtagclip.AffinityRefinement',
        layers=(4, 5, 6, 7, 8, 9, 10),
        box_threshold=0.4),
    background_prompts=_base_.model.background,
    templates=['a photo of a {}.'],
    data_preprocessor=dict(type='mmtagclip.CLIPDataPreprocessor'))
