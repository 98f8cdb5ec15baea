_base_ = [
    '../_base_/models/maskclip_vit-base-p16_openai.py',
    '../_base_/datasets/voc20_direct.py',
    '../_base_/direct_seg_runtime.py',
]
model = dict(head=dict(classes='seg_voc'))
test_pipeline = _base_.test_pipeline
test_pipeline[2].scale = (2048, 512)
test_pipeline.insert(3, dict(type='mmtagclip.ResizeToPatchGrid', patch_size=16))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
