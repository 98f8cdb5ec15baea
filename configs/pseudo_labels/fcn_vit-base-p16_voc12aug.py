_base_ = [
    '../_base_/models/fcn_vit-base-p16.py',
    '../_base_/datasets/voc12aug_pseudo_masks.py',
    '../_base_/schedules/adamw_20k.py',
]
model = dict(decode_head=dict(num_classes=21))
