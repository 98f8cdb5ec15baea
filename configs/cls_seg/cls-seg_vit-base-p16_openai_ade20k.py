_base_ = [
    '../_base_/models/cls-seg_vit-base-p16_openai.py',
    '../_base_/datasets/ade20k_val.py',
    '../_base_/seg_runtime.py',
]
# Not in the paper: the settings are those of COCO-Stuff.
model = dict(
    tagger=dict(
        classes='ade20k',
        head=dict(
            dmar=dict(layers=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)),
            cwr=dict(threshold=0.1),
            threshold=0.1,
        ),
    ),
    background_prompts='cocostuff_clsseg_background',
    with_background=False,
)
# Value 0 of its masks is no class.
tta_pipeline = _base_.tta_pipeline
tta_pipeline[2].transforms[3][0].reduce_zero_label = True
