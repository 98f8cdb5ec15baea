# Step 2 of a folder of photographs: a classifier of the user's classes.
_base_ = [
    './folder.py',
    '../_base_/models/resnet50_multi-label.py',
    '../_base_/datasets/folder_pseudo_tags.py',
    '../_base_/schedules/multi-label_30e.py',
]
import mmtagclip.clip

work_dir = f'{_base_.out}/classifier'
num_classes = len(mmtagclip.clip.Vocabulary.load(_base_.classes))
model = dict(data_preprocessor=dict(num_classes=num_classes), head=dict(num_classes=num_classes))
train_dataloader = dict(
    dataset=dict(labels=f'{_base_.out}/tags/pseudo_labels', dataset=dict(data_prefix=_base_.photos))
)
test_dataloader = dict(dataset=dict(data_prefix=_base_.photos))
train_cfg = dict(val_interval=31)
val_cfg = None
