# ITACLIP (CVPRW 2025): its attention, views of the image, PAMR and closing of labels. The
# text of a language model is not part of it, so that its published figures are not to
# be expected; head.descriptions=FILE takes one description a class.
_base_ = './direct.py'
model = dict(
    encoder=dict(last_block=dict(type='mmtagclip.ITACLIPLastBlock')),
    head=dict(description_weight=0.2),
    windows=dict(stride=28),
    views=dict(type='mmtagclip.ImageViews', weight=0.75),
    logit_processor=dict(type='mmtagclip.PAMR', iterations=10),
    label_processor=dict(type='mmtagclip.LabelClosing', size=3),
)
