_base_ = [
    '../_base_/models/piaa_vit-base-p16_openai.py',
    '../_base_/datasets/nus-wide_piaa.py',
    '../_base_/fit_runtime.py',
]
model = dict(
    encoder=dict(last_block=dict(type='mmtagclip.SCLIPLastBlock'), positions='bicubic_scale'),
    head=dict(
        scorer=dict(clean_temperature=500.0), class_token_temperature=10.0, patch_temperature=400.0
    ),
    classes='nus_wide',
)
