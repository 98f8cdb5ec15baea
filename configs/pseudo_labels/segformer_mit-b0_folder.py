# Step 2 of a folder of photographs: a segmentor of the user's classes.
_base_ = [
    './folder.py',
    '../_base_/models/segformer_mit-b0.py',
    '../_base_/datasets/folder_pseudo_masks.py',
    '../_base_/schedules/adamw_20k.py',
]
import mmtagclip.clip

work_dir = f'{_base_.out}/segmentor'
num_classes = 1 + len(mmtagclip.clip.Vocabulary.load(_base_.classes))
model = dict(decode_head=dict(num_classes=num_classes))
train_dataloader = dict(
    dataset=dict(
        labels=f'{_base_.out}/masks/pseudo_labels',
        dataset=dict(classes=_base_.classes, data_prefix=dict(img_path=_base_.photos)),
    )
)
test_dataloader = dict(
    dataset=dict(classes=_base_.classes, data_prefix=dict(img_path=_base_.photos))
)
train_cfg = dict(val_interval=20001)
val_cfg = None
