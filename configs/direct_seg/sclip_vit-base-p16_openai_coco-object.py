_base_ = [
    '../_base_/models/sclip_vit-base-p16_openai.py',
    '../_base_/datasets/coco-object_direct.py',
    '../_base_/direct_seg_runtime.py',
]
model = dict(
    head=dict(
        classes='seg_coco',
        background='seg_coco_background',
        logit_scale=50.0,
        background_threshold=0.1,
    )
)
