# Made of published.yml by tools/dev/make_configs.py.
_base_ = './cls-seg_vit-base-p16_openai_coco-object.py'
model = dict(post_processor=dict(type='mmtagclip.DenseCRF'))
