_base_ = [
    '../_base_/models/segformer_mit-b0.py',
    '../_base_/datasets/coco-object_pseudo_masks.py',
    '../_base_/schedules/adamw_20k.py',
]
model = dict(decode_head=dict(num_classes=81))
