_base_ = [
    '../_base_/models/itaclip_vit-base-p16_openai.py',
    '../_base_/datasets/ade20k_direct.py',
    '../_base_/direct_seg_runtime.py',
]
# Not in the paper: settings are those of COCO-Stuff.
model = dict(head=dict(classes='seg_ade20k'))
