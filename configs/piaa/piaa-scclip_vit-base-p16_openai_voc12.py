# Made of published.yml by tools/dev/make_configs.py.
_base_ = './piaa-sclip_vit-base-p16_openai_voc12.py'
model = dict(encoder=dict(last_block=dict(type='mmtagclip.SCCLIPLastBlock')))
