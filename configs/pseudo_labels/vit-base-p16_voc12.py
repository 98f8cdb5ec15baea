_base_ = [
    '../_base_/models/vit-base-p16_multi-label.py',
    '../_base_/datasets/voc12_pseudo_tags.py',
    '../_base_/schedules/multi-label_adamw_5e.py',
]
model = dict(data_preprocessor=dict(num_classes=20), head=dict(num_classes=20))
