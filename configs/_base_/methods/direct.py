# What direct segmentors share: patches of a dense encoder against words.
model = dict(
    type='mmtagclip.DirectSegmentor',
    encoder=dict(type='mmtagclip.CLIPEncoder', positions='bicubic_scale'),
    head=dict(type='mmtagclip.SegTextHead', templates='templates_80', logit_scale=40.0),
    windows=dict(type='mmtagclip.SlidingWindows', size=224, stride=112),
    data_preprocessor=dict(type='mmtagclip.CLIPDataPreprocessor'),
)
