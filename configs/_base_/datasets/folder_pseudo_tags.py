# Trained on a folder of photographs and its pseudo tags. There are no true tags
# to evaluate on.
_base_ = '../pipelines/learn_tags.py'
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[0] = test_pipeline[0] = dict(type='mmtagclip.LoadImage')
train_dataloader = dict(
    dataset=dict(
        drop_untagged=True, dataset=dict(type='mmtagclip.ImageFolder', pipeline=train_pipeline)
    )
)
test_dataloader = dict(
    dataset=dict(type='mmtagclip.ImageFolder', pipeline=test_pipeline, test_mode=True)
)
test_evaluator = []
