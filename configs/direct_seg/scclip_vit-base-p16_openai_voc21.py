_base_ = [
    '../_base_/models/scclip_vit-base-p16_openai.py',
    '../_base_/datasets/voc21_direct.py',
    '../_base_/direct_seg_runtime.py',
]
model = dict(
    head=dict(
        classes='seg_voc',
        background='seg_voc_background',
        logit_scale=50.0,
        background_threshold=0.15,
        area_threshold=0.1,
    )
)
