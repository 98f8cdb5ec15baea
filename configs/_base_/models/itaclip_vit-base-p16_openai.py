# ITACLIP (CVPRW 2025): its attention and PAMR. Its views of the image, the text of a
# language model and the closing of labels are left out, so that its published
# figures are not to be expected.
model = dict(
    type='mmtagclip.DirectSegmentor',
    encoder=dict(
        type='mmtagclip.CLIPEncoder',
        model='ViT-B-16-quickgelu',
        pretrained='openai',
        last_block=dict(type='mmtagclip.ITACLIPLastBlock'),
        positions='bicubic_scale'),
    head=dict(
        type='mmtagclip.SegTextHead',
        templates='templates_80',
        logit_scale=40.0),
    windows=dict(type='mmtagclip.SlidingWindows', size=224, stride=28),
    logit_processor=dict(type='mmtagclip.PAMR'),
    data_preprocessor=dict(type='mmtagclip.CLIPDataPreprocessor'))
