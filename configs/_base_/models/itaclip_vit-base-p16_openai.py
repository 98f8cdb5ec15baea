# ITACLIP (CVPRW 2025): its attention, views of the image, PAMR and closing of labels. The
# text of a language model does not come along, so that its published figures are not to
# be expected; head.descriptions=FILE takes one description a class.
model = dict(
    type='mmtagclip.DirectSegmentor',
    encoder=dict(
        type='mmtagclip.CLIPEncoder',
        model='ViT-B-16-quickgelu',
        pretrained='openai',
        last_block=dict(type='mmtagclip.ITACLIPLastBlock', layers=(6, 7, 9)),
        positions='bicubic_scale',
    ),
    head=dict(
        type='mmtagclip.SegTextHead',
        templates='templates_80',
        logit_scale=40.0,
        description_weight=0.2,
    ),
    windows=dict(type='mmtagclip.SlidingWindows', size=224, stride=28),
    views=dict(type='mmtagclip.ImageViews', weight=0.75),
    logit_processor=dict(type='mmtagclip.PAMR', iterations=10),
    label_processor=dict(type='mmtagclip.LabelClosing', size=3),
    data_preprocessor=dict(type='mmtagclip.CLIPDataPreprocessor'),
)
