_base_ = [
    '../_base_/models/cls-seg_vit-base-p16_openai.py',
    '../_base_/datasets/coco-object_val.py',
    '../_base_/seg_runtime.py',
]
model = dict(
    tagger=dict(classes='coco', background='coco_background'),
    prompts='coco_clsseg',
    background_prompts='coco_background',
)
