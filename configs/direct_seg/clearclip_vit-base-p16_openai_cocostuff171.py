_base_ = [
    '../_base_/models/clearclip_vit-base-p16_openai.py',
    '../_base_/datasets/cocostuff171_direct.py',
    '../_base_/direct_seg_runtime.py',
]
model = dict(head=dict(classes='seg_cocostuff'))
test_pipeline = _base_.test_pipeline
test_pipeline[2].scale = (2048, 448)
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
