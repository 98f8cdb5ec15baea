_base_ = [
    '../_base_/models/piaa_vit-base-p16_openai.py',
    '../_base_/datasets/voc07_piaa.py',
    '../_base_/fit_runtime.py',
]
model = dict(
    encoder=dict(last_block=dict(type='mmtagclip.SCLIPLastBlock'), positions='bicubic_scale'),
    classes='voc',
)
