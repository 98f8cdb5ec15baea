_base_ = [
    '../_base_/models/tagclip_vit-base-p16_openai.py',
    '../_base_/datasets/voc07_test.py',
    '../_base_/default_runtime.py',
]
# The baseline: plain CLIP's class token on the image at 224x224.
model = dict(
    head=dict(_delete_=True, type='mmtagclip.ClassTokenHead'),
    classes='voc',
    background='voc_background',
)
test_pipeline = _base_.test_pipeline
test_pipeline[1].size = (224, 224)
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
