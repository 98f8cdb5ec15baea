_base_ = [
    '../_base_/models/tagclip_vit-base-p16_openai.py',
    '../_base_/datasets/voc07_test.py',
    '../_base_/default_runtime.py',
]
model = dict(
    encoder=dict(model='ViT-B-16', pretrained='laion2b_s34b_b88k'),
    classes='voc',
    background='voc_background',
)
