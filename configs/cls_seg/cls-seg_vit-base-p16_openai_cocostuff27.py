_base_ = [
    '../_base_/models/cls-seg_vit-base-p16_openai.py',
    '../_base_/datasets/cocostuff27_val.py',
    '../_base_/seg_runtime.py',
]
model = dict(
    tagger=dict(
        classes='cocostuff',
        head=dict(
            dmar=dict(layers=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)),
            cwr=dict(threshold=0.1),
            threshold=0.1,
        ),
    ),
    prompts='cocostuff_clsseg',
    background_prompts='cocostuff_clsseg_background',
    with_background=False,
    label_map='cocostuff_groups',
    groups='cocostuff27',
)
