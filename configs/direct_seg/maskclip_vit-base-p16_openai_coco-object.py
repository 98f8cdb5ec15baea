_base_ = [
    '../_base_/models/maskclip_vit-base-p16_openai.py',
    '../_base_/datasets/coco-object_direct.py',
    '../_base_/direct_seg_runtime.py',
]
# Not in the paper: words and thresholds are SCLIP's.
model = dict(
    head=dict(classes='seg_coco', background='seg_coco_background', background_threshold=0.1)
)
test_pipeline = _base_.test_pipeline
test_pipeline[2].scale = (2048, 512)
test_pipeline.insert(3, dict(type='mmtagclip.ResizeToPatchGrid', patch_size=16))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
