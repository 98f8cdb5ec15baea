_base_ = [
    '../_base_/models/itaclip_vit-base-p16_openai.py',
    '../_base_/datasets/voc21_direct.py',
    '../_base_/direct_seg_runtime.py',
]
model = dict(
    head=dict(
        classes='seg_voc_itaclip',
        background='seg_voc_background_itaclip',
        logit_scale=60.0,
        background_threshold=0.1,
        area_threshold=0.1,
        description_weight=0.05,
    ),
    views=dict(weight=0.7),
)
