_base_ = [
    '../_base_/models/cls-seg_vit-base-p16_openai.py',
    '../_base_/datasets/pascal-context60_val.py',
    '../_base_/seg_runtime.py',
]
# Not in the paper: the settings are those of COCO-Stuff.
model = dict(
    tagger=dict(
        classes='pascal_context',
        head=dict(
            dmar=dict(layers=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)),
            cwr=dict(threshold=0.1),
            threshold=0.1,
        ),
    ),
    background_prompts='cocostuff_clsseg_background',
)
