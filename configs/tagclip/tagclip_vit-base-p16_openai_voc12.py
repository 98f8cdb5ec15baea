_base_ = [
    '../_base_/models/tagclip_vit-base-p16_openai.py',
    '../_base_/datasets/voc12_val.py',
    '../_base_/default_runtime.py',
]
model = dict(classes='voc', background='voc_background')
