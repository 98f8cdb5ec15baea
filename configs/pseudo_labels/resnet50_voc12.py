_base_ = [
    '../_base_/models/resnet50_multi-label.py',
    '../_base_/datasets/voc12_pseudo_tags.py',
    '../_base_/schedules/multi-label_30e.py',
]
model = dict(data_preprocessor=dict(num_classes=20), head=dict(num_classes=20))
