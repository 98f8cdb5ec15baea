# Trained on a folder of photographs and its pseudo tags. There are no true tags
# to evaluate on.
_base_ = '../pipelines/learn_tags.py'
_photos = dict(
    type='CustomDataset',
    with_label=False,
    extensions=('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff'),
)
train_dataloader = dict(
    dataset=dict(drop_untagged=True, dataset=dict(**_photos, pipeline=_base_.train_pipeline))
)
test_dataloader = dict(dataset=dict(**_photos, pipeline=_base_.test_pipeline, test_mode=True))
test_evaluator = []
