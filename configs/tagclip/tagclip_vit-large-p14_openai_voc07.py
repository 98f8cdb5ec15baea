_base_ = [
    '../_base_/models/tagclip_vit-base-p16_openai.py',
    '../_base_/datasets/voc07_test.py',
    '../_base_/default_runtime.py',
]
# 24 blocks: layers 16 to 22 and 8 votes are the counterparts, chosen here, of
# the published 8 to 10 and 4 for 12 blocks.
model = dict(
    encoder=dict(model='ViT-L-14-quickgelu'),
    head=dict(dmar=dict(layers=(16, 17, 18, 19, 20, 21, 22), votes=8)),
    classes='voc',
    background='voc_background',
)
test_pipeline = _base_.test_pipeline
test_pipeline[1].patch_size = 14
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
