_base_ = './naclip_vit-base-p16_openai_cityscapes.py'
model = dict(logit_processor=dict(type='mmtagclip.PAMR'))
