_base_ = [
    '../_base_/models/cls-seg_vit-base-p16_openai.py',
    '../_base_/datasets/voc12_seg_val.py',
    '../_base_/seg_runtime.py',
]
model = dict(
    tagger=dict(classes='voc', background='voc_background'),
    prompts='voc_clsseg',
    background_prompts='voc_background',
    affinity=dict(layers=(4, 5, 6, 7, 8, 9, 10), box_threshold=0.4),
)
