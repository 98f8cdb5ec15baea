_base_ = [
    '../_base_/models/scclip_vit-base-p16_openai.py',
    '../_base_/datasets/voc20_direct.py',
    '../_base_/direct_seg_runtime.py',
]
model = dict(head=dict(classes='seg_voc'))
