# Made of published.yml by tools/dev/make_configs.py.
_base_ = './naclip_vit-base-p16_openai_pascal-context60.py'
model = dict(logit_processor=dict(type='mmtagclip.PAMR'))
