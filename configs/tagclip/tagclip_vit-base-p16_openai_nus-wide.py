_base_ = [
    '../_base_/models/tagclip_vit-base-p16_openai.py',
    '../_base_/datasets/nus-wide_test.py',
    '../_base_/default_runtime.py',
]
# The paper does not use NUS-WIDE; no background names, since its concepts
# hold sky, water, road and the like themselves.
model = dict(classes='nus_wide')
