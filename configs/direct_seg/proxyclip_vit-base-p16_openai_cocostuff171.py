_base_ = [
    '../_base_/models/proxyclip_vit-base-p16_openai.py',
    '../_base_/datasets/cocostuff171_direct.py',
    '../_base_/direct_seg_runtime.py',
]
model = dict(head=dict(classes='seg_cocostuff'))
