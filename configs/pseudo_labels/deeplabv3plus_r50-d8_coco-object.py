_base_ = [
    '../_base_/models/deeplabv3plus_r50-d8.py',
    '../_base_/datasets/coco-object_pseudo_masks.py',
    '../_base_/schedules/sgd_20k.py',
]
model = dict(decode_head=dict(num_classes=81), auxiliary_head=dict(num_classes=81))
