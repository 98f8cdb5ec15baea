# Trained on a folder of photographs and its pseudo masks. There are no true
# masks to evaluate on: tools/test.py --show-dir draws what the segmentor sees.
_base_ = '../pipelines/learn_masks.py'
test_pipeline = _base_.test_pipeline
test_pipeline.pop(2)  # the annotations
train_pipeline = _base_.train_pipeline
train_pipeline[0] = test_pipeline[0] = dict(type='mmtagclip.LoadImage')
train_dataloader = dict(
    dataset=dict(drop_untagged=True, dataset=dict(img_suffix=None, pipeline=train_pipeline))
)
test_dataloader = dict(dataset=dict(img_suffix=None, pipeline=test_pipeline))
test_evaluator = []
