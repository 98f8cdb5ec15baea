# Made of published.yml by tools/dev/make_configs.py.
_base_ = './naclip_vit-base-p16_openai_voc21.py'
model = dict(logit_processor=dict(type='mmtagclip.PAMR'))
