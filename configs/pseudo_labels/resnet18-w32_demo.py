# A thin ResNet-18 from random weights.
_base_ = [
    '../_base_/models/resnet50_multi-label.py',
    '../_base_/datasets/demo_pseudo_tags.py',
    '../_base_/schedules/multi-label_30e.py',
]
model = dict(
    data_preprocessor=dict(num_classes=50),
    backbone=dict(depth=18, stem_channels=32, base_channels=32, init_cfg=None),
    head=dict(in_channels=256, num_classes=50),
)
