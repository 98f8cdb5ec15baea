# Any folder of images; see ../pseudo_labels/folder.py for the environment variables.
_base_ = [
    '../pseudo_labels/folder.py',
    '../_base_/pooling.py',
    '../_base_/backbones/vit-base-p16_laion2b.py',
]
work_dir = f'{_base_.out}/pooling'
model = dict(encoder=_base_.backbone.encoder)
train_dataloader = dict(
    dataset=dict(
        type='mmtagclip.ImageFolder', data_prefix=_base_.photos, pipeline=_base_.train_pipeline
    )
)
