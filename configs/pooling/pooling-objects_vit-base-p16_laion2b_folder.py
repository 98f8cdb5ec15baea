# The same with objectness, from the pseudo masks of
# ../pseudo_labels/masks_vit-base-p16_openai_folder.py.
_base_ = './pooling_vit-base-p16_laion2b_folder.py'
work_dir = f'{_base_.out}/pooling-objects'
train_pipeline = _base_.train_pipeline
train_pipeline.insert(1, dict(type='LoadAnnotations'))
model = dict(encoder=dict(pooling=dict(objectness=True)))
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmtagclip.PseudoLabelDataset',
        labels=f'{_base_.out}/masks/pseudo_labels',
        dataset=dict(
            type='mmtagclip.VocabularySegDataset',
            classes=_base_.classes,
            img_suffix=None,
            data_prefix=dict(img_path=_base_.photos),
            pipeline=train_pipeline,
        ),
    )
)
