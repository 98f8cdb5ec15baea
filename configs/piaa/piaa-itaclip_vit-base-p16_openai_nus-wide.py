# Made of published.yml by tools/dev/make_configs.py.
_base_ = './piaa-sclip_vit-base-p16_openai_nus-wide.py'
model = dict(encoder=dict(last_block=dict(type='mmtagclip.ITACLIPLastBlock')))
