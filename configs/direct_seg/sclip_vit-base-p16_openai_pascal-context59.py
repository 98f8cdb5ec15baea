_base_ = [
    '../_base_/models/sclip_vit-base-p16_openai.py',
    '../_base_/datasets/pascal-context59_direct.py',
    '../_base_/direct_seg_runtime.py',
]
model = dict(head=dict(classes='pascal_context'))
