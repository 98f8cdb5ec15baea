_base_ = './cls-seg_vit-base-p16_openai_coco-object.py'
model = dict(post_processor=dict(type='mmtagclip.DenseCRF'))
